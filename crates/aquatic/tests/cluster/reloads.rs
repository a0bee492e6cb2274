//! Settings that change while a node runs.

use aquatic_test_support::nats::{self, NatsServer};

use super::setup::{Kind, Node};

/// The server keeps no log, so the tracker says until when it knows everybody nevertheless: within
/// the refresh interval (256 s over UDP, 512 s over HTTP) and an announce interval, or for
/// browsers, within two cleanings.
#[test]
fn how_long_what_is_shared_lives_can_be_changed() {
    if !nats::is_there() {
        return;
    }
    for (kind, line, seconds) in [
        (Kind::Udp, "protocol.peer_announce_interval = 300", 556),
        (Kind::Http, "protocol.peer_announce_interval = 300", 812),
        (
            Kind::WebTorrent,
            "cleaning.torrent_cleaning_interval = 300",
            600,
        ),
        (
            Kind::All,
            "ws.cleaning.torrent_cleaning_interval = 700",
            1_400,
        ),
    ] {
        let mut server = NatsServer::stopped("");
        let node = Node::new(kind, "a", &server);
        let tracker = node.start();
        node.with(line).configure();
        tracker.reload();
        server.go_on();
        tracker.wait_for_warning(
            "the log of the cluster cannot be read",
            &format!("what was missed comes within {seconds} s, as peers announce"),
        );
    }
}

//! Peers that no longer announce disappear, and torrents without peers with them.

use std::time::Duration;

use aquatic_daemon::clock::Clock;
use aquatic_test_support::torrent;
use aquatic_test_support::wait::until;
use aquatic_types::IpFamily;

use super::client::Client;
use super::setup::on_every_setup;

const LEECHER: u64 = 1;

/// The shortest that the configuration allows.
const SETTINGS: &str = "protocol.peer_announce_interval = 1\ncleaning.max_peer_age = 2\n\
                        cleaning.torrent_cleaning_interval = 1\n";

#[test]
fn an_old_peer_is_not_handed_out_once_it_is_forgotten() {
    on_every_setup(|setup| {
        let daemon = setup.start(SETTINGS);
        let mut client = Client::new(&daemon, IpFamily::V4);
        let clock = Clock::start();
        client.join(torrent(1), 1, LEECHER);
        let ports = client.join(torrent(1), 2, LEECHER).ports;
        // Otherwise the first one may have been forgotten.
        if clock.elapsed() < Duration::from_secs(1) {
            assert_eq!(ports, [1]);
        }
        until("the first peer is forgotten", || {
            let answer = client.join(torrent(1), 2, LEECHER);
            assert_eq!(answer.leechers as usize, 1 + answer.ports.len());
            answer.ports.is_empty().then_some(())
        });
    });
}

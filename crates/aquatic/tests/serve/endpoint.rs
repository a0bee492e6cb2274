//! The operator's endpoint of several protocols: what is done there is done for all.

use aquatic_test_support::metrics;
use aquatic_test_support::operations::operator_endpoint::{TOKEN, ask, write_token};
use aquatic_test_support::{Place, torrent};
use aquatic_types::{AnnounceEvent, IpFamily};

use super::setup::{Client, Combination, Http, SIMPLE, Udp, metrics_settings};

const V4: IpFamily = IpFamily::V4;

fn settings(place: &Place) -> String {
    write_token(place, TOKEN);
    place.write("list", "");
    format!(
        "{}metrics.endpoint_token_file = 'token'\naccess_list.mode = 'deny'\n\
         access_list.path = 'list'\n",
        metrics_settings(place)
    )
}

/// By the next request, whatever its protocol.
#[test]
fn a_changed_list_holds_for_all_protocols() {
    let place = Place::new();
    let more = settings(&place);
    let daemon = SIMPLE.start_in(place, &more);
    assert_eq!(
        ask(&daemon, "GET", "/health", ""),
        (200, "ready\n".to_owned())
    );
    let (mut udp, mut http) = (Udp::new(&daemon, V4), Http::new(&daemon, V4));
    let mut served = |number| {
        let clients: [&mut dyn Client; 2] = [&mut udp, &mut http];
        clients.map(|client| {
            let answer = client.announce(torrent(number), 1, 1, AnnounceEvent::None);
            answer.is_ok()
        })
    };
    assert_eq!(served(1), [true, true]);
    let body = format!("{{\"add\": \"{}\", \"write\": true}}", torrent(1));
    let (status, told) = ask(&daemon, "POST", "/access-list", &body);
    assert_eq!(status, 200, "{told}");
    assert_eq!(served(1), [false, false]);
    assert_eq!(served(2), [true, true]);
    assert_eq!(daemon.place.read("list"), format!("{}\n", torrent(1)));
    let samples = metrics::scrape(&daemon);
    assert_eq!(metrics::sum(&samples, "aquatic_access_list_entries"), 1.0);
}

/// Keys of one protocol, and of all.
#[test]
fn a_reload_says_what_came_of_it() {
    let place = Place::new();
    let more = settings(&place);
    let daemon = SIMPLE.start_in(place, &more);
    let change = |combination: Combination, last: &str| {
        let text = combination.settings(&daemon.place, &format!("{more}{last}"));
        daemon.place.write("config.toml", text);
        ask(&daemon, "POST", "/reload", "")
    };
    let (status, told) = change(
        SIMPLE,
        "http.protocol.max_peers = 7\nlimits.max_torrents = 9\n",
    );
    assert_eq!(status, 200, "{told}");
    for key in ["http.protocol.max_peers", "limits.max_torrents"] {
        assert!(told.contains(&format!("{{\"key\":\"{key}\",")), "{told}");
    }
    let (status, told) = change(SIMPLE, "limits.max_torrents = -1\n");
    assert_eq!(status, 422, "{told}");
    assert!(told.contains("`limits.max_torrents`"), "{told}");
}

//! One swarm for UDP and HTTP.

use aquatic_test_support::setup::on_each;
use aquatic_test_support::{Place, torrent};
use aquatic_types::{AnnounceEvent, IpFamily};
use nix::sys::signal::Signal;

use super::setup::{Answer, Client, Combination, Http, SIMPLE, Udp};

/// So many torrents are spread over all shards.
const TORRENTS: u32 = 24;

/// Who comes over one protocol is told of whoever came over the other one.
#[test]
fn peers_of_both_protocols_meet() {
    on_each(&Combination::all(), |combination| {
        let daemon = combination.start("");
        for family in IpFamily::ALL {
            let mut udp = Udp::new(&daemon, family);
            let mut http = Http::new(&daemon, family);
            for number in 0..TORRENTS {
                // An HTTP client of one family hears of both.
                let torrent = torrent(1_000 * number + u32::from(family == IpFamily::V6));
                let (first, second): (&mut dyn Client, &mut dyn Client) = match number % 2 {
                    0 => (&mut udp, &mut http),
                    _ => (&mut http, &mut udp),
                };
                let alone = first.join(torrent, 1, 0);
                assert_eq!(alone.ports, [0; 0], "{combination}");
                let told = second.join(torrent, 2, 5);
                let expected = Answer {
                    seeders: 1,
                    leechers: 1,
                    ports: vec![1],
                };
                assert_eq!(told, expected, "{combination}");
                assert_eq!(first.join(torrent, 1, 0).ports, [2], "{combination}");
                for client in [first, second] {
                    assert_eq!(client.scrape(torrent), [1, 0, 1], "{combination}");
                }
            }
        }
    });
}

/// A client that tries both trackers of a tier is one peer, and has finished one download.
#[test]
fn one_address_is_one_peer_over_both_protocols() {
    on_each(&Combination::all(), |combination| {
        let daemon = combination.start("");
        for family in IpFamily::ALL {
            let mut udp = Udp::new(&daemon, family);
            let mut http = Http::new(&daemon, family);
            for number in 0..TORRENTS {
                let torrent = torrent(1_000 * number + u32::from(family == IpFamily::V6));
                udp.join(torrent, 1, 5);
                http.join(torrent, 1, 5);
                assert_eq!(udp.scrape(torrent), [0, 0, 1], "{combination}");
                let completed = AnnounceEvent::Completed;
                http.announce(torrent, 1, 0, completed).unwrap();
                udp.announce(torrent, 1, 0, completed).unwrap();
                assert_eq!(http.scrape(torrent), [1, 1, 0], "{combination}");
                let told = http.announce(torrent, 1, 0, AnnounceEvent::Stopped);
                assert_eq!(told.unwrap().seeders, 0, "{combination}");
                assert_eq!(udp.scrape(torrent), [0, 1, 0], "{combination}");
            }
        }
    });
}

/// The file does not know over which protocol a peer has come.
#[test]
fn swarms_outlive_a_restart_for_both_protocols() {
    on_each(&Combination::all(), |combination| {
        let place = Place::new();
        let file = place.path("swarms.aqs");
        let settings = format!("persistence.swarms = true\npersistence.path = {file:?}");
        let mut before = combination.start_in(place, &settings);
        for number in 0..TORRENTS {
            Udp::new(&before, IpFamily::V4).join(torrent(number), 1, 0);
            Http::new(&before, IpFamily::V4).join(torrent(number), 2, 5);
        }
        before.signal(Signal::SIGTERM);
        assert!(before.wait_exit().success(), "{}", before.place.log());

        let after = SIMPLE.start(&settings);
        after.wait_for_log(&format!("restored {} peers", 2 * TORRENTS));
        for number in 0..TORRENTS {
            let answer = Udp::new(&after, IpFamily::V4).join(torrent(number), 3, 5);
            assert_eq!(answer.ports, [1, 2], "{combination}");
        }
    });
}

/// Each protocol tells its clients when to come again, and waits for them as long.
#[test]
fn peers_live_as_long_as_their_protocol_says() {
    let daemon = SIMPLE.start(
        "udp.protocol.peer_announce_interval = 1\nudp.cleaning.max_peer_age = 2\n\
         udp.cleaning.torrent_cleaning_interval = 1\nhttp.cleaning.torrent_cleaning_interval = 1",
    );
    let mut udp = Udp::new(&daemon, IpFamily::V4);
    let mut http = Http::new(&daemon, IpFamily::V4);
    udp.join(torrent(1), 1, 0);
    http.join(torrent(1), 2, 0);
    aquatic_test_support::wait::until("the peer of UDP is forgotten", || {
        (udp.scrape(torrent(1)) == [1, 0, 0]).then_some(())
    });
    assert_eq!(http.join(torrent(1), 3, 5).ports, [2]);
}

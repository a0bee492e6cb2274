//! Peers that no longer announce disappear, and torrents without peers with them.

use aquatic_types::IpFamily;

use super::client::{Client, row, torrent, torrents};
use super::daemon::{Place, until};
use super::metrics;
use super::setup::on_every_setup;

const SEEDER: u64 = 0;
const LEECHER: u64 = 1;

/// The shortest that the configuration allows.
const SETTINGS: &str = "protocol.peer_announce_interval = 1\ncleaning.max_peer_age = 2\n\
                        cleaning.torrent_cleaning_interval = 1\n";

#[test]
fn silent_peers_are_forgotten_and_the_others_stay() {
    on_every_setup(|setup| {
        let place = Place::new();
        let settings = format!("{SETTINGS}{}", place.metrics_settings());
        let daemon = place.start(setup, &settings);
        let mut clients = IpFamily::ALL.map(|family| Client::new(&daemon, family));
        let all: Vec<_> = torrents().collect();
        for client in &mut clients {
            for info_hash in &all {
                client.join(*info_hash, 1, LEECHER);
                client.join(*info_hash, 2, SEEDER);
            }
            assert_eq!(client.scrape(&all), vec![row(1, 0, 1); all.len()]);
        }
        // Two peers of the first torrent go on announcing.
        until("all others are forgotten", || {
            let mut forgotten = true;
            for client in &mut clients {
                client.join(all[0], 1, LEECHER);
                client.join(all[0], 3, LEECHER);
                let rows = client.scrape(&all);
                assert_eq!(rows[0].leechers, 2, "who announces stays");
                forgotten &= rows[0].seeders == 0;
                forgotten &= rows[1..].iter().all(|others| *others == row(0, 0, 0));
            }
            let samples = metrics::scrape(&daemon);
            let torrents_left = metrics::sum(&samples, "aquatic_torrents");
            let peers_left = metrics::sum(&samples, "aquatic_peers");
            (forgotten && torrents_left == 2.0 && peers_left == 4.0).then_some(())
        });
    });
}

#[test]
fn an_old_peer_is_not_handed_out_once_it_is_forgotten() {
    on_every_setup(|setup| {
        let daemon = setup.start(SETTINGS);
        let mut client = Client::new(&daemon, IpFamily::V4);
        client.join(torrent(1), 1, LEECHER);
        assert_eq!(client.join(torrent(1), 2, LEECHER).ports, [1]);
        until("the first peer is forgotten", || {
            let answer = client.join(torrent(1), 2, LEECHER);
            assert_eq!(answer.leechers as usize, 1 + answer.ports.len());
            answer.ports.is_empty().then_some(())
        });
    });
}

//! Peers of which nothing is heard disappear, and torrents without peers with them.

use std::time::Duration;

use aquatic_daemon::clock::Clock;
use aquatic_types::IpFamily;

use super::torrent_of;
use crate::setup::on_every_setup;
use crate::wait::until;
use crate::{Program, metrics, torrents};

/// The shortest that the configuration allows.
const SETTINGS: &str = "protocol.peer_announce_interval = 1\ncleaning.max_peer_age = 2\n\
                        cleaning.torrent_cleaning_interval = 1\n";

/// For so long, whoever has announced is there: less than a peer's age, by clocks of whole seconds.
const FRESH: Duration = Duration::from_secs(1);

/// Two peers of the first torrent go on announcing, and of all others nothing is heard: each has a
/// port, and with it perhaps a connection, of its own.
pub fn silent_peers_are_forgotten_and_the_others_stay(program: &'static Program) {
    on_every_setup(program, |setup| {
        let daemon = setup.start_with_metrics(SETTINGS);
        let mut clients = IpFamily::ALL.map(|family| {
            let hashes: Vec<_> = (0..)
                .zip(torrents())
                .map(|(number, _)| torrent_of(family, number))
                .collect();
            (hashes, program.client_of(&daemon, family))
        });
        for (hashes, client) in &mut clients {
            let clock = Clock::start();
            for (info_hash, number) in hashes.iter().zip(0_u16..) {
                client.join(*info_hash, 2 * number + 1).unwrap();
                client.join(*info_hash, 2 * number + 2).unwrap();
            }
            let leechers = client.leechers(hashes);
            if clock.elapsed() < FRESH {
                assert_eq!(leechers, vec![2; hashes.len()]);
            }
        }
        until("all others are forgotten", || {
            let mut forgotten = true;
            for (hashes, client) in &mut clients {
                let clock = Clock::start();
                client.join(hashes[0], 1).unwrap();
                client.join(hashes[0], 1_000).unwrap();
                let leechers = client.leechers(hashes);
                let is_late = clock.elapsed() >= FRESH;
                assert!(leechers[0] >= 2 || is_late, "who announces stays");
                forgotten &= leechers[0] == 2;
                forgotten &= leechers[1..].iter().all(|others| *others == 0);
            }
            let samples = metrics::scrape(&daemon);
            let torrents_left = metrics::sum(&samples, "aquatic_torrents");
            let peers_left = metrics::sum(&samples, "aquatic_peers");
            (forgotten && torrents_left == 2.0 && peers_left == 4.0).then_some(())
        });
    });
}

//! Swarms that fill the memory, and the books of those that had to give way.

use std::net::Ipv4Addr;

use aquatic_config::MemoryLimit;
use aquatic_ws::config::Config;
use aquatic_ws::counters::Reason;

use super::town::{Town, announce};

/// Torrents of a connection.
const TORRENTS: usize = 100;

/// Whoever had to give way is not counted any more, wherever its connection is: else it could not
/// come back, and its book would take memory that nobody knows of.
#[test]
fn who_had_to_give_way_leaves_the_book_of_its_connection() {
    for (socket_workers, swarm_workers) in [(1, 0), (2, 0), (2, 1)] {
        let mut config = Config {
            socket_workers,
            swarm_workers,
            ..Config::default()
        };
        config.protocol.max_torrents_per_connection = TORRENTS;
        config.limits.connections.tracker.max_swarm_memory = MemoryLimit::Bytes(1 << 20);
        let mut town = Town::new(&config);
        // One address has many torrents, until there is no room for more.
        let mut heavy = Vec::new();
        let mut torrent = 0;
        while town.count(Reason::MemoryLimit) == 0 {
            let name = town.come_from(socket_workers - 1, [198, 51, 100, 1].into());
            for _ in 0..TORRENTS {
                town.ask(name, &announce(name, torrent));
                torrent += 1;
            }
            heavy.push(name);
            town.pass_time(0);
            assert!(heavy.len() < 200, "there is no bound");
        }
        // Others come, for whom some of them give way.
        for number in 0..500_u32 {
            let ip = Ipv4Addr::from(0x0a00_0000 + number);
            let name = town.come_from(0, ip.into());
            town.ask(
                name,
                &announce(name, 100_000 + usize::try_from(number).unwrap()),
            );
        }
        town.rest();
        for name in heavy.iter().rev().skip(1).take(5) {
            torrent += 1;
            town.ask(*name, &announce(*name, torrent));
        }
        assert_eq!(town.count(Reason::TorrentsPerConnection), 0);
    }
}

/// The attack: fill the memory in one burst, so that nobody has counted whose peers fill it.
#[test]
fn a_burst_of_one_address_keeps_nobody_out() {
    for swarm_workers in [0, 1] {
        let mut config = Config {
            swarm_workers,
            ..Config::default()
        };
        config.limits.connections.tracker.max_swarm_memory = MemoryLimit::Bytes(4 << 20);
        let mut town = Town::new(&config);
        let attackers: Vec<_> = (0..40)
            .map(|_| town.come_from(0, [198, 51, 100, 1].into()))
            .collect();
        for (number, attacker) in attackers.iter().enumerate() {
            let announces = (0..999).map(|torrent| announce(*attacker, number * 1_000 + torrent));
            let announces: Vec<_> = announces.map(|it| it.to_string()).collect();
            let announces: Vec<_> = announces.iter().map(String::as_str).collect();
            town.send_together(*attacker, &announces);
        }
        town.rest();
        assert!(town.count(Reason::MemoryLimit) > 1_000, "there is room");
        let refused = town.count(Reason::MemoryLimit);
        for number in 0..200_u32 {
            let ip = Ipv4Addr::from(0x0a00_0000 + number);
            let name = town.come_from(0, ip.into());
            let torrent = 100_000 + usize::try_from(number).unwrap();
            town.ask(name, &announce(name, torrent));
        }
        let refused = town.count(Reason::MemoryLimit) - refused;
        assert!(refused <= 2, "{refused} of 200 newcomers were refused");
    }
}

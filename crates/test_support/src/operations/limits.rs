//! Bounds on what strangers can make the tracker hold.

use aquatic_types::IpFamily;

use super::torrent_of;
use crate::program::loopback;
use crate::setup::on_every_setup;
use crate::{Client, Program, Setup, metrics};

/// Whether a peer may join; if not, it is told so in these words.
#[track_caller]
fn joins(
    client: &mut dyn Client,
    (family, number): (IpFamily, u32),
    port: u16,
    refusal: &str,
) -> bool {
    let answer = client.join(torrent_of(family, number), port);
    if let Err(reason) = &answer {
        assert_eq!(reason, refusal);
    }
    answer.is_ok()
}

fn refused(reason: &str, family: IpFamily) -> String {
    let ip_version = family.digit();
    format!("aquatic_refused_total{{reason={reason},ip_version={ip_version}}}")
}

/// `limits.max_torrents`, for each family.
pub fn torrents_are_limited(program: &'static Program) {
    const MAX: u32 = 12;
    const ASKED: u32 = 100;
    let refusal = "tracker is full: no new torrents for now";
    on_every_setup(program, |setup| {
        let daemon = setup.start_with_metrics(&format!("limits.max_torrents = {MAX}"));
        for family in program.swarm_families() {
            let family = *family;
            let mut client = program.client_of(&daemon, family);
            let client = &mut *client;
            let admitted: Vec<_> = (0..ASKED)
                .filter(|number| joins(client, (family, *number), 1, refusal))
                .collect();
            assert_eq!(admitted.len(), MAX as usize);
            // Others may join these, and only these.
            for number in 0..ASKED {
                let expected = admitted.contains(&number);
                assert_eq!(joins(client, (family, number), 2, refusal), expected);
                let leechers = if expected { 2 } else { 0 };
                assert_eq!(client.leechers(&[torrent_of(family, number)]), [leechers]);
            }
        }
        let count = 2.0 * f64::from(ASKED - MAX);
        for family in program.swarm_families() {
            let torrents = format!("aquatic_torrents{{ip_version={}}}", family.digit());
            let refused = refused("torrent_limit", *family);
            metrics::wait_for(&daemon, &[(&refused, count), (&torrents, f64::from(MAX))]);
        }
    });
}

/// `limits.max_peers`, for each family.
pub fn peers_are_limited(program: &'static Program) {
    const MAX: u16 = 12;
    const ASKED: u16 = 40;
    let refusal = "tracker is full: no new peers for now";
    on_every_setup(program, |setup| {
        let daemon = setup.start_with_metrics(&format!("limits.max_peers = {MAX}"));
        let share = usize::from(MAX) / setup.shards();
        for family in IpFamily::ALL {
            let mut client = program.client_of(&daemon, family);
            let client = &mut *client;
            // One swarm fills the share of its shard.
            let admitted = (1..=ASKED)
                .filter(|port| joins(client, (family, 1), *port, refusal))
                .count();
            assert_eq!(admitted, share);
            // Who is in may stay; who leaves makes room.
            assert!(joins(client, (family, 1), 1, refusal));
            client.leave(torrent_of(family, 1), 1);
            assert!(joins(client, (family, 1), ASKED, refusal));
            assert!(!joins(client, (family, 1), 1, refusal));
        }
        let count = f64::from(ASKED + 1) - f64::from(u32::try_from(share).unwrap());
        metrics::wait_for(
            &daemon,
            &[
                (&refused("peer_limit", IpFamily::V4), count),
                (&refused("peer_limit", IpFamily::V6), count),
            ],
        );
    });
}

/// `limits.max_swarm_memory`: one address announces more torrents than there is room for, and those
/// of another address, which were there before or come meanwhile, are served and stay.
pub fn memory_is_limited(program: &'static Program) {
    const FLOOD: u32 = 2_000;
    // As many as a client of WebTorrent may have over one connection.
    const AT_ONCE: u32 = 500;
    const HONEST: u32 = 25;
    let refusal = "tracker is out of memory: nothing new for now";
    let family = IpFamily::V4;
    // A peer of WebTorrent counts for several times as much, with what it may have to answer.
    let bound = match program.shares_swarms {
        true => "limits.max_swarm_memory = \"96 KiB\"",
        false => "limits.max_swarm_memory = \"64 KiB\"",
    };
    on_every_setup(program, |setup| {
        let daemon = setup.start_with_metrics(bound);
        let tracker = daemon.address(family);
        let mut honest = (program.client)(loopback(2), tracker);
        let honest = &mut *honest;
        assert!(joins(honest, (family, 0), 1, refusal));
        let (mut served, mut clients) = (0, Vec::new());
        for number in 0..FLOOD {
            if number % AT_ONCE == 0 {
                clients.push((program.client)(loopback(1), tracker));
            }
            if let Some(client) = clients.last_mut() {
                let torrent = (family, 1_000 + number);
                served += u32::from(joins(&mut **client, torrent, 1, refusal));
            }
            let newcomer = number / (FLOOD / HONEST);
            if number % (FLOOD / HONEST) == 0 {
                let is_served = joins(honest, (family, newcomer), 1, refusal);
                assert!(is_served, "newcomer {newcomer}, {served} of the flood");
            }
        }
        assert!(served * 4 <= FLOOD * 3, "{served} of the flood are served");
        for number in 0..HONEST {
            let leechers = honest.leechers(&[torrent_of(family, number)]);
            assert_eq!(leechers, [1], "honest torrent {number} stays");
        }
        let refusals = f64::from(FLOOD - served);
        metrics::wait_for(&daemon, &[(&refused("memory_limit", family), refusals)]);
        let evicted = metrics::sum(&metrics::scrape(&daemon), "aquatic_evicted_peers_total");
        assert!(evicted > 0.0);
        daemon.wait_for_warning(
            "announces of new peers refused, since memory is used up: ",
            "see `limits.max_swarm_memory`",
        );
    });
}

/// `limits.max_peers_per_ip`, over all torrents, wherever they are.
pub fn peers_of_an_address_are_limited(program: &'static Program) {
    let refusal = "too many peers from your address";
    on_every_setup(program, |setup| {
        let daemon = setup.start_with_metrics("limits.max_peers_per_ip = 5");
        for family in IpFamily::ALL {
            let mut client = program.client_of(&daemon, family);
            let client = &mut *client;
            let joined = |client: &mut dyn Client| {
                (0..20)
                    .filter(|number| joins(client, (family, *number), 1, refusal))
                    .count()
            };
            assert_eq!(joined(client), 5);
            assert_eq!(joined(client), 5, "the same ones");
            (0..20).for_each(|number| client.leave(torrent_of(family, number), 1));
            assert!(joins(client, (family, 19), 1, refusal), "there is room");
        }
        let tracker = daemon.address(IpFamily::V4);
        let mut other = (program.client)(loopback(2), tracker);
        let has_its_own =
            (0..5).all(|number| joins(&mut *other, (IpFamily::V4, number), 1, refusal));
        assert!(has_its_own, "another address");
        metrics::wait_for(
            &daemon,
            &[
                (&refused("peers_per_ip", IpFamily::V4), 30.0),
                (&refused("peers_per_ip", IpFamily::V6), 30.0),
            ],
        );
    });
}

/// Once for each limit, with the key that sets it.
pub fn who_is_turned_away_is_told_in_the_log(program: &'static Program) {
    for (key, what) in [
        ("limits.max_torrents", "announces of new torrents refused: "),
        ("limits.max_peers", "announces of new peers refused: "),
        (
            "limits.max_peers_per_ip",
            "announces refused, whose client has too many peers: ",
        ),
    ] {
        on_every_setup(program, |setup| {
            let daemon = setup.start(&format!("{key} = 1"));
            let mut client = program.client_of(&daemon, IpFamily::V4);
            let turned_away = (0..20).filter(|number| {
                let torrent = torrent_of(IpFamily::V4, number % 10);
                client
                    .join(torrent, u16::try_from(number / 10 + 1).unwrap())
                    .is_err()
            });
            assert!(turned_away.count() > 0);
            daemon.wait_for_warning(what, &format!("see `{key}`"));
        });
    }
}

/// Strangers cannot fill the machine of an operator who has configured nothing.
pub fn memory_is_bounded_by_default(program: &'static Program) {
    let daemon = Setup::simple(program).start("");
    let line = daemon.wait_for_log("`limits.max_swarm_memory` = \"50%\": ");
    assert!(line.contains(" bytes, of "), "{line}");
}

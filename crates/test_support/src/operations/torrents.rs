//! What an operator is told about torrents, at the endpoint and in a file.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use aquatic_types::{InfoHash, IpFamily};
use serde_json::{Value, json};

use crate::connection::{Answer, Connection, Transport};
use crate::operations::operator_endpoint;
use crate::program::localhost;
use crate::setup::on_every_setup;
use crate::wait::until;
use crate::{Client, Daemon, Place, Program, Setup, torrent};

/// What the endpoint says: status and JSON.
fn get(daemon: &Daemon, path: &str) -> (u16, Value) {
    let answer = get_page(daemon, path);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let value = serde_json::from_slice(&answer.body).unwrap();
    (answer.status, value)
}

fn get_page(daemon: &Daemon, path: &str) -> Answer {
    let (ip, to) = (localhost(IpFamily::V4), daemon.place.metrics_address());
    let mut endpoint = Connection::open(ip, to, Transport::Plain);
    endpoint.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    endpoint.answer()
}

/// What the endpoint says, when workers have had the time to answer: status and JSON.
#[must_use]
pub fn get_in_time(daemon: &Daemon, path: &str) -> (u16, Value) {
    until("workers answer", || {
        let (status, value) = get(daemon, path);
        (status != 503).then_some((status, value))
    })
}

fn single(daemon: &Daemon, torrent: InfoHash) -> (u16, Value) {
    get_in_time(daemon, &format!("/torrents/{torrent}"))
}

/// Torrents 1, 2, ... of so many peers: the first ones of IPv4 have most, and two of the last have
/// as many as the last of all. They are there as long as their clients.
fn fill(daemon: &Daemon, program: &Program, torrents: u32) -> [Box<dyn Client>; 2] {
    IpFamily::ALL.map(|family| {
        let mut client = program.client_of(daemon, family);
        for number in 1..=torrents {
            let peers = match family {
                IpFamily::V4 => (torrents + 1 - number).max(3),
                IpFamily::V6 => 1,
            };
            for port in 1..=peers {
                client
                    .join(torrent(number), u16::try_from(port).unwrap())
                    .unwrap();
            }
        }
        client
    })
}

/// What is said of a torrent of these peers.
fn counts(program: &Program, v4: u32, v6: u32) -> Value {
    let of = |leechers| json!({"seeders": 0, "leechers": leechers, "completed": 0});
    let mut counts = of(v4 + v6);
    if program.shares_swarms {
        counts["protocol"] = "webtorrent".into();
    } else {
        counts["protocol"] = "bittorrent".into();
        counts["ipv4"] = of(v4);
        counts["ipv6"] = of(v6);
    }
    counts
}

/// Wherever workers have them, and whether they are asleep or have something to do.
pub fn the_largest_torrents_are_listed(program: &'static Program) {
    on_every_setup(program, |setup| {
        let daemon = setup.start_with_metrics("");
        let empty = get_in_time(&daemon, "/torrents?sort=leechers").1;
        assert_eq!(empty["torrents"], json!([]));
        let _clients = fill(&daemon, program, 9);
        let (status, list) = get_in_time(&daemon, "/torrents?top=8");
        assert_eq!((status, &list["sort"]), (200, &json!("peers")));
        let expected = (1..=6).map(|number| (number, 10 - number));
        // Those that are equal come in the order of their info hashes.
        let mut equal = [7, 8, 9].map(|number| (torrent(number), number));
        equal.sort_unstable();
        let expected = expected.chain(equal.into_iter().map(|(_, number)| (number, 3)));
        let expected: Vec<_> = expected
            .take(8)
            .map(|(number, v4)| {
                let mut row = counts(program, v4, 1);
                row["info_hash"] = torrent(number).to_string().into();
                row
            })
            .collect();
        assert_eq!(list["torrents"], json!(expected), "{setup}");
        assert!(list["age_seconds"].is_f64() && list["walk_seconds"].is_f64());
    });
}

/// Of a torrent that is told of while its tracker serves others.
pub fn a_torrent_is_shown_while_others_are_served(program: &'static Program) {
    on_every_setup(program, |setup| {
        let daemon = setup.start_with_metrics("");
        let _clients = fill(&daemon, program, 4);
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut client = program.client_of(&daemon, IpFamily::V4);
                while !is_over.load(Ordering::Relaxed) {
                    client.leechers(&[torrent(1), torrent(2)]);
                }
            });
            for number in [1, 2, 3, 4, 1, 2] {
                let (status, shown) = single(&daemon, torrent(number));
                let mut swarms = counts(program, (5 - number).max(3), 1);
                assert_eq!(shown["swarms"], json!([swarms]), "{setup}");
                for name in ["protocol", "ipv4", "ipv6"] {
                    swarms.as_object_mut().unwrap().remove(name);
                }
                swarms["info_hash"] = torrent(number).to_string().into();
                swarms["allowed"] = true.into();
                let mut shown = shown;
                shown.as_object_mut().unwrap().remove("swarms");
                assert_eq!((status, shown), (200, swarms), "{setup}");
            }
            is_over.store(true, Ordering::Relaxed);
        });
    });
}

/// In words, and as JSON.
pub fn what_is_wrong_with_a_question_about_torrents_is_told(program: &'static Program) {
    let place = Place::new();
    place.write("list", torrent(8).to_string());
    let settings = format!(
        "{}access_list.mode = 'deny'\naccess_list.path = 'list'",
        place.metrics_settings(program)
    );
    let daemon = place.start(Setup::simple(program), &settings);
    for (path, status, reason) in [
        (
            "/torrents?top=1001",
            400,
            "`top` must be a number from 1 to 1000",
        ),
        (
            "/torrents/0123",
            400,
            "this is no info hash: an info hash has 40 hexadecimal digits, this has 4 bytes",
        ),
        (
            &*format!("/torrents/{}", torrent(7)),
            404,
            "this torrent is not known: it has no peers here",
        ),
        (
            &*format!("/torrents/{}", torrent(8)),
            404,
            "this torrent is not known, and the access list forbids it",
        ),
    ] {
        let told = get_in_time(&daemon, path);
        assert_eq!(told, (status, json!({"error": reason})), "{path}");
    }
    let (status, told) = get_in_time(&daemon, &format!("/torrents/{}?peers=5", torrent(7)));
    let reason = told["error"].as_str().unwrap();
    assert!(status == 403 && reason.contains("token"), "{status} {told}");
}

/// And to nobody else: see [`what_is_wrong_with_a_question_about_torrents_is_told`].
pub fn peers_are_named_to_the_operator(program: &'static Program) {
    let place = Place::new();
    let section = program.metrics_section;
    let settings = format!(
        "{}{section}.peer_clients = true\n",
        operator_endpoint::settings(&place, program)
    );
    let daemon = place.start(Setup::simple(program), &settings);
    let _clients = fill(&daemon, program, 1);
    let shown = until("the worker answers", || {
        let path = format!("/torrents/{}?peers=1000", torrent(1));
        let (status, body) = operator_endpoint::ask(&daemon, "GET", &path, "");
        (status == 200).then(|| serde_json::from_str::<Value>(&body).unwrap())
    });
    let without_token = format!("/torrents/{}?peers=1000", torrent(1));
    let (status, told) = get_in_time(&daemon, &without_token);
    assert_eq!(status, 401, "{told}");
    let peers = shown["swarms"][0]["peers"].as_array().unwrap();
    let mut ports = BTreeSet::new();
    for peer in peers {
        assert_eq!(peer["seeder"], false);
        assert!(peer["client"].is_string(), "{peer}");
        let family = match peer["ip_version"].as_u64() {
            Some(4) => IpFamily::V4,
            _ => IpFamily::V6,
        };
        if program.shares_swarms {
            assert!(
                peer["ip"].is_null() && peer["seconds_left"].is_null(),
                "{peer}"
            );
        } else {
            let seconds_left = peer["seconds_left"].as_u64().unwrap();
            assert!((1..=2_000).contains(&seconds_left), "{peer}");
            assert_eq!(peer["ip"], json!(localhost(family)));
            ports.insert((family, peer["port"].as_u64().unwrap()));
        }
    }
    // Three of IPv4, and one of IPv6.
    assert_eq!(peers.len(), 4, "{shown}");
    let expected = [
        (IpFamily::V4, 1),
        (IpFamily::V4, 2),
        (IpFamily::V4, 3),
        (IpFamily::V6, 1),
    ];
    assert!(
        program.shares_swarms || ports == BTreeSet::from(expected),
        "{shown}"
    );
}

/// Each kind of tracker has its list, which is replaced as a whole.
pub fn all_torrents_are_listed_in_a_file(program: &'static Program) {
    on_every_setup(program, |setup| {
        let daemon = setup.start(
            "scrape_exports.enable_scrape_exports = true\nscrape_exports.frequency = 1\n\
             scrape_exports.path = 'new/list.txt'",
        );
        let _clients = fill(&daemon, program, 5);
        let lines = (1..=5).flat_map(|number| {
            let (v4, torrent) = ((6 - number).max(3), torrent(number));
            match program.shares_swarms {
                true => vec![format!("4 {torrent} 0 {}", v4 + 1)],
                false => vec![format!("4 {torrent} 0 {v4}"), format!("6 {torrent} 0 1")],
            }
        });
        let expected: BTreeSet<_> = lines.collect();
        until("all torrents are listed", || {
            let text = fs::read_to_string(daemon.place.path("new/list.txt")).ok()?;
            let lines: BTreeSet<_> = text.lines().map(str::to_owned).collect();
            (lines == expected).then_some(())
        });
    });
}

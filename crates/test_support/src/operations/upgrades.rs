//! Coming from aquatic 0.8 or 0.9: their files load and start, whatever they say that 0.9 ran with.

use std::sync::Mutex;
use std::thread;

use aquatic_types::IpFamily;

use super::configuration::{Setting, settings};
use crate::{Place, Program, Setup, torrent};

/// Variants that are tried at once: each mostly waits for a process.
const THREADS: usize = 4;

/// A number that an operator may have written for "as much as you like".
const LARGE: &str = "2147483647";

/// Large values of keys for which 0.9 had a smaller type, or whose value is a number of threads.
const LARGE_VALUES: [(&str, &str, &str); 4] = [
    ("", "socket_workers", "16"),
    ("", "swarm_workers", "16"),
    ("network", "ring_size", "65535"),
    ("aquatic_udp", "max_scrape_torrents", "255"),
];

/// Keys for which 0.9 took numbers below 0.
const NEGATIVE: [&str; 2] = ["network.tcp_backlog", "udp protocol.peer_announce_interval"];

/// In `aquatic_udp` of 0.9 it had 32 bits, elsewhere 64.
const INTERVAL: &str = "peer_announce_interval";

/// Keys for which 0.9 took numbers of 64 bits, some of which have 32 now.
const WIDE: [&str; 2] = ["cleaning.torrent_cleaning_interval", "statistics.interval"];

/// Switches that need more than themselves, in 0.9 as well: files, and a user who is root.
const NOT_ALONE: [&str; 2] = ["network.enable_tls", "privileges.drop_privileges"];

/// Keys that are called otherwise now, or whose value is a word now.
const TODAY: [(&str, &str); 4] = [
    ("network.use_io_uring", "network.backend"),
    ("metrics.torrent_count_update_interval", "metrics.interval"),
    (
        "metrics.peer_id_prefixes",
        "metrics.prometheus_peer_id_prefixes",
    ),
    (
        "cleaning.connection_cleaning_interval",
        "cleaning.max_connection_idle",
    ),
];

/// What 0.9.0 prints with `-p`.
fn file_of_0_9(program: &Program) -> &'static str {
    match program.name {
        "aquatic_udp" => include_str!("../../fixtures/aquatic-0.9.0/aquatic_udp.toml"),
        "aquatic_http" => include_str!("../../fixtures/aquatic-0.9.0/aquatic_http.toml"),
        "aquatic_ws" => include_str!("../../fixtures/aquatic-0.9.0/aquatic_ws.toml"),
        other => panic!("0.9 had no {other}"),
    }
}

/// What 0.8.0 prints with `-p`.
fn file_of_0_8(program: &Program) -> &'static str {
    match program.name {
        "aquatic_udp" => include_str!("../../fixtures/aquatic-0.8.0/aquatic_udp.toml"),
        "aquatic_http" => include_str!("../../fixtures/aquatic-0.8.0/aquatic_http.toml"),
        "aquatic_ws" => include_str!("../../fixtures/aquatic-0.8.0/aquatic_ws.toml"),
        other => panic!("0.8 had no {other}"),
    }
}

/// The same file at ports of a test.
fn at_ports_of(place: &Place, file: &str) -> String {
    let ours = file.replace(":3000\"", &format!(":{}\"", place.port()));
    assert_ne!(ours, file);
    let file = ours.replace(":9000\"", &format!(":{}\"", place.second_port()));
    assert_ne!(ours, file);
    file
}

/// Other values of a key that 0.9 ran with.
fn variants(program: &Program, setting: &Setting) -> Vec<String> {
    let Setting { key, value, .. } = setting;
    let name = key.rsplit('.').next().unwrap();
    if NOT_ALONE.contains(&&**key) {
        return Vec::new();
    }
    match *value {
        "true" => vec!["false".to_owned()],
        "false" => vec!["true".to_owned()],
        number if number.bytes().all(|byte| byte.is_ascii_digit()) => {
            let doubled = 2 * number.parse::<u64>().unwrap();
            let of_key = |(place, of, _): &&(&str, &str, &str)| {
                *of == name && (key.starts_with(place) || *place == program.name)
            };
            let large = LARGE_VALUES.iter().find(of_key).map(|(.., large)| *large);
            let mut values = vec!["0".to_owned(), doubled.to_string()];
            match large {
                Some(large) => values.push(large.to_owned()),
                None => values.extend(["100000".to_owned(), LARGE.to_owned()]),
            }
            let of_program = format!("{} {key}", program.name.trim_start_matches("aquatic_"));
            if WIDE.contains(&&**key) || (program.name != "aquatic_udp" && name == INTERVAL) {
                values.push("4294967296".to_owned());
                values.push(i64::MAX.to_string());
            }
            if NEGATIVE.contains(&&**key) || NEGATIVE.contains(&&*of_program) {
                values.push("-1".to_owned());
            }
            values
        }
        _ => Vec::new(),
    }
}

/// To a package manager, and to whoever reads `--version`.
pub fn its_version_is_later_than_0_9(program: &'static Program) {
    let printed = Place::new().run(program, &["--version"]).stdout;
    let version = printed.trim().rsplit(' ').next().unwrap();
    let numbers: Vec<u32> = version.split('.').map(|n| n.parse().unwrap()).collect();
    assert!(numbers > vec![0, 9, u32::MAX], "{printed}");
}

/// As they are, but for the ports.
pub fn the_files_that_0_8_and_0_9_print_load_and_serve(program: &'static Program) {
    for file in [file_of_0_8(program), file_of_0_9(program)] {
        loads_and_serves(program, file);
    }
}

fn loads_and_serves(program: &'static Program, file: &str) {
    let place = Place::new();
    let file = at_ports_of(&place, file);
    let mut command = place.command(Setup::simple(program), "");
    place.write("config.toml", &file);
    let daemon = place.wait_for(command.spawn().unwrap());
    let mut client = program.client_of(&daemon, IpFamily::V4);
    assert_eq!(client.join(torrent(1), 1), Ok(1));
    assert_eq!(client.leechers(&[torrent(1)]), [1]);
    assert!(!(program.serves)(daemon.address(IpFamily::V6)));
}

/// Each key in turn at 0, doubled, large, and switched over: what does not fit is made to fit, and
/// the operator is told the key, what it was and what is used.
pub fn no_value_that_0_9_ran_with_is_refused(program: &'static Program) {
    let file = file_of_0_9(program);
    let mut changes = Vec::new();
    for setting in settings(file) {
        for value in variants(program, &setting) {
            changes.push((setting.line, setting.key.clone(), value));
        }
    }
    assert!(
        changes.len() > 40,
        "only {} values are tried",
        changes.len()
    );
    let changes = Mutex::new(changes);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let next = || changes.lock().unwrap().pop();
                while let Some((line, key, value)) = next() {
                    try_value(program, line, &key, &value);
                }
            });
        }
    });
}

fn try_value(program: &'static Program, line: usize, key: &str, value: &str) {
    let place = Place::new();
    let mut lines: Vec<_> = at_ports_of(&place, file_of_0_9(program))
        .lines()
        .map(str::to_owned)
        .collect();
    let name = key.rsplit('.').next().unwrap();
    lines[line] = format!("{name} = {value}");
    let file = place.write("old.toml", lines.join("\n"));
    let printed = place.run(program, &["-c", file.to_str().unwrap(), "-P"]);
    assert_eq!(printed.code, Some(0), "{key} = {value}: {}", printed.log);
    let renamed = TODAY.iter().find(|(old, _)| *old == key);
    let today = renamed.map_or(key, |(_, today)| today);
    let all = settings(&printed.stdout);
    let used = all.iter().find(|setting| setting.key == today);
    let used = used
        .unwrap_or_else(|| panic!("{today} is not printed"))
        .value;
    if used != value {
        let names_it = |line: &str| {
            let says_both = line.contains(value) && line.contains(used);
            let is_replaced = renamed.is_some() && line.contains(key);
            (line.contains(&format!("`{today}`")) && says_both) || is_replaced
        };
        let is_told = printed.log.lines().any(names_it);
        assert!(is_told, "{key} = {value}, {used} is used: {}", printed.log);
    }

    let mut command = place.command(Setup::simple(program), "");
    place.write("config.toml", lines.join("\n"));
    let daemon = place.wait_for(command.spawn().unwrap());
    assert!(
        (program.serves)(daemon.address(IpFamily::V4)),
        "{key} = {value}"
    );
}

/// `documents/migrating-from-0.9.md` has a row for each, for each daemon.
pub fn the_document_names_every_key_of_0_8_and_0_9(program: &'static Program) {
    let document = include_str!("../../../../documents/migrating-from-0.9.md");
    let heading = format!("## {}", program.name);
    let (_, rest) = document.split_once(&heading).expect(&heading);
    let chapter = rest.split("\n## ").next().unwrap();
    let rows: Vec<_> = chapter
        .lines()
        .filter(|line| line.starts_with('|'))
        .filter_map(|line| line.split('|').nth(1))
        .collect();
    for Setting { key, .. } in settings(file_of_0_9(program)) {
        let is_named = |keys: &&str| keys.contains(&format!("`{key}`"));
        assert!(rows.iter().any(is_named), "{heading}: no row about `{key}`");
    }
    let (_, rest) = document.split_once("### Keys of 0.8").unwrap();
    let of_0_8 = rest.split("\n## ").next().unwrap();
    for Setting { key, .. } in settings(file_of_0_8(program)) {
        let section = key.split('.').next().unwrap();
        let names = [format!("`{key}`"), format!("`[{section}]`")];
        let is_named = |text: &&str| names.iter().any(|name| text.contains(name));
        assert!(
            [chapter, of_0_8].iter().any(is_named),
            "{heading}: nothing about `{key}` of 0.8"
        );
    }
}

/// One socket of 0.9 served it, as what it is.
pub fn an_ipv4_mapped_address_is_served_as_ipv4(program: &'static Program) {
    let place = Place::new();
    let v4 = place.address(IpFamily::V4);
    let settings = format!("network.address = '[::ffff:127.0.0.1]:{}'", v4.port());
    let daemon = place.start(Setup::simple(program), &settings);
    assert!((program.serves)(v4));
    let log = daemon.place.log();
    let hint = format!("is an IPv4 address: write `network.address = \"{v4}\"`");
    assert!(log.contains(&hint), "{log}");
}

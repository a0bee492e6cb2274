//! The configuration file: printed, checked, read in today's spelling and in older ones.

use aquatic_types::IpFamily;

use super::client::{Client, row, torrent};
use super::daemon::Place;
use super::setup::Setup;

/// Every key that an operator can set, with its section.
const KEYS: [&str; 38] = [
    "socket_workers",
    "swarm_workers",
    "log_level",
    "network.address",
    "network.backend",
    "network.socket_recv_buffer_size",
    "network.poll_timeout_ms",
    "network.batch_wait_us",
    "network.resend_buffer_max_len",
    "network.ring_size",
    "protocol.max_scrape_torrents",
    "protocol.max_response_peers",
    "protocol.peer_announce_interval",
    "limits.max_torrents",
    "limits.max_peers",
    "limits.max_peers_per_ip",
    "limits.requests_per_second_per_ip",
    "statistics.interval",
    "statistics.torrent_peer_histograms",
    "statistics.peer_clients",
    "statistics.print_to_stdout",
    "statistics.write_html_to_file",
    "statistics.html_file_path",
    "statistics.run_prometheus_endpoint",
    "statistics.prometheus_endpoint_address",
    "statistics.prometheus_peer_id_prefixes",
    "cleaning.torrent_cleaning_interval",
    "cleaning.max_connection_age",
    "cleaning.max_peer_age",
    "scrape_exports.enable_scrape_exports",
    "scrape_exports.frequency",
    "scrape_exports.path",
    "privileges.drop_privileges",
    "privileges.chroot_path",
    "privileges.group",
    "privileges.user",
    "access_list.mode",
    "access_list.path",
];

/// The keys of a printed file, in order.
fn keys(file: &str) -> Vec<String> {
    let mut section = String::new();
    let mut keys = Vec::new();
    for line in file.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = format!("{}.", name.trim_end_matches(']'));
        } else if let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            keys.push(format!("{section}{key}"));
        }
    }
    keys
}

#[test]
fn the_printed_default_has_every_key_with_a_comment_and_loads() {
    let place = Place::new();
    let printed = place.run(&["-p"]);
    assert_eq!((printed.code, printed.log.as_str()), (Some(0), ""));
    assert_eq!(keys(&printed.stdout), KEYS);
    let lines: Vec<_> = printed.stdout.lines().collect();
    for pair in lines.windows(2) {
        let is_key = !pair[1].starts_with('#') && pair[1].contains(" = ");
        assert!(
            !is_key || pair[0].starts_with('#'),
            "no comment above {}",
            pair[1]
        );
    }

    let file = place.write("default.toml", &printed.stdout);
    let file = file.to_str().unwrap();
    let parsed = place.run(&["-c", file, "-P"]);
    assert_eq!((parsed.code, parsed.log.as_str()), (Some(0), ""));
    assert_eq!(parsed.stdout, printed.stdout);
    let checked = place.run(&["-c", file, "--check-config"]);
    assert_eq!((checked.code, checked.log.as_str()), (Some(0), ""));
}

#[test]
fn mistakes_are_named() {
    let place = Place::new();
    for (text, complaints) in [
        ("socket_wrokers = 1", &["line 1", "socket_wrokers"][..]),
        ("\n[network]\nadress = '127.0.0.1:1'", &["line 3", "adress"]),
        ("[netwrok]\naddress = '127.0.0.1:1'", &["line 1", "netwrok"]),
        ("network.backend = 'glommio'", &["line 1", "backend"]),
        (
            "protocol.max_response_peers = 77",
            &["max_response_peers", "76"],
        ),
        (
            "protocol.max_scrape_torrents = 117",
            &["max_scrape_torrents", "116"],
        ),
        (
            "cleaning.max_peer_age = 900",
            &["peer_announce_interval", "max_peer_age"],
        ),
        ("socket_workers = 'many'", &["line 1", "socket_workers"]),
        ("this is not TOML", &["line 1"]),
    ] {
        let file = place.write("wrong.toml", text);
        let file = file.to_str().unwrap();
        for arguments in [
            &["-c", file, "--check-config"][..],
            &["-c", file],
            &["-c", file, "-P"],
        ] {
            let ended = place.run(arguments);
            assert_eq!(ended.code, Some(1), "{text}: {ended:?}");
            for complaint in complaints.iter().chain(&[file]) {
                assert!(ended.log.contains(complaint), "{text}: {}", ended.log);
            }
        }
    }
}

#[test]
fn old_spellings_load_with_a_warning_that_names_the_new_ones() {
    let place = Place::new();
    let port = place.port();
    let old = format!(
        "socket_workers = 1\nlog_level = 'warn'\n\
         [network]\naddress_ipv4 = '127.0.0.1:{port}'\nuse_ipv6 = false\nonly_ipv6 = true\n\
         use_io_uring = false\n\
         [metrics]\ninterval = 1\n"
    );
    let news = [
        format!("write `network.address = [\"127.0.0.1:{port}\"]`"),
        "write `network.backend = \"mio\"`".to_owned(),
        "`metrics` is now called `statistics`".to_owned(),
        "`network.only_ipv6` is ignored".to_owned(),
    ];
    let file = place.write("old.toml", &old);
    let file = file.to_str().unwrap();
    for flag in ["-P", "--check-config"] {
        let ended = place.run(&["-c", file, flag]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        for new in &news {
            assert!(ended.log.contains(new), "no {new} in\n{}", ended.log);
        }
    }
    let parsed = place.run(&["-c", file, "-P"]).stdout;
    assert_eq!(keys(&parsed), KEYS);
    for line in [
        "backend = \"mio\"",
        "interval = 1",
        &format!("address = [\"127.0.0.1:{port}\"]"),
    ] {
        assert!(
            parsed.lines().any(|found| found == line),
            "no {line} in\n{parsed}"
        );
    }

    // And it runs.
    let mut command = place.command(Setup::SIMPLE, "");
    place.write("config.toml", &old);
    let daemon = place.wait_for(command.spawn().unwrap());
    let log = daemon.place.log();
    for new in &news {
        let line = log.lines().find(|line| line.contains(new)).unwrap();
        assert!(
            line.contains("WARN") && line.contains("config.toml: line "),
            "{line}"
        );
    }
    let mut client = Client::new(&daemon, IpFamily::V4);
    client.join(torrent(1), 1, 1);
    assert_eq!(client.scrape(&[torrent(1)]), [row(0, 0, 1)]);
}

#[test]
fn a_missing_file_is_named() {
    let ended = Place::new().run(&["-c", "/nowhere/aquatic.toml"]);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.log.contains("/nowhere/aquatic.toml: No such file"),
        "{}",
        ended.log
    );
}

//! Subcommands, and what is wrong with a configuration.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use aquatic_config::to_documented_toml;
use aquatic_test_support::operations::privileges::{CONFINED, is_root, make_root};
use aquatic_test_support::{Ended, Place, torrent};
use aquatic_types::IpFamily;

use super::setup::{BINARY, Client, SIMPLE, Udp, start};

fn run(place: &Place, arguments: &[&str]) -> Ended {
    let mut command = place.command_with(BINARY, arguments);
    place.end(command.spawn().unwrap())
}

#[test]
fn each_program_of_the_family_is_in_it() {
    for (program, printed) in [
        (
            "udp",
            to_documented_toml(&aquatic_udp::config::Config::default()),
        ),
        (
            "http",
            to_documented_toml(&aquatic_http::config::Config::default()),
        ),
        (
            "ws",
            to_documented_toml(&aquatic_ws::config::Config::default()),
        ),
        (
            "serve",
            to_documented_toml(&aquatic::config::Config::default()),
        ),
    ] {
        let place = Place::new();
        let told = run(&place, &[program, "-p"]);
        assert_eq!(told.code, Some(0));
        assert_eq!(told.stdout, printed);
        let version = run(&place, &[program, "--version"]).stdout;
        let expected = format!("aquatic-{program} {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(version, expected);
        let help = run(&place, &[program, "--help"]).stdout;
        assert!(
            help.contains(&format!("Usage: aquatic {program} ")),
            "{help}"
        );
        assert!(help.contains("HUP, USR1"), "{help}");
    }
    let place = Place::new();
    assert_eq!(run(&place, &[]).code, Some(2));
    assert_eq!(run(&place, &["pigeons"]).code, Some(2));
    let without = run(&place, &["-c", "file.toml"]);
    assert_eq!(without.code, Some(2));
    let hint = "tip: say which program is meant, for example 'aquatic serve -c'\n";
    assert!(without.log.contains(hint), "{}", without.log);
    let version = run(&place, &["--version"]).stdout;
    assert_eq!(version, format!("aquatic {}\n", env!("CARGO_PKG_VERSION")));
}

/// What the process opens before it gives up the rights of root is looked at before that, whatever
/// the number of protocols.
#[test]
fn what_only_root_can_open_passes_the_check() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let _root = make_root(&place);
    let token = place.write("token", "0123456789abcdef0123456789abcdef");
    fs::set_permissions(token, Permissions::from_mode(0o600)).unwrap();
    fs::create_dir(place.path("sockets")).unwrap();
    fs::set_permissions(place.path("sockets"), Permissions::from_mode(0o700)).unwrap();
    let more = format!(
        "{CONFINED}metrics.endpoint_token_file = 'token'\n\
         metrics.endpoint_unix_socket = 'sockets/endpoint'\n"
    );
    let settings = SIMPLE.settings(&place, &more);
    place.write("config.toml", &settings);
    let ended = run(&place, &["serve", "--check-config", "-c", "config.toml"]);
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    start(place, &settings);
}

#[test]
fn a_program_of_the_family_runs_as_by_itself() {
    let place = Place::new();
    let address = place.address(IpFamily::V4);
    place.write("udp.toml", format!("network.address = '{address}'"));
    let mut command = place.command_with(BINARY, &["udp", "-c", "udp.toml"]);
    let daemon = place.start_by(&mut command);
    daemon.wait_for_log("aquatic udp");
    let mut client = Udp::new(&daemon, IpFamily::V4);
    assert_eq!(client.join(torrent(1), 1, 0).seeders, 1);
}

/// Each mistake is named as it stands in the file.
#[test]
fn mistakes_are_named() {
    const BOTH: &str = "udp.enabled = true\nhttp.enabled = true\n";
    for (settings, told) in [
        ("", "no protocol is enabled"),
        (
            "udp.enabled = true\nudp.network.keep_alive = true",
            "`udp.network.keep_alive`",
        ),
        (
            "udp.enabled = true\nudp.network.batch_wait_us = 1000",
            "line 2, column 13: `udp.network.batch_wait_us`: must be less than 1000",
        ),
        (
            "http.enabled = true\nws.enabled = true",
            "0.0.0.0:3000 is taken by `http.network.address`: choose another port",
        ),
        (
            "udp.swarm_workers = 1\nhttp.swarm_workers = 2",
            "`http.swarm_workers`: must be the same as `udp.swarm_workers`",
        ),
        (
            "http.protocol.max_response_peers_per_ip = 9",
            "must be the same as `udp.protocol.max_response_peers_per_ip`",
        ),
        (
            "limits.max_peers_per_ip_and_torrent = 2000",
            "line 3, column 8: `limits.max_peers_per_ip_and_torrent`: must be at most 1000",
        ),
        (
            "http.network.runs_behind_reverse_proxy = true\nlimits.max_connections_per_ip = 1",
            "`limits.max_connections_per_ip`: must be 0 with `http.network.runs_behind",
        ),
        (
            "persistence.swarms = true\npersistence.path = 'a'\n\
             access_list.mode = 'deny'\naccess_list.path = './a'",
            "line 4, column 13: `persistence.path`: is also `access_list.path`",
        ),
        (
            "http.network.enable_tls = true",
            "`tls_private_key_path` in [http.network]",
        ),
    ] {
        let place = Place::new();
        let is_whole = settings.contains("enabled") || settings.is_empty();
        let settings = match is_whole {
            true => settings.to_owned(),
            false => format!("{BOTH}{settings}"),
        };
        place.write("config.toml", &settings);
        let ended = run(&place, &["serve", "--check-config", "-c", "config.toml"]);
        assert_eq!(ended.code, Some(1), "{settings}");
        assert!(ended.log.contains(told), "{settings}: {}", ended.log);
        assert_eq!(
            ended.log.matches(told).count(),
            1,
            "{settings}: {}",
            ended.log
        );
    }
}

#[test]
fn what_is_printed_loads() {
    let place = Place::new();
    let settings = SIMPLE.settings(&place, "limits.max_peers = 77");
    place.write("config.toml", settings);
    let parsed = run(&place, &["serve", "-P", "-c", "config.toml"]);
    assert_eq!(parsed.code, Some(0), "{}", parsed.log);
    assert!(parsed.stdout.contains("max_peers = 77"));
    place.write("again.toml", &parsed.stdout);
    let again = run(&place, &["serve", "-P", "-c", "again.toml"]);
    assert_eq!(again.stdout, parsed.stdout);
    let checked = run(&place, &["serve", "--check-config", "-c", "again.toml"]);
    assert_eq!(checked.code, Some(0), "{}", checked.log);
}

/// Numbers that are too large are made to fit in each protocol's section.
#[test]
fn what_is_too_large_is_made_to_fit() {
    let place = Place::new();
    let more = "udp.protocol.max_response_peers = 5000\nhttp.protocol.max_peers = 5000";
    place.write("config.toml", SIMPLE.settings(&place, more));
    let parsed = run(&place, &["serve", "-P", "-c", "config.toml"]);
    assert!(
        parsed.stdout.contains("max_response_peers = 76"),
        "{}",
        parsed.stdout
    );
    for key in [
        "`udp.protocol.max_response_peers` = 5000",
        "`http.protocol.max_peers` = 5000",
    ] {
        assert!(parsed.log.contains(key), "{}", parsed.log);
    }
}

use aquatic_config::{Loaded, load, to_documented_toml};
use aquatic_udp_socket::UNFRAGMENTED_BYTES_MAX;

use super::*;

#[test]
fn printed_default_loads_to_the_default() {
    let printed = to_documented_toml(&Config::default());
    let loaded = load::<Config>(&printed).unwrap();
    assert_eq!(loaded.config, Config::default());
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}

#[test]
fn a_file_of_aquatic_0_9_loads_with_warnings() {
    let loaded = load::<Config>(
        "socket_workers = 2\n[network]\naddress = \"0.0.0.0:3000\"\nonly_ipv6 = false\n\
         use_io_uring = false\nring_size = 128\n[protocol]\nmax_response_peers = 30\n",
    )
    .unwrap();
    assert_eq!(loaded.config.network.backend, Backend::Mio);
    assert_eq!(
        loaded.config.network.address.as_slice(),
        ["0.0.0.0:3000".parse().unwrap()]
    );
    assert!(
        loaded
            .warnings
            .iter()
            .any(|warning| warning.contains("network.backend"))
    );
}

#[test]
fn by_default_no_answer_needs_fragments() {
    let mut config = Config::default();
    assert_eq!(config.answer_bytes_max_v4(), 8 + 74 * 12);
    assert!(config.answer_bytes_max_v4() <= UNFRAGMENTED_BYTES_MAX);
    config.protocol.max_response_peers = 76;
    config.protocol.max_scrape_torrents = 1;
    assert_eq!(config.answer_bytes_max_v4(), 20 + 76 * 6);
    config.protocol.max_scrape_torrents = 116;
    assert!(config.answer_bytes_max_v4() > UNFRAGMENTED_BYTES_MAX);
}

#[test]
fn what_is_hardly_meant_is_warned_of() {
    for (text, expected) in [
        (
            "protocol.max_response_peers = 0",
            "line 1: `protocol.max_response_peers`: is 0: no client is told of any peer",
        ),
        (
            "limits.requests_per_second_per_ip = 1",
            "line 1: `limits.requests_per_second_per_ip`: is 1, but a client needs two \
             requests to announce: a connect comes first",
        ),
        (
            "scrape_exports.path = '/x'",
            "line 1: `scrape_exports.path`: is not used, because \
             `scrape_exports.enable_scrape_exports` is false",
        ),
        (
            "statistics.html_file_path = '/x'",
            "line 1: `statistics.html_file_path`: is not used, because \
             `statistics.write_html_to_file` is false",
        ),
        (
            "network.xdp_interfaces = ['op0']",
            "line 1: `network.xdp_interfaces`: names interfaces, but `network.xdp` is off: they \
             are left alone",
        ),
        (
            "network.xdp_required = true",
            "line 1: `network.xdp_required`: is not used, because `network.xdp` is off",
        ),
        (
            "network.xdp_mode = 'native'",
            "line 1: `network.xdp_mode`: is not used, because `network.xdp` is off",
        ),
    ] {
        assert_eq!(load::<Config>(text).unwrap().advice, [expected]);
    }
    assert!(load::<Config>("").unwrap().advice.is_empty());
}

#[test]
fn keys_of_programs_are_suggested() {
    for (typed, meant) in [
        ("xdp_interface", "xdp_interfaces"),
        ("xdp_answers_per_sec", "xdp_answers_per_second"),
        ("xdp_error_per_second", "xdp_errors_per_second"),
        ("xpd", "xdp"),
    ] {
        let error = load::<Config>(&format!("network.{typed} = 1")).unwrap_err();
        let end = format!("; did you mean `network.{meant}`?");
        assert!(error.to_string().ends_with(&end), "{error}");
    }
}

#[cfg(target_os = "linux")]
const FILTER_AT: &str = "network.xdp = 'filter'\nnetwork.xdp_interfaces = ";

#[test]
#[cfg(target_os = "linux")]
fn names_that_no_interface_has_are_refused() {
    for (names, told) in [
        ("['op0', 'op1', 'op0']", r#""op0" is named twice"#),
        (
            "['op0', '']",
            r#""" is empty: name an interface, or leave it out"#,
        ),
        (
            "['op0 ']",
            r#""op0 " has a blank, which no name of an interface has"#,
        ),
        (
            "['op0, op1']",
            r#""op0, op1" has a blank, which no name of an interface has"#,
        ),
        (
            "['op0\u{a0}']",
            r#""op0\u{a0}" has a blank, which no name of an interface has"#,
        ),
    ] {
        let error = load::<Config>(&format!("{FILTER_AT}{names}")).unwrap_err();
        let expected = format!("line 2, column 9: `network.xdp_interfaces`: {told}");
        assert_eq!(error.to_string(), expected);
    }
    let loaded = load::<Config>(&format!("{FILTER_AT}['op0', 'op1']")).unwrap();
    assert!(loaded.advice.is_empty(), "{:?}", loaded.advice);
}

#[test]
#[cfg(target_os = "linux")]
fn whoever_names_the_loopback_interface_is_warned() {
    let loaded = load::<Config>(&format!("{FILTER_AT}['op0', 'lo']")).unwrap();
    let expected = "line 2: `network.xdp_interfaces`: \"lo\": requests to 127.0.0.0/8 and ::1 are \
                    left to the network stack; name the interface that clients come by";
    assert_eq!(loaded.advice, [expected]);
}

#[test]
fn what_does_not_fit_is_refused() {
    for (text, key) in [
        ("network.batch_wait_us = 1000", "batch_wait_us"),
        ("scrape_exports.frequency = 0", "frequency"),
        ("protocol.max_response_peers = -1", "max_response_peers"),
    ] {
        let error = load::<Config>(text).unwrap_err().to_string();
        assert!(error.contains(key), "{text}: {error}");
    }
}

#[test]
fn what_0_9_ran_with_is_made_to_fit_with_a_warning() {
    for (text, used) in [
        ("protocol.max_response_peers = 200", "76 is used"),
        ("protocol.max_scrape_torrents = 255", "116 is used"),
        ("protocol.max_scrape_torrents = 0", "1 is used"),
        ("protocol.peer_announce_interval = 0", "1 is used"),
        ("protocol.peer_announce_interval = -1", "1 is used"),
        ("cleaning.max_peer_age = 100_000", "31880 is used: the sum"),
        ("cleaning.torrent_cleaning_interval = 0", "1 is used"),
        (
            "cleaning.torrent_cleaning_interval = 86400",
            "16000 is used",
        ),
        ("cleaning.max_connection_age = 0", "1 is used"),
        ("cleaning.max_connection_age = 86400", "32000 is used"),
        ("network.poll_timeout_ms = 0", "1 is used"),
        ("network.ring_size = 0", "16 is used"),
        (
            "network.socket_recv_buffer_size = 2147483648",
            "2147483647 is used",
        ),
        ("socket_workers = 100_000", "1024 is used"),
        (
            "statistics.prometheus_peer_id_prefixes = true",
            "false is used",
        ),
    ] {
        let Loaded { warnings, .. } = load::<Config>(text).unwrap();
        let key = text.split(" = ").next().unwrap();
        let says = |warning: &&String| warning.contains(key) && warning.contains(used);
        assert!(warnings.iter().any(|w| says(&w)), "{text}: {warnings:?}");
    }
}

#[test]
fn a_pause_longer_than_a_peer_lives_is_pointed_out() {
    let text = "protocol.peer_announce_interval = 1200";
    let Loaded {
        config, warnings, ..
    } = load::<Config>(text).unwrap();
    assert_eq!(config.protocol.peer_announce_interval, 1_200);
    assert!(
        warnings[0].contains("forgotten between two"),
        "{warnings:?}"
    );
}

#[test]
fn no_interval_means_no_statistics() {
    let text = "[statistics]\ninterval = 0\nrun_prometheus_endpoint = true\n\
                print_to_stdout = true\nwrite_html_to_file = true";
    let Loaded {
        config, warnings, ..
    } = load::<Config>(text).unwrap();
    assert_eq!(config.statistics, StatisticsConfig::default());
    assert!(warnings[0].starts_with("line 2: `statistics.interval` = 0"));
}

/// A configuration in which clients could be told to come when they have been forgotten.
#[test]
fn intervals_fit_each_other_and_the_age_of_peers() {
    let refused = |text: &str| load::<Config>(text).unwrap_err().to_string();
    for (text, said) in [
        (
            "protocol.announce_interval_spread = 101",
            "`protocol.announce_interval_spread`: must be 0 to 100",
        ),
        (
            "protocol.announce_interval_max = 899",
            "must be 0, or at least `protocol.peer_announce_interval` = 900",
        ),
        (
            "protocol.announce_interval_spread = 50\ncleaning.max_peer_age = 1379",
            "is 1379, must be at least 1380",
        ),
        (
            "protocol.announce_interval_max = 1800\n\
             protocol.announce_interval_spread = 10\ncleaning.max_peer_age = 2009",
            "is 2009, must be at least 2010",
        ),
    ] {
        let error = refused(text);
        assert!(error.contains(said), "{text}: {error}");
    }
    for text in [
        "protocol.announce_interval_spread = 50\ncleaning.max_peer_age = 1380",
        "protocol.announce_interval_max = 900\ncleaning.max_peer_age = 910",
        "protocol.announce_interval_max = 1800\n\
         protocol.announce_interval_spread = 10\ncleaning.max_peer_age = 2010",
    ] {
        assert!(load::<Config>(text).is_ok(), "{text}");
    }
}

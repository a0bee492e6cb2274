use aquatic_config::{load, to_documented_toml};

use super::*;

#[test]
fn printed_default_loads_to_the_default() {
    let printed = to_documented_toml(&Config::default());
    let loaded = load::<Config>(&printed).unwrap();
    assert_eq!(loaded.config, Config::default());
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}

/// Whoever reads what it is sent must never be taken for one that does not.
#[test]
fn a_scrape_that_might_not_fit_needs_a_restart() {
    use aquatic_config::Config as _;

    let scraping = |torrents| {
        let mut config = Config::default();
        config.protocol.max_scrape_torrents = torrents;
        config
    };
    let running = scraping(255);
    assert!(running.keys_bound_to_start(&scraping(3_900)).is_empty());
    let bound = ["protocol.max_scrape_torrents"];
    assert_eq!(running.keys_bound_to_start(&scraping(4_100)), bound);
    assert!(scraping(9_000).keys_bound_to_start(&running).is_empty());
}

#[test]
fn a_file_of_aquatic_0_9_loads_with_warnings() {
    let loaded = load::<Config>(
        "socket_workers = 1\nswarm_workers = 1\n[network]\naddress = \"0.0.0.0:3000\"\n\
         only_ipv6 = false\ntcp_backlog = 1024\nwebsocket_max_message_size = 65536\n\
         websocket_max_frame_size = 16384\nwebsocket_write_buffer_size = 8192\n\
         enable_http_health_checks = false\n\
         [protocol]\nmax_scrape_torrents = 255\nmax_offers = 10\n\
         peer_announce_interval = 120\n\
         [cleaning]\ntorrent_cleaning_interval = 30\nconnection_cleaning_interval = 30\n\
         max_peer_age = 180\nmax_offer_age = 120\nmax_connection_idle = 180\n\
         close_after_tls_update_grace_period = 3600\n\
         [metrics]\ntorrent_count_update_interval = 10\npeer_clients = true\n",
    )
    .unwrap();
    let config = &loaded.config;
    assert!(!config.network.enable_http_health_checks && config.metrics.peer_clients);
    assert_eq!(config.metrics.interval, 10);
    assert_eq!(config.bounds().output_bytes_max, 4 * 65_536);
    let mut warnings = loaded.warnings.iter();
    assert!(warnings.any(|warning| warning.contains("connection_cleaning_interval")));
}

#[test]
fn pings_fit_between_whatever_ends_a_silent_connection() {
    let ping_seconds = |interval, idle, age| {
        let mut config = Config::default();
        config.network.ping_interval = interval;
        config.cleaning.max_connection_idle = idle;
        config.cleaning.max_peer_age = age;
        config.patience().ping_seconds
    };
    assert_eq!(Config::default().patience().ping_seconds, 45);
    assert_eq!(ping_seconds(45, 100_000, 180), 45, "whatever may be idle");
    assert_eq!(ping_seconds(45, 30, 180), 10);
    assert_eq!(ping_seconds(45, 180, 60), 20);
    assert_eq!(ping_seconds(0, 180, 180), 1);
    assert_eq!(ping_seconds(45, 3, 1), 1);
}

#[test]
fn origins_are_schemes_and_hosts() {
    let text = "network.allowed_origins = ['https://a.example:8443', 'http://[::1]', 'null']";
    assert!(load::<Config>(text).is_ok());
}

#[test]
fn every_answer_fits_into_what_may_wait() {
    let mut config = Config::default();
    config.network.websocket_write_buffer_size = 0;
    config.network.websocket_max_message_size = MESSAGE_BYTES_MIN;
    for torrents in [1, SCRAPE_TORRENTS_MAX] {
        config.protocol.max_scrape_torrents = torrents;
        let waiting_max = config.bounds().output_bytes_max;
        assert!(waiting_max >= HEADER_BYTES_MAX + ScrapeResponse::size_max(torrents));
        let forwarded_max = HEADER_BYTES_MAX + MESSAGE_BYTES_MIN + 500;
        assert!(waiting_max >= 2 * forwarded_max);
    }
}

#[test]
fn what_0_9_ran_with_is_made_to_fit_with_a_warning() {
    for (text, used) in [
        ("protocol.max_offers = 101", "100 is used"),
        ("protocol.max_scrape_torrents = 0", "1 is used"),
        ("protocol.max_scrape_torrents = 65535", "10000 is used"),
        ("cleaning.max_offer_age = 0", "1 is used"),
        ("cleaning.max_offer_age = 100_000", "32000 is used"),
        ("cleaning.max_connection_idle = 0", "3 is used"),
        ("network.websocket_max_frame_size = 0", "1024 is used"),
        (
            "network.websocket_max_message_size = 100_000_000",
            "16777216 is used",
        ),
        ("metrics.peer_id_prefixes = true", "false is used"),
    ] {
        let warnings = load::<Config>(text).unwrap().warnings;
        let (key, _) = text.split_once(" = ").unwrap();
        let name = key.rsplit('.').next().unwrap();
        let says = |warning: &String| warning.contains(name) && warning.contains(used);
        assert!(warnings.iter().any(says), "{text}: {warnings:?}");
    }
}

#[test]
fn peers_need_not_announce_to_stay() {
    let loaded = load::<Config>("protocol.peer_announce_interval = 1800").unwrap();
    assert_eq!(loaded.warnings, Vec::<String>::new());
}

#[test]
fn what_is_hardly_meant_is_warned_of() {
    assert_eq!(
        load::<Config>("protocol.max_offers = 0").unwrap().advice,
        [
            "line 1: `protocol.max_offers`: is 0: no offer is passed on, so that peers never \
             meet"
        ]
    );
    assert!(load::<Config>("").unwrap().advice.is_empty());
}

/// Swarms are shared by both IP versions, unlike those of the other trackers.
#[test]
fn limits_hold_once() {
    let printed = to_documented_toml(&Config::default());
    let said = "# Bounds on what strangers can make the tracker hold or do. 0 means no limit.\n\
                #\n\
                # Browsers on IPv4 and IPv6 are in the same swarms, and limits hold for both \
                together.\n\
                [limits]\n";
    assert!(printed.contains(said), "{printed}");
    assert!(!printed.contains("IPv6 each"), "{printed}");
}

#[test]
fn what_does_not_fit_is_refused() {
    for (text, key) in [
        (
            "protocol.max_torrents_per_connection = 0",
            "max_torrents_per_connection",
        ),
        ("network.enable_tls = true", "tls_private_key_path"),
        ("network.keep_alive = true", "keep_alive"),
        ("network.allowed_origins = ['example.com']", "example.com"),
        ("network.allowed_origins = ['https://a.b/']", "https://a.b/"),
        (
            "network.runs_behind_reverse_proxy = true\nlimits.max_connections_per_ip = 1",
            "max_connections_per_ip",
        ),
    ] {
        let error = load::<Config>(text).unwrap_err().to_string();
        assert!(error.contains(key), "{text}: {error}");
    }
}

/// Peers live as long as their connections, so intervals need not fit `max_peer_age`.
#[test]
fn intervals_fit_each_other_and_what_browsers_can_wait() {
    for (text, said) in [
        (
            "protocol.announce_interval_max = 119",
            "must be 0, or at least `protocol.peer_announce_interval` = 120",
        ),
        (
            "protocol.announce_interval_max = 2000000\nprotocol.announce_interval_spread = 10",
            "an interval of 2200000 s, but timers",
        ),
    ] {
        let error = load::<Config>(text).unwrap_err().to_string();
        assert!(error.contains(said), "{text}: {error}");
    }
    let text = "protocol.announce_interval_max = 1952257\nprotocol.announce_interval_spread = 10";
    let loaded = load::<Config>(text).unwrap();
    assert_eq!(loaded.advice, Vec::<String>::new());
    let loaded = load::<Config>("protocol.announce_interval_max = 3600").unwrap();
    let [advice] = &loaded.advice[..] else {
        panic!("{:?}", loaded.advice);
    };
    assert!(advice.contains("announce_interval_spread"), "{advice}");
}

//! The configuration file: its keys, what is wrong in it, and older spellings.

use aquatic_daemon_tests::Place;
use aquatic_daemon_tests::operations::configuration::keys;
use aquatic_types::IpFamily;

use super::client::{Client, LEECHER, row};
use super::connection::Transport;
use super::setup::{HTTP, SIMPLE, Tracker};

pub(crate) const KEYS: [&str; 44] = [
    "socket_workers",
    "swarm_workers",
    "log_level",
    "network.address",
    "network.runtime",
    "network.tcp_backlog",
    "network.max_connections",
    "network.batch_wait_us",
    "network.handshake_timeout",
    "network.request_timeout",
    "network.enable_tls",
    "network.tls_certificate_path",
    "network.tls_private_key_path",
    "network.runs_behind_reverse_proxy",
    "network.reverse_proxy_ip_header_name",
    "network.reverse_proxy_ip_header_format",
    "network.proxy_protocol",
    "network.trusted_proxies",
    "network.keep_alive",
    "protocol.max_scrape_torrents",
    "protocol.max_full_scrape_torrents",
    "protocol.max_peers",
    "protocol.peer_announce_interval",
    "protocol.min_announce_interval",
    "limits.max_torrents",
    "limits.max_peers",
    "limits.max_peers_per_ip",
    "limits.requests_per_second_per_ip",
    "limits.max_connections_per_ip",
    "metrics.interval",
    "metrics.torrent_peer_histograms",
    "metrics.peer_clients",
    "metrics.run_prometheus_endpoint",
    "metrics.prometheus_endpoint_address",
    "metrics.prometheus_peer_id_prefixes",
    "cleaning.torrent_cleaning_interval",
    "cleaning.max_peer_age",
    "cleaning.max_connection_idle",
    "privileges.drop_privileges",
    "privileges.chroot_path",
    "privileges.group",
    "privileges.user",
    "access_list.mode",
    "access_list.path",
];

pub(crate) const MISTAKES: [(&str, &[&str]); 9] = [
    ("network.runtime = 'tokio'", &["line 1", "runtime"]),
    (
        "network.enable_tls = true",
        &["tls_certificate_path", "tls_private_key_path"],
    ),
    (
        "network.trusted_proxies = ['10.0.0.0/33']",
        &["line 1", "trusted_proxies", "10.0.0.0/33"],
    ),
    (
        "network.trusted_proxies = ['nowhere']",
        &["line 1", "trusted_proxies", "nowhere"],
    ),
    (
        "network.proxy_protocol = true\nnetwork.runs_behind_reverse_proxy = true",
        &["proxy_protocol", "runs_behind_reverse_proxy"],
    ),
    (
        "network.reverse_proxy_ip_header_name = 'two words'",
        &["reverse_proxy_ip_header_name"],
    ),
    (
        "network.reverse_proxy_ip_header_format = 'first_address'",
        &["reverse_proxy_ip_header_format", "last_address"],
    ),
    (
        "protocol.max_full_scrape_torrents = 1001",
        &["max_full_scrape_torrents", "at most 1000"],
    ),
    (
        "cleaning.max_peer_age = 120",
        &["peer_announce_interval", "max_peer_age"],
    ),
];

#[test]
fn old_spellings_load_with_a_warning_that_names_the_new_ones() {
    let place = Place::new();
    let port = place.port();
    let old = format!(
        "socket_workers = 1\nlog_level = 'warn'\n\
         [network]\naddress_ipv4 = '127.0.0.1:{port}'\nuse_ipv6 = false\nonly_ipv6 = true\n\
         [statistics]\nrun_prometheus_endpoint = false\n"
    );
    let news = [
        format!("write `network.address = [\"127.0.0.1:{port}\"]`"),
        "`statistics` is now called `metrics`".to_owned(),
        "`network.only_ipv6` is ignored".to_owned(),
    ];
    let file = place.write("old.toml", &old);
    let file = file.to_str().unwrap();
    for flag in ["-P", "--check-config"] {
        let ended = place.run(&HTTP, &["-c", file, flag]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        for new in &news {
            assert!(ended.log.contains(new), "no {new} in\n{}", ended.log);
        }
    }
    let parsed = place.run(&HTTP, &["-c", file, "-P"]).stdout;
    assert_eq!(keys(&parsed), KEYS);

    // And it runs.
    let mut command = place.command(SIMPLE, "");
    place.write("config.toml", &old);
    let tracker = Tracker {
        daemon: place.wait_for(command.spawn().unwrap()),
        transport: Transport::Plain,
    };
    let log = tracker.place.log();
    for new in &news {
        let line = log.lines().find(|line| line.contains(new)).unwrap();
        assert!(
            line.contains("WARN") && line.contains("config.toml: line "),
            "{line}"
        );
    }
    let mut client = Client::new(&tracker, IpFamily::V4);
    let info_hash = aquatic_daemon_tests::torrent(1);
    client.join(info_hash, 1, LEECHER);
    assert_eq!(client.scrape(&[info_hash]), [row(0, 0, 1)]);
}

//! What is tested: the UDP tracker, as the tests that all daemons have in common want to know it.

use aquatic_test_support::operations::configuration::{
    EXPORT_KEYS, LIMIT_KEYS, OldFile, SYSTEM_KEYS, WORKER_KEYS,
};
use aquatic_test_support::{self as common, Daemon, Program, Setup};
use aquatic_types::{AnnounceEvent, InfoHash, IpFamily};
use aquatic_udp_protocol::{AnnounceRequest, Response};

use super::client::{Client, announce_bytes, serves};

pub(crate) static UDP: Program = Program {
    name: "aquatic_udp",
    about: "BitTorrent tracker over UDP",
    version: env!("CARGO_PKG_VERSION"),
    binary: env!("CARGO_BIN_EXE_aquatic_udp"),
    runtime_key: "network.backend",
    runtimes: backends,
    shares_swarms: false,
    has_tls: false,
    metrics_section: "statistics",
    metrics_settings: "statistics.interval = 1\n",
    // A large buffer may not be granted.
    more_threads: &["export", "stdout", "tables", "cluster", "lists"],
    more_threads_settings: "scrape_exports.enable_scrape_exports = true\n\
                            scrape_exports.path = 'export'\n\
                            access_list.mode = 'deny'\n\
                            access_list.path = '/dev/null'\n\
                            cluster.servers = ['nats://127.0.0.1:1']\n\
                            cluster.access_list_bucket = true\n\
                            statistics.print_to_stdout = true\n",
    modest_settings: "network.socket_recv_buffer_size = 100_000\n\
                      network.socket_send_buffer_size = 100_000",
    keys: &KEYS,
    mistakes: &[&[
        ("network.backend = 'glommio'", &["line 1", "backend"]),
        (
            "network.enable_tls = true",
            &[
                "line 1, column 9: unknown `network.enable_tls`: aquatic_http and aquatic_ws have \
                 it, this program has not",
            ],
        ),
        (
            "network.batch_wait_us = 1000",
            &["batch_wait_us", "less than 1000"],
        ),
        (
            "network.xdp = 'filter'",
            &["xdp_interfaces", "at least one interface"],
        ),
        ("network.xdp = 'on'", &["line 1", "network.xdp", "filter"]),
        (
            "scrape_exports.frequency = 0",
            &["line 1", "frequency", "at least 1"],
        ),
    ]],
    old_file: OldFile {
        lines: "use_io_uring = false\n[metrics]\ninterval = 7\n",
        warnings: &[
            "write `network.backend = \"mio\"`",
            "`metrics` is now called `statistics`",
        ],
        lines_today: &["backend = \"mio\"", "interval = 7"],
    },
    client: |ip, tracker| Box::new(Client::connected(ip, tracker)),
    serves,
};

pub(crate) const KEYS: [&[&str]; 8] = [
    &WORKER_KEYS,
    &[
        "network.address",
        "network.only_ipv6",
        "network.backend",
        "network.socket_recv_buffer_size",
        "network.socket_send_buffer_size",
        "network.poll_timeout_ms",
        "network.batch_wait_us",
        "network.resend_buffer_max_len",
        "network.ring_size",
        "network.socket_filter",
        "network.xdp",
        "network.xdp_interfaces",
        "network.xdp_mode",
        "network.xdp_required",
        "network.xdp_answers_per_second",
        "network.xdp_errors_per_second",
        "network.connection_secret_file",
        "protocol.max_scrape_torrents",
        "protocol.max_response_peers",
        "protocol.max_response_peers_per_ip",
        "protocol.peer_announce_interval",
        "protocol.announce_interval_spread",
        "protocol.announce_interval_max",
    ],
    &LIMIT_KEYS,
    &["limits.max_peers_per_ip_and_torrent"],
    &[
        "statistics.interval",
        "statistics.torrent_peer_histograms",
        "statistics.peer_clients",
        "statistics.run_prometheus_endpoint",
        "statistics.prometheus_endpoint_address",
        "statistics.endpoint_unix_socket",
        "statistics.endpoint_token_file",
        "statistics.endpoint_allowed_hosts",
        "statistics.prometheus_peer_id_prefixes",
        "statistics.print_to_stdout",
        "statistics.write_html_to_file",
        "statistics.html_file_path",
        "cleaning.torrent_cleaning_interval",
        "cleaning.max_connection_age",
        "cleaning.max_peer_age",
    ],
    &EXPORT_KEYS,
    &["persistence.swarms"],
    &SYSTEM_KEYS,
];

/// For what does not depend on it.
pub(crate) const SIMPLE: Setup = Setup::simple(&UDP);

impl common::Client for Client {
    fn join(&mut self, info_hash: InfoHash, port: u16) -> Result<u32, String> {
        let answer = self.ask(&announce_bytes(&self.peer(info_hash, port, 1)));
        match self.parse(&answer) {
            Response::Announce(response) => Ok(response.header.leechers),
            Response::Error(error) => Err(String::from_utf8(error.message.to_vec()).unwrap()),
            other => panic!("{other:?}"),
        }
    }

    fn leave(&mut self, info_hash: InfoHash, port: u16) {
        let event = AnnounceEvent::Stopped;
        let peer = self.peer(info_hash, port, 1);
        self.announce(&AnnounceRequest { event, ..peer });
    }

    fn leechers(&mut self, info_hashes: &[InfoHash]) -> Vec<u32> {
        let rows = self.scrape(info_hashes).into_iter();
        rows.map(|row| row.leechers).collect()
    }
}

/// Values of `network.backend` that this machine can do.
pub(crate) fn backends() -> Vec<&'static str> {
    let mut backends = vec!["mio"];
    if io_uring_works() {
        backends.push("io_uring");
    }
    backends
}

#[cfg(target_os = "linux")]
fn io_uring_works() -> bool {
    match aquatic_uring::probe() {
        Ok(()) => true,
        Err(reason) => {
            eprintln!("tested with mio only: {reason}");
            false
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn io_uring_works() -> bool {
    false
}

/// Runs a scenario on all setups at once.
pub(crate) fn on_every_setup(scenario: impl Fn(Setup) + Sync) {
    common::setup::on_every_setup(&UDP, scenario);
}

/// Runs a scenario for both families on a tracker of every setup.
pub(crate) fn on_every_setup_and_family(
    settings: &str,
    scenario: impl Fn(&Daemon, IpFamily) + Sync,
) {
    common::setup::on_every_setup_and_family(&UDP, settings, scenario);
}

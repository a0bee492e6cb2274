//! Which keys a running program applies when it reads its configuration file again.
//!
//! One table for the whole family: a key means the same in all programs that have it. Each program
//! has a test that all of its keys are in it, so that whoever adds a key has to decide.

use toml::Value;

/// What becomes of a key that has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reloading {
    /// It is applied at once.
    Applied,
    /// It is applied at once, but for a change from or to 0: what is limited is counted from the
    /// start on, or not at all.
    AppliedUnlessZero,
    /// The program needs a restart for it.
    NeedsRestart,
}

use Reloading::{Applied, AppliedUnlessZero, NeedsRestart};

/// Each key with its section. The section for metrics is called `metrics` here.
pub const KEYS: &[(&str, Reloading)] = &[
    ("enabled", NeedsRestart),
    ("socket_workers", NeedsRestart),
    ("swarm_workers", NeedsRestart),
    ("log_level", Applied),
    ("hang_timeout", NeedsRestart),
    ("network.address", NeedsRestart),
    ("network.only_ipv6", NeedsRestart),
    ("network.backend", NeedsRestart),
    ("network.socket_recv_buffer_size", NeedsRestart),
    ("network.socket_send_buffer_size", NeedsRestart),
    ("network.poll_timeout_ms", NeedsRestart),
    ("network.batch_wait_us", NeedsRestart),
    ("network.resend_buffer_max_len", NeedsRestart),
    ("network.ring_size", NeedsRestart),
    ("network.socket_filter", NeedsRestart),
    ("network.xdp", NeedsRestart),
    ("network.xdp_interfaces", NeedsRestart),
    ("network.xdp_mode", NeedsRestart),
    ("network.xdp_required", NeedsRestart),
    ("network.xdp_answers_per_second", NeedsRestart),
    ("network.xdp_errors_per_second", NeedsRestart),
    ("network.connection_secret_file", NeedsRestart),
    ("network.runtime", NeedsRestart),
    ("network.tcp_backlog", NeedsRestart),
    ("network.max_connections", NeedsRestart),
    ("network.max_connection_memory", NeedsRestart),
    ("network.handshake_timeout", Applied),
    ("network.request_timeout", Applied),
    ("network.enable_tls", NeedsRestart),
    ("network.tls_certificate_path", NeedsRestart),
    ("network.tls_private_key_path", NeedsRestart),
    ("network.runs_behind_reverse_proxy", NeedsRestart),
    ("network.reverse_proxy_ip_header_name", NeedsRestart),
    ("network.reverse_proxy_ip_header_format", NeedsRestart),
    ("network.proxy_protocol", NeedsRestart),
    ("network.trusted_proxies", NeedsRestart),
    ("network.keep_alive", Applied),
    ("network.ping_interval", Applied),
    ("network.drain_period", NeedsRestart),
    ("network.websocket_max_message_size", NeedsRestart),
    ("network.websocket_max_frame_size", NeedsRestart),
    ("network.websocket_write_buffer_size", NeedsRestart),
    ("network.enable_http_health_checks", Applied),
    ("network.allowed_origins", Applied),
    ("protocol.max_scrape_torrents", Applied),
    ("protocol.max_full_scrape_torrents", Applied),
    ("protocol.max_response_peers", Applied),
    ("protocol.max_peers", Applied),
    ("protocol.max_response_peers_per_ip", Applied),
    ("protocol.peer_announce_interval", Applied),
    ("protocol.min_announce_interval", Applied),
    ("protocol.announce_interval_spread", Applied),
    ("protocol.announce_interval_max", Applied),
    ("protocol.max_offers", Applied),
    ("protocol.max_offer_size", Applied),
    ("protocol.max_offers_per_second_per_receiver", Applied),
    ("protocol.max_torrents_per_connection", Applied),
    ("limits.max_torrents", Applied),
    ("limits.max_peers", Applied),
    ("limits.max_swarm_memory", NeedsRestart),
    ("limits.max_peers_per_ip", AppliedUnlessZero),
    ("limits.requests_per_second_per_ip", Applied),
    ("limits.max_connections_per_ip", Applied),
    ("limits.max_peers_per_ip_and_torrent", AppliedUnlessZero),
    ("metrics.interval", Applied),
    ("metrics.torrent_peer_histograms", NeedsRestart),
    ("metrics.peer_clients", NeedsRestart),
    ("metrics.run_prometheus_endpoint", NeedsRestart),
    ("metrics.prometheus_endpoint_address", NeedsRestart),
    ("metrics.endpoint_unix_socket", NeedsRestart),
    ("metrics.endpoint_token_file", NeedsRestart),
    ("metrics.endpoint_allowed_hosts", NeedsRestart),
    ("metrics.prometheus_peer_id_prefixes", NeedsRestart),
    ("metrics.print_to_stdout", NeedsRestart),
    ("metrics.write_html_to_file", NeedsRestart),
    ("metrics.html_file_path", NeedsRestart),
    ("cleaning.torrent_cleaning_interval", Applied),
    ("cleaning.max_connection_age", NeedsRestart),
    ("cleaning.max_peer_age", Applied),
    ("cleaning.max_connection_idle", Applied),
    ("cleaning.max_offer_age", Applied),
    ("cleaning.close_after_tls_update_grace_period", Applied),
    ("scrape_exports.enable_scrape_exports", NeedsRestart),
    ("scrape_exports.frequency", Applied),
    ("scrape_exports.path", NeedsRestart),
    ("persistence.swarms", NeedsRestart),
    ("persistence.completed_counts", NeedsRestart),
    ("persistence.path", NeedsRestart),
    ("persistence.interval", Applied),
    ("cluster.servers", NeedsRestart),
    ("cluster.name", NeedsRestart),
    ("cluster.node", NeedsRestart),
    ("cluster.credentials_file", NeedsRestart),
    ("cluster.tls_ca_file", NeedsRestart),
    ("cluster.tls_certificate_file", NeedsRestart),
    ("cluster.tls_private_key_file", NeedsRestart),
    ("cluster.require_tls", NeedsRestart),
    ("cluster.flush_interval", NeedsRestart),
    ("cluster.refresh_interval", NeedsRestart),
    ("cluster.publish_buffer", NeedsRestart),
    ("cluster.history", NeedsRestart),
    ("cluster.start_complete_within", NeedsRestart),
    ("cluster.access_list_bucket", NeedsRestart),
    ("cluster.keys_bucket", NeedsRestart),
    ("cluster.announces", NeedsRestart),
    ("cluster.announces_buffer", NeedsRestart),
    ("privileges.drop_privileges", NeedsRestart),
    ("privileges.chroot_path", NeedsRestart),
    ("privileges.group", NeedsRestart),
    ("privileges.user", NeedsRestart),
    ("privileges.sandbox", NeedsRestart),
    ("access_list.mode", NeedsRestart),
    ("access_list.path", NeedsRestart),
    ("access_list.networks_deny_path", NeedsRestart),
    ("access_list.peer_id_prefixes_deny", Applied),
    ("access_list.peer_id_prefixes_allow", Applied),
    ("keys.mode", NeedsRestart),
    ("keys.path", NeedsRestart),
];

/// What becomes of this key, which is written with its section; for a program of several protocols,
/// also with that of the protocol. `None`: nobody has decided.
#[must_use]
pub fn of(key: &str) -> Option<Reloading> {
    let of_protocol = ["udp.", "http.", "ws."]
        .iter()
        .find_map(|protocol| key.strip_prefix(protocol));
    let key = of_protocol.unwrap_or(key);
    let key = key
        .strip_prefix("statistics.")
        .map_or_else(|| key.to_owned(), |key| format!("metrics.{key}"));
    let mut decided = KEYS.iter().filter(|(known, _)| *known == key);
    decided.next().map(|(_, reloading)| *reloading)
}

/// Whether a change of this key is applied at once.
pub(crate) fn is_applied(key: &str, from: &Value, to: &Value) -> bool {
    let is_zero = |value: &Value| value.as_integer() == Some(0);
    match of(key) {
        Some(Applied) => true,
        Some(AppliedUnlessZero) => !is_zero(from) && !is_zero(to),
        Some(NeedsRestart) | None => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::family;

    #[test]
    fn each_key_has_been_decided_upon_once() {
        let keys: BTreeSet<_> = KEYS.iter().map(|(key, _)| *key).collect();
        assert_eq!(keys.len(), KEYS.len());
        for (key, _) in family::KEYS {
            assert!(keys.contains(key), "{key}");
        }
        assert_eq!(of("statistics.interval"), Some(Applied));
        assert_eq!(of("statistics.path"), None);
        assert_eq!(of("http.network.keep_alive"), Some(Applied));
    }
}

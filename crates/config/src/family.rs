//! Keys that some programs of the family have and others have not.
//!
//! Operators copy from one program's file into another's. So a key that is unknown here is looked
//! up here, and the complaint says whose it is.

/// Those that have a key, by name.
pub type Programs = &'static [&'static str];

const UDP: Programs = &["aquatic_udp"];
const HTTP: Programs = &["aquatic_http"];
const WS: Programs = &["aquatic_ws"];
const ADDRESSES: Programs = &["aquatic_udp", "aquatic_http"];
const STREAM: Programs = &["aquatic_http", "aquatic_ws"];

/// Keys with their sections, and the programs that have them. Keys that all have are left out.
///
/// The section for metrics is called `statistics` in one program and `metrics` in the others, and
/// either name is understood everywhere; here it is `metrics`.
pub const KEYS: &[(&str, Programs)] = &[
    ("network.backend", UDP),
    ("network.socket_recv_buffer_size", UDP),
    ("network.socket_send_buffer_size", UDP),
    ("network.poll_timeout_ms", UDP),
    ("network.resend_buffer_max_len", UDP),
    ("network.ring_size", UDP),
    ("network.socket_filter", UDP),
    ("network.xdp", UDP),
    ("network.xdp_interfaces", UDP),
    ("network.xdp_mode", UDP),
    ("network.xdp_required", UDP),
    ("network.xdp_answers_per_second", UDP),
    ("network.xdp_errors_per_second", UDP),
    ("network.connection_secret_file", UDP),
    ("network.runtime", STREAM),
    ("network.tcp_backlog", STREAM),
    ("network.max_connections", STREAM),
    ("network.max_connection_memory", STREAM),
    ("network.handshake_timeout", STREAM),
    ("network.request_timeout", STREAM),
    ("network.enable_tls", STREAM),
    ("network.tls_certificate_path", STREAM),
    ("network.tls_private_key_path", STREAM),
    ("network.runs_behind_reverse_proxy", STREAM),
    ("network.reverse_proxy_ip_header_name", STREAM),
    ("network.reverse_proxy_ip_header_format", STREAM),
    ("network.proxy_protocol", STREAM),
    ("network.trusted_proxies", STREAM),
    ("network.keep_alive", HTTP),
    ("network.drain_period", WS),
    ("network.ping_interval", WS),
    ("network.websocket_max_message_size", WS),
    ("network.websocket_max_frame_size", WS),
    ("network.websocket_write_buffer_size", WS),
    ("network.enable_http_health_checks", STREAM),
    ("network.allowed_origins", WS),
    ("protocol.max_response_peers", UDP),
    ("protocol.max_response_peers_per_ip", ADDRESSES),
    ("protocol.max_full_scrape_torrents", HTTP),
    ("protocol.max_peers", HTTP),
    ("protocol.min_announce_interval", HTTP),
    ("protocol.max_offers", WS),
    ("protocol.max_offer_size", WS),
    ("protocol.max_offers_per_second_per_receiver", WS),
    ("protocol.max_torrents_per_connection", WS),
    ("limits.max_connections_per_ip", STREAM),
    ("cleaning.max_connection_age", UDP),
    ("cleaning.max_connection_idle", STREAM),
    ("cleaning.max_offer_age", WS),
    ("cleaning.close_after_tls_update_grace_period", WS),
    ("persistence.swarms", ADDRESSES),
];

/// What other programs call a key, and the key of ours.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("port", "network.address"),
    ("listen", "network.address"),
    ("listen_address", "network.address"),
    ("bind", "network.address"),
    ("bind_address", "network.address"),
    ("host", "network.address"),
    ("workers", "socket_workers"),
    ("threads", "socket_workers"),
    ("announce_interval", "protocol.peer_announce_interval"),
    ("loglevel", "log_level"),
    ("cert", "network.tls_certificate_path"),
    ("certificate", "network.tls_certificate_path"),
    ("key", "network.tls_private_key_path"),
    ("private_key", "network.tls_private_key_path"),
    ("tls", "network.enable_tls"),
    ("ssl", "network.enable_tls"),
    ("whitelist", "access_list.path"),
    ("blacklist", "access_list.path"),
    ("networks_deny", "access_list.networks_deny_path"),
    ("banned_networks", "access_list.networks_deny_path"),
    ("peer_id_blacklist", "access_list.peer_id_prefixes_deny"),
    ("peer_id_whitelist", "access_list.peer_id_prefixes_allow"),
];

/// What a key may be that another program calls so.
pub(crate) fn ours(path: &str) -> Option<&'static str> {
    let name = path.rsplit('.').next()?.to_ascii_lowercase();
    let known = OTHER_NAMES.iter().find(|(other, _)| *other == name);
    known.map(|(_, ours)| *ours)
}

/// Who has this key. `path` is written with its section.
pub(crate) fn programs_with_key(path: &str) -> Option<Programs> {
    let path = path
        .strip_prefix("statistics.")
        .map_or_else(|| path.to_owned(), |key| format!("metrics.{key}"));
    // A key that stands above all sections has lost its own.
    let is_meant = |known: &str| {
        known == path || !path.contains('.') && known.rsplit('.').next() == Some(&*path)
    };
    let known = KEYS.iter().find(|(known, _)| is_meant(known));
    known.map(|(_, programs)| *programs)
}

/// `aquatic_http and aquatic_ws have it`
pub(crate) fn owners(programs: Programs) -> String {
    let verb = if programs.len() == 1 { "has" } else { "have" };
    format!("{} {verb} it, this program has not", programs.join(" and "))
}

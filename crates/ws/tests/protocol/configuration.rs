//! The configuration file: its keys, what is wrong in it, and older spellings.

use aquatic_test_support::operations::checking;
use aquatic_test_support::operations::configuration::{
    EXPORT_KEYS, LIMIT_KEYS, METRICS_KEYS, Mistake, OldFile, STREAM_KEYS, STREAM_MISTAKES,
    SYSTEM_KEYS, WORKER_KEYS,
};

use super::setup::WS;

pub(crate) const KEYS: [&[&str]; 9] = [
    &WORKER_KEYS,
    &STREAM_KEYS,
    &[
        "network.websocket_max_message_size",
        "network.websocket_max_frame_size",
        "network.websocket_write_buffer_size",
        "network.ping_interval",
        "network.drain_period",
        "network.enable_http_health_checks",
        "network.allowed_origins",
        "protocol.max_scrape_torrents",
        "protocol.max_offers",
        "protocol.max_offer_size",
        "protocol.max_offers_per_second_per_receiver",
        "protocol.max_torrents_per_connection",
        "protocol.peer_announce_interval",
        "protocol.announce_interval_spread",
        "protocol.announce_interval_max",
    ],
    &LIMIT_KEYS,
    &[
        "limits.max_connections_per_ip",
        "limits.max_peers_per_ip_and_torrent",
    ],
    &METRICS_KEYS,
    &[
        "cleaning.torrent_cleaning_interval",
        "cleaning.max_peer_age",
        "cleaning.max_offer_age",
        "cleaning.max_connection_idle",
        "cleaning.close_after_tls_update_grace_period",
    ],
    &EXPORT_KEYS,
    &SYSTEM_KEYS,
];

pub(crate) const MISTAKES: [&[Mistake]; 2] = [
    &STREAM_MISTAKES,
    &[
        (
            "protocol.max_torrents_per_connection = 0",
            &["max_torrents_per_connection", "1 to 10000"],
        ),
        (
            "network.allowed_origins = ['example.com']",
            &["allowed_origins", "example.com"],
        ),
    ],
];

pub(crate) const OLD_FILE: OldFile = OldFile {
    lines: "[cleaning]\nconnection_cleaning_interval = 30\n\
            [metrics]\ntorrent_count_update_interval = 7\n",
    warnings: &[
        "`metrics.torrent_count_update_interval` is now called `metrics.interval`",
        "`cleaning.connection_cleaning_interval` is ignored",
    ],
    lines_today: &["interval = 7"],
};

#[test]
fn certificate_and_key_are_opened() {
    checking::certificate_and_key_are_opened(&WS);
}

#[test]
fn a_machine_that_grants_less_is_told_of() {
    checking::a_machine_that_grants_less_is_told_of(&WS);
}

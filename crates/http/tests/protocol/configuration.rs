//! The configuration file: its keys, what is wrong in it, and older spellings.

use aquatic_test_support::operations::checking;
use aquatic_test_support::operations::configuration::{
    EXPORT_KEYS, LIMIT_KEYS, METRICS_KEYS, Mistake, OldFile, STREAM_KEYS, STREAM_MISTAKES,
    SYSTEM_KEYS, WORKER_KEYS,
};

use super::setup::HTTP;

pub(crate) const KEYS: [&[&str]; 10] = [
    &WORKER_KEYS,
    &STREAM_KEYS,
    &[
        "network.keep_alive",
        "network.enable_http_health_checks",
        "protocol.max_scrape_torrents",
        "protocol.max_full_scrape_torrents",
        "protocol.max_peers",
        "protocol.max_response_peers_per_ip",
        "protocol.peer_announce_interval",
        "protocol.min_announce_interval",
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
        "cleaning.max_connection_idle",
    ],
    &EXPORT_KEYS,
    &["persistence.swarms"],
    &SYSTEM_KEYS,
];

pub(crate) const MISTAKES: [&[Mistake]; 2] = [
    &STREAM_MISTAKES,
    &[(
        "protocol.max_full_scrape_torrents = 1001",
        &["max_full_scrape_torrents", "at most 1000"],
    )],
];

pub(crate) const OLD_FILE: OldFile = OldFile {
    lines: "[statistics]\ninterval = 7\n[cleaning]\nconnection_cleaning_interval = 60\n",
    warnings: &[
        "`statistics` is now called `metrics`",
        "`cleaning.connection_cleaning_interval` is ignored",
    ],
    lines_today: &["interval = 7"],
};

#[test]
fn certificate_and_key_are_opened() {
    checking::certificate_and_key_are_opened(&HTTP);
}

#[test]
fn a_machine_that_grants_less_is_told_of() {
    checking::a_machine_that_grants_less_is_told_of(&HTTP);
}

//! Limits per client and per shard.

use std::num::{NonZeroU8, NonZeroU16, NonZeroUsize};
use std::sync::Arc;

use aquatic_config::LimitsConfig;
use aquatic_daemon::per_client::PerClient;
use aquatic_swarm::Limits;

use crate::config::AddressLimitsConfig;

/// What one of `shards` shards may hold.
#[must_use]
pub fn per_shard(config: &LimitsConfig, shards: usize) -> Limits {
    let share = |limit: usize| NonZeroUsize::new(limit.div_ceil(shards.max(1)));
    Limits {
        max_torrents: share(config.max_torrents),
        max_peers: share(config.max_peers),
        ..Limits::default()
    }
}

/// The same, for a tracker whose peers are addresses. `response_peers_per_ip_max` is how many peers
/// of one address an answer has if there are others; 0 = any number.
#[must_use]
pub fn per_shard_and_address(
    config: &LimitsConfig,
    shards: usize,
    addresses: &AddressLimitsConfig,
    response_peers_per_ip_max: u8,
) -> Limits {
    Limits {
        max_peers_per_network: NonZeroU16::new(addresses.max_peers_per_ip_and_torrent),
        max_response_peers_per_network: NonZeroU8::new(response_peers_per_ip_max),
        ..per_shard(config, shards)
    }
}

/// `limits.max_peers_per_ip`, for the tracker as a whole: all shards share it.
#[must_use]
pub fn peers_per_ip(config: &LimitsConfig) -> Option<Arc<PerClient>> {
    NonZeroUsize::new(config.max_peers_per_ip).map(|max| Arc::new(PerClient::new(max)))
}

//! Limits per client and per shard.

use std::num::{NonZeroU8, NonZeroU16, NonZeroUsize};
use std::sync::Arc;

use aquatic_config::{LimitsConfig, MemoryLimit};
use aquatic_daemon::memory_at_hand::{self, MemoryAtHand};
use aquatic_daemon::per_client::PerClientLimit;
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

/// What the torrents of one of `shards` shards may take, in bytes; `None` means no bound. A share
/// of the memory at hand must have been [settled](settle_memory).
#[must_use]
pub fn bytes_per_shard(config: &LimitsConfig, shards: usize) -> Option<NonZeroUsize> {
    let bytes = config.max_swarm_memory.bytes(None)?;
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    NonZeroUsize::new(bytes / shards.max(1))
}

/// Makes `limits.max_swarm_memory` a number of bytes, and tells it in the log. To be called once,
/// at the start of the daemon, before its sandbox closes.
pub fn settle_memory(config: &mut LimitsConfig) {
    let at_hand = MemoryAtHand::find();
    let limit = config.max_swarm_memory;
    let bytes = memory_at_hand::resolve("limits.max_swarm_memory", limit, at_hand);
    config.max_swarm_memory = bytes.map_or(MemoryLimit::Off, MemoryLimit::Bytes);
}

/// `limits.max_peers_per_ip`, for the tracker as a whole: all shards share it.
#[must_use]
pub fn peers_per_ip(config: &LimitsConfig) -> Option<Arc<PerClientLimit>> {
    NonZeroUsize::new(config.max_peers_per_ip).map(|max| Arc::new(PerClientLimit::new(max)))
}

//! Limits per client and per shard.

use std::num::{NonZeroU8, NonZeroU16, NonZeroUsize};
use std::sync::Arc;

use aquatic_config::{LimitsConfig, MemoryLimit};
use aquatic_daemon::memory_at_hand::{self, MemoryAtHand};
use aquatic_daemon::per_client::PerClientLimit;
use aquatic_daemon::request_rate::RequestRate;
use aquatic_swarm::Limits;

use crate::config::AddressLimitsConfig;
use crate::entropy::Entropy;
use crate::interval::Stretch;

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

/// What a client may have and do in the process as a whole, whatever the protocol: all workers
/// share it.
#[derive(Clone, Debug)]
pub struct ClientLimits {
    /// `limits.max_peers_per_ip`, if peers are limited.
    pub peers_per_ip: Option<Arc<PerClientLimit>>,
    /// `limits.requests_per_second_per_ip`.
    pub request_rate: Arc<RequestRate>,
    /// By how much it is told to announce later than usual.
    pub stretch: Stretch,
}

impl Default for ClientLimits {
    /// Nobody is limited.
    fn default() -> Self {
        Self {
            peers_per_ip: None,
            request_rate: Arc::new(RequestRate::new(None, [0; 2])),
            stretch: Stretch::default(),
        }
    }
}

impl ClientLimits {
    /// As configured.
    ///
    /// # Errors
    /// If the source of randomness fails.
    pub fn from_config(config: &LimitsConfig, entropy: &mut impl Entropy) -> anyhow::Result<Self> {
        let peers_max = NonZeroUsize::new(config.max_peers_per_ip);
        Ok(Self {
            peers_per_ip: peers_max.map(|max| Arc::new(PerClientLimit::new(max))),
            request_rate: RequestRate::from_config(config, entropy.key()?),
            stretch: Stretch::default(),
        })
    }
}

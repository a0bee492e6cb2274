//! Limits per client and per shard.

use std::hash::Hasher;
use std::net::IpAddr;
use std::num::{NonZeroU8, NonZeroU16, NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aquatic_config::LimitsConfig;
use aquatic_daemon::per_client::PerClient;
use aquatic_swarm::Limits;
use aquatic_types::client_network;
use siphasher::sip::SipHasher13;

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

/// `limits.requests_per_second_per_ip`: a request is served if its client stayed below the rate, on
/// average over about a second (the generic cell rate algorithm). All workers share it.
///
/// A client is an IPv4 address or an IPv6 /64 network ([`client_network`]).
///
/// Memory is fixed, whatever strangers send: clients share 2^20 cells by a keyed hash. Two clients
/// that share a cell share the rate, which is rare and cannot be aimed at.
pub struct RequestRate {
    cells: Box<[AtomicU64]>,
    hasher: SipHasher13,
    nanos_per_request: u64,
}

impl RequestRate {
    const CELLS: usize = 1 << 20;
    /// A client that was silent may send this long's worth of requests at once.
    const BURST_NANOS: u64 = 1_000_000_000;

    /// As configured, if there is a limit. `secret` must be unpredictable to strangers.
    #[must_use]
    pub fn from_config(config: &LimitsConfig, secret: [u64; 2]) -> Option<Arc<Self>> {
        let rate = NonZeroU32::new(config.requests_per_second_per_ip)?;
        Some(Arc::new(Self::new(rate, secret)))
    }

    /// `secret` must be unpredictable to strangers.
    #[must_use]
    pub fn new(requests_per_second: NonZeroU32, secret: [u64; 2]) -> Self {
        let [key0, key1] = secret;
        Self {
            cells: (0..Self::CELLS).map(|_| AtomicU64::new(0)).collect(),
            hasher: SipHasher13::new_with_keys(key0, key1),
            // In nanoseconds, because in microseconds those of a high rate would be 0: no limit.
            nanos_per_request: (1_000_000_000 / u64::from(requests_per_second.get())).max(1),
        }
    }

    /// Whether a request that arrives now may be served; if so it is counted.
    pub fn allows(&self, now_micros: u64, ip: IpAddr) -> bool {
        let mut hasher = self.hasher;
        hasher.write_u64(client_network(ip));
        let place = usize::try_from(hasher.finish()).unwrap_or_default() % Self::CELLS;
        let Some(cell) = self.cells.get(place) else {
            return true;
        };
        // A cell holds the time at which its client will have paid for all it has sent. Losing a
        // race to another worker lets one request through uncounted, which does not matter.
        let now_nanos = now_micros.saturating_mul(1_000);
        let paid = cell.load(Ordering::Relaxed).max(now_nanos);
        let allowed = paid - now_nanos < Self::BURST_NANOS;
        if allowed {
            cell.store(paid + self.nanos_per_request, Ordering::Relaxed);
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use aquatic_config::REQUESTS_PER_SECOND_MAX;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn rate_is_kept_after_a_burst() {
        let rate = RequestRate::new(NonZeroU32::new(100).unwrap(), [1, 2]);
        let mut served = 0;
        // 1,000 requests/s for ten seconds.
        for request in 0..10_000_u64 {
            served += u32::from(rate.allows(5_000_000 + request * 1_000, ip("192.0.2.1")));
        }
        assert!(
            (1_090..=1_110).contains(&served),
            "{served}: 100 at once, then 100 per second"
        );
        assert!(
            rate.allows(5_000_000, ip("192.0.2.2")),
            "another client is not affected"
        );
    }

    /// Rates that no client keeps up with hold, too.
    #[test]
    fn high_rates_are_kept() {
        for per_second in [999_999, 1_000_001, 3_000_000, REQUESTS_PER_SECOND_MAX] {
            let rate = RequestRate::new(NonZeroU32::new(per_second).unwrap(), [1, 2]);
            let served = (0..2 * per_second).filter(|_| rate.allows(5_000_000, ip("192.0.2.1")));
            let served = u32::try_from(served.count()).unwrap();
            assert!(
                served.abs_diff(per_second) <= per_second / 100,
                "{served} of {per_second}"
            );
        }
    }

    #[test]
    fn below_the_rate_nothing_is_refused() {
        let rate = RequestRate::new(NonZeroU32::new(100).unwrap(), [1, 2]);
        for request in 0..10_000 {
            assert!(rate.allows(request * 10_000, ip("192.0.2.1")));
        }
    }
}

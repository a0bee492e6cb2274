//! Limits per client, for the tracker as a whole: all workers share them.
//!
//! Both take an IPv6 client by its /64 network, since that is what one subscriber gets: each of
//! its 2^64 addresses would be a client of its own otherwise.

use std::hash::Hasher;
use std::net::IpAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use hashbrown::HashMap;
use siphasher::sip::SipHasher13;

/// Who counts as one client: an IPv4 address or an IPv6 /64 network.
fn client_of(ip: IpAddr) -> u64 {
    match ip {
        // The documentation prefix of IPv6 cannot send packets, so it is free to hold IPv4.
        IpAddr::V4(ip) => 0x2001_0db8_0000_0000 | u64::from(u32::from(ip)),
        IpAddr::V6(ip) => u64::try_from(u128::from(ip) >> 64).unwrap_or(u64::MAX),
    }
}

/// `limits.requests_per_second_per_ip`: a request is served if its client stayed below the rate, on
/// average over about a second (the generic cell rate algorithm).
///
/// Memory is fixed, whatever strangers send: clients share 2^20 cells by a keyed hash. Two clients
/// that share a cell share the rate, which is rare and cannot be aimed at.
pub struct RequestRate {
    cells: Box<[AtomicU64]>,
    hasher: SipHasher13,
    micros_per_request: u64,
}

impl RequestRate {
    const CELLS: usize = 1 << 20;
    /// A client that was silent may send this long's worth of requests at once.
    const BURST_MICROS: u64 = 1_000_000;

    /// `secret` must be unpredictable to strangers.
    #[must_use]
    pub fn new(requests_per_second: NonZeroU32, secret: [u64; 2]) -> Self {
        let [key0, key1] = secret;
        Self {
            cells: (0..Self::CELLS).map(|_| AtomicU64::new(0)).collect(),
            hasher: SipHasher13::new_with_keys(key0, key1),
            micros_per_request: 1_000_000 / u64::from(requests_per_second.get()),
        }
    }

    /// Whether a request that arrives now may be served; if so it is counted.
    pub fn allows(&self, now_micros: u64, ip: IpAddr) -> bool {
        let mut hasher = self.hasher;
        hasher.write_u64(client_of(ip));
        let place = usize::try_from(hasher.finish()).unwrap_or_default() % Self::CELLS;
        let Some(cell) = self.cells.get(place) else {
            return true;
        };
        // A cell holds the time at which its client will have paid for all it has sent. Losing a
        // race to another worker lets one request through uncounted, which does not matter.
        let paid = cell.load(Ordering::Relaxed).max(now_micros);
        let allowed = paid - now_micros < Self::BURST_MICROS;
        if allowed {
            cell.store(paid + self.micros_per_request, Ordering::Relaxed);
        }
        allowed
    }
}

/// `limits.max_peers_per_ip`: how many peers of one client there are, over all torrents.
///
/// Only touched when a peer comes or goes, which is much rarer than announces; so plain locks do.
pub struct PeersPerIp {
    max: u32,
    stripes: Box<[Mutex<HashMap<u64, u32>>]>,
}

impl PeersPerIp {
    const STRIPES: usize = 64;

    /// At most `max` peers per client.
    #[must_use]
    pub fn new(max: NonZeroUsize) -> Self {
        Self {
            max: u32::try_from(max.get()).unwrap_or(u32::MAX),
            stripes: (0..Self::STRIPES).map(|_| Mutex::default()).collect(),
        }
    }

    /// Counts a new peer, unless there are too many.
    pub fn admit(&self, ip: IpAddr) -> bool {
        self.with_count(ip, |count| {
            let admitted = *count < self.max;
            *count += u32::from(admitted);
            admitted
        })
    }

    /// Counts a peer that has gone.
    pub fn release(&self, ip: IpAddr) {
        self.with_count(ip, |count| {
            *count = count.saturating_sub(1);
            true
        });
    }

    fn with_count(&self, ip: IpAddr, change: impl FnOnce(&mut u32) -> bool) -> bool {
        let client = client_of(ip);
        // The low bits of an IPv4 address and the low bits of an IPv6 network both vary.
        let place = usize::try_from(client).unwrap_or_default() % Self::STRIPES;
        let Some(stripe) = self.stripes.get(place) else {
            return true;
        };
        let mut counts = stripe.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(client).or_default();
        let answer = change(count);
        if *count == 0 {
            counts.remove(&client);
        }
        answer
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn below_the_rate_nothing_is_refused() {
        let rate = RequestRate::new(NonZeroU32::new(100).unwrap(), [1, 2]);
        for request in 0..10_000 {
            assert!(rate.allows(request * 10_000, ip("192.0.2.1")));
        }
    }

    #[test]
    fn an_ipv6_network_is_one_client() {
        let peers = PeersPerIp::new(NonZeroUsize::new(2).unwrap());
        assert!(peers.admit(ip("2001:db8:1:2::1")));
        assert!(peers.admit(ip("2001:db8:1:2::ffff")));
        assert!(!peers.admit(ip("2001:db8:1:2:3::")));
        assert!(peers.admit(ip("2001:db8:1:3::1")));
    }

    #[test]
    fn leaving_makes_room() {
        let peers = PeersPerIp::new(NonZeroUsize::new(1).unwrap());
        let client = ip("192.0.2.1");
        assert!(peers.admit(client));
        assert!(!peers.admit(client));
        peers.release(client);
        assert!(peers.admit(client));
        peers.release(client);
        peers.release(client);
        assert!(
            peers
                .stripes
                .iter()
                .all(|stripe| stripe.lock().unwrap().is_empty())
        );
    }
}

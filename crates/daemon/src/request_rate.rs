//! How many requests per second each client may send.

use std::fmt::Debug;
use std::hash::Hasher;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use aquatic_config::LimitsConfig;
use aquatic_types::{CLIENTS_PER_SITE, client_network, client_site};
use siphasher::sip::SipHasher13;

/// `limits.requests_per_second_per_ip`: a request is served if its client stayed below the rate, on
/// average over about a second (the generic cell rate algorithm). All workers share it.
///
/// A client is an IPv4 address or an IPv6 /64 network ([`client_network`]). An IPv6 /48 network has
/// [`CLIENTS_PER_SITE`] times the rate.
///
/// Memory is fixed, whatever strangers send: clients and sites share 2^20 cells by a keyed hash.
/// Two that share a cell share the rate, which is rare and cannot be aimed at. There are no cells
/// before a request is limited.
#[derive(Debug)]
pub struct RequestRate {
    cells: OnceLock<Cells>,
    hasher: SipHasher13,
    secret: [u64; 2],
    /// 0: there is no limit.
    nanos_per_request: AtomicU64,
}

/// Memory that somebody else counts in as well: [`RequestRate::CELLS`] numbers.
pub trait LentCells: Debug + Send + Sync {
    /// The one at a place.
    fn get(&self, place: usize) -> Option<&AtomicU64>;

    /// What one request takes of a client's time from now on, in nanoseconds; 0: there is no limit.
    fn set_nanos_per_request(&self, nanos: u64);
}

#[derive(Debug)]
enum Cells {
    Own(Box<[AtomicU64]>),
    Lent(Box<dyn LentCells>),
}

impl Cells {
    fn own() -> Self {
        Self::Own((0..RequestRate::CELLS).map(|_| AtomicU64::new(0)).collect())
    }

    #[inline]
    fn get(&self, place: usize) -> Option<&AtomicU64> {
        match self {
            Self::Own(cells) => cells.get(place),
            Self::Lent(cells) => cells.get(place),
        }
    }
}

/// A cell that has room for a request.
struct Account<'a> {
    cell: &'a AtomicU64,
    /// When its client will have paid for all that it has sent before.
    paid_nanos: u64,
}

impl RequestRate {
    /// How many cells there are.
    pub const CELLS: usize = 1 << 20;
    /// A client that was silent may send this long's worth of requests at once.
    const BURST_NANOS: u64 = 1_000_000_000;

    /// As configured. `secret` must be unpredictable to strangers.
    #[must_use]
    pub fn from_config(config: &LimitsConfig, secret: [u64; 2]) -> Arc<Self> {
        let rate = NonZeroU32::new(config.requests_per_second_per_ip);
        Arc::new(Self::new(rate, secret))
    }

    /// `None`: any number of requests. `secret` must be unpredictable to strangers.
    #[must_use]
    pub fn new(requests_per_second: Option<NonZeroU32>, secret: [u64; 2]) -> Self {
        let [key0, key1] = secret;
        let rate = Self {
            cells: OnceLock::new(),
            hasher: SipHasher13::new_with_keys(key0, key1),
            secret,
            nanos_per_request: AtomicU64::new(0),
        };
        rate.set(requests_per_second);
        rate
    }

    /// Allows so many requests per second from now on; `None`: any number.
    pub fn set(&self, requests_per_second: Option<NonZeroU32>) {
        let nanos = requests_per_second.map_or(0, |rate| {
            // In nanoseconds, because in microseconds those of a high rate would be 0: no limit.
            1_000_000_000 / u64::from(rate.get())
        });
        self.nanos_per_request.store(nanos, Ordering::Relaxed);
        self.tell_lender();
    }

    /// Counts in these cells, if it has not begun to count in its own. Whoever lends them hears of
    /// the rate now, and whenever it changes. To be called before it does.
    pub fn count_in(&self, cells: Box<dyn LentCells>) {
        let _ = self.cells.set(Cells::Lent(cells));
        self.tell_lender();
    }

    fn tell_lender(&self) {
        if let Some(Cells::Lent(cells)) = self.cells.get() {
            cells.set_nanos_per_request(self.nanos_per_request.load(Ordering::Relaxed));
        }
    }

    /// What clients share cells by: for whoever counts in the same ones, and nobody else.
    #[must_use]
    pub fn secret(&self) -> [u64; 2] {
        self.secret
    }

    /// Whether a request that arrives now may be served; if so it is counted.
    #[inline]
    pub fn allows(&self, now_micros: u64, ip: IpAddr) -> bool {
        match self.nanos_per_request.load(Ordering::Relaxed) {
            0 => true,
            nanos => self.allows_one_in(nanos, now_micros, ip),
        }
    }

    fn allows_one_in(&self, nanos_per_request: u64, now_micros: u64, ip: IpAddr) -> bool {
        let now_nanos = now_micros.saturating_mul(1_000);
        let client = client_network(ip);
        let Some(own) = self.account(client, now_nanos) else {
            return false;
        };
        if let Some(site) = client_site(client) {
            let Some(account) = self.account(site, now_nanos) else {
                return false;
            };
            account.charge((nanos_per_request / u64::from(CLIENTS_PER_SITE)).max(1));
        }
        own.charge(nanos_per_request);
        true
    }

    /// The account of a client or site, if it has room.
    fn account(&self, whose: u64, now_nanos: u64) -> Option<Account<'_>> {
        let mut hasher = self.hasher;
        hasher.write_u64(whose);
        let place = usize::try_from(hasher.finish()).unwrap_or_default() % Self::CELLS;
        let cell = self.cells.get_or_init(Cells::own).get(place)?;
        let paid_nanos = cell.load(Ordering::Relaxed).max(now_nanos);
        (paid_nanos - now_nanos < Self::BURST_NANOS).then_some(Account { cell, paid_nanos })
    }
}

impl Account<'_> {
    /// Losing a race to another worker lets one request through uncounted, which does not matter.
    fn charge(self, nanos: u64) {
        self.cell.store(self.paid_nanos + nanos, Ordering::Relaxed);
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
        let rate = RequestRate::new(NonZeroU32::new(100), [1, 2]);
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
        let rate = RequestRate::new(NonZeroU32::new(100), [1, 2]);
        for request in 0..10_000 {
            assert!(rate.allows(request * 10_000, ip("192.0.2.1")));
        }
    }

    #[test]
    fn a_rate_begins_changes_and_ends() {
        let rate = RequestRate::new(None, [1, 2]);
        let served = |micros: u64| {
            let requests = (0..1_000).filter(|_| rate.allows(micros, ip("192.0.2.1")));
            requests.count()
        };
        assert_eq!(served(5_000_000), 1_000);
        rate.set(NonZeroU32::new(10));
        assert_eq!(served(5_000_000), 10);
        rate.set(NonZeroU32::new(100));
        assert_eq!(served(7_000_000), 100);
        rate.set(None);
        assert_eq!(served(7_000_000), 1_000);
    }

    #[test]
    fn high_rates_are_kept() {
        for per_second in [999_999, 1_000_001, 3_000_000, REQUESTS_PER_SECOND_MAX] {
            let rate = RequestRate::new(NonZeroU32::new(per_second), [1, 2]);
            let served = (0..2 * per_second).filter(|_| rate.allows(5_000_000, ip("192.0.2.1")));
            let served = u32::try_from(served.count()).unwrap();
            assert!(
                served.abs_diff(per_second) <= per_second / 100,
                "{served} of {per_second}"
            );
        }
    }

    #[test]
    fn an_ipv6_site_has_a_rate_of_its_own() {
        let rate = RequestRate::new(NonZeroU32::new(100), [1, 2]);
        let served = |site: u16| {
            let networks = (0..10_000_u16).map(|it| ip(&format!("2001:4860:{site:x}:{it:x}::1")));
            networks.filter(|ip| rate.allows(5_000_000, *ip)).count()
        };
        // Few of 10,000 networks share one of 2^20 cells with another, and fewer with the site.
        assert!((1_590..=1_610).contains(&served(1)));
        assert!((1_590..=1_610).contains(&served(2)), "another site");
        // What is refused at the limit of the site is not charged to the client.
        let served = (0..200).filter(|_| rate.allows(6_100_000, ip("2001:4860:1:2700::1")));
        assert!((99..=101).contains(&served.count()));
    }
}

//! How many of something each client may have: peers, connections.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use aquatic_types::{CLIENTS_PER_SITE, client_network, client_site};

/// Counts something per client, for the daemon as a whole: all workers share it.
///
/// A client is an IPv4 address or an IPv6 /64 network ([`client_network`]). An IPv6 /48 network may
/// have [`CLIENTS_PER_SITE`] times as much.
///
/// Only to be touched when something comes or goes (a peer, a connection), which is much rarer
/// than requests; so plain locks do, as long as not all workers want the same one.
#[derive(Debug)]
pub struct PerClientLimit {
    /// `usize::MAX`: any number.
    max: AtomicUsize,
    /// By client or site; who has nothing has no entry, so memory is bounded by what is counted.
    stripes: Box<[Mutex<HashMap<u64, usize>>]>,
}

impl PerClientLimit {
    const STRIPES: usize = 64;

    /// At most `max` per client.
    #[must_use]
    pub fn new(max: NonZeroUsize) -> Self {
        Self::with_max(Some(max))
    }

    /// At most `max` per client, if that is bounded.
    #[must_use]
    pub fn with_max(max: Option<NonZeroUsize>) -> Self {
        Self {
            max: AtomicUsize::new(max.map_or(usize::MAX, NonZeroUsize::get)),
            stripes: (0..Self::STRIPES).map(|_| Mutex::default()).collect(),
        }
    }

    /// At most `max` per client from now on, if that is bounded. Who has more keeps it, and gets
    /// nothing new.
    pub fn set_max(&self, max: Option<NonZeroUsize>) {
        let max = max.map_or(usize::MAX, NonZeroUsize::get);
        self.max.store(max, Ordering::Relaxed);
    }

    /// Whether there is a bound. If there is none, nobody needs to be counted.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        self.max.load(Ordering::Relaxed) != usize::MAX
    }

    /// Counts one more, unless the client or its site has too many already.
    #[must_use]
    pub fn admit(&self, ip: IpAddr) -> bool {
        let client = client_network(ip);
        let max = self.max.load(Ordering::Relaxed);
        if !self.add(client, max) {
            return false;
        }
        let max_of_site = max.saturating_mul(CLIENTS_PER_SITE as usize);
        let is_room = client_site(client).is_none_or(|site| self.add(site, max_of_site));
        if !is_room {
            self.subtract(client);
        }
        is_room
    }

    /// Counts one more, however many there are: somebody else has admitted it.
    pub fn count(&self, ip: IpAddr) {
        let client = client_network(ip);
        for whose in [Some(client), client_site(client)].into_iter().flatten() {
            self.with_count(whose, |count| *count = count.saturating_add(1));
        }
    }

    /// Counts one less: to be called once for each that was [admitted](Self::admit) or
    /// [counted](Self::count) and has gone.
    pub fn release(&self, ip: IpAddr) {
        self.release_client(client_network(ip));
    }

    /// The same, for those who keep the number of the client ([`client_network`]) only.
    pub fn release_client(&self, client: u64) {
        self.subtract(client);
        if let Some(site) = client_site(client) {
            self.subtract(site);
        }
    }

    /// Counts one more of this client or site, unless it has `max`.
    fn add(&self, whose: u64, max: usize) -> bool {
        self.with_count(whose, |count| {
            let is_room = *count < max;
            *count += usize::from(is_room);
            is_room
        })
    }

    fn subtract(&self, whose: u64) {
        self.with_count(whose, |count| *count = count.saturating_sub(1));
    }

    fn with_count<T>(&self, whose: u64, change: impl FnOnce(&mut usize) -> T) -> T {
        // The low bits of an IPv4 address and the low bits of an IPv6 network both vary.
        let place = usize::try_from(whose % Self::STRIPES as u64).unwrap_or_default();
        let mut counts = self.stripes[place]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(whose).or_default();
        let answer = change(count);
        if *count == 0 {
            counts.remove(&whose);
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_most(max: usize) -> PerClientLimit {
        PerClientLimit::new(NonZeroUsize::new(max).unwrap())
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_ipv6_network_is_one_client() {
        let counts = at_most(2);
        assert!(counts.admit(ip("2001:db8:1:2::1")));
        assert!(counts.admit(ip("2001:db8:1:2::ffff")));
        assert!(!counts.admit(ip("2001:db8:1:2:3::")));
        assert!(counts.admit(ip("2001:db8:1:3::1")));
    }

    #[test]
    fn an_ipv6_site_has_a_limit_of_its_own() {
        let counts = at_most(2);
        let address = |site: u16, network: u16| ip(&format!("2001:4860:{site:x}:{network:x}::1"));
        let admitted = |site, networks: u16| {
            let addresses = (0..networks).map(|network| address(site, network));
            addresses.filter(|ip| counts.admit(*ip)).count()
        };
        // One from each of 1,000 networks.
        assert_eq!(admitted(1, 1_000), 32);
        assert_eq!(admitted(2, 1_000), 32, "another site is not affected");
        // Who was refused at the limit of the site is not counted anywhere.
        counts.release(address(1, 0));
        assert!(counts.admit(address(1, 999)) && !counts.admit(address(1, 999)));
        for network in (1..32).chain([999]) {
            counts.release(address(1, network));
        }
        for network in [500, 999] {
            assert!((0..2).all(|_| counts.admit(address(1, network))));
        }
    }

    #[test]
    fn the_loopback_address_is_counted_once() {
        let counts = at_most(2);
        let admitted = (0..5).filter(|_| counts.admit(ip("::1"))).count();
        assert_eq!(admitted, 2);
    }

    #[test]
    fn leaving_makes_room() {
        let counts = at_most(1);
        let client = ip("192.0.2.1");
        assert!(counts.admit(client));
        assert!(!counts.admit(client));
        counts.release(client);
        assert!(counts.admit(client));
    }

    #[test]
    fn who_has_more_than_a_lower_limit_keeps_it() {
        let counts = at_most(3);
        let client = ip("192.0.2.1");
        assert!((0..3).all(|_| counts.admit(client)));
        counts.set_max(NonZeroUsize::new(2));
        counts.release(client);
        assert!(!counts.admit(client));
        counts.release(client);
        assert!(counts.admit(client) && !counts.admit(client));
        counts.set_max(NonZeroUsize::new(3));
        assert!(counts.admit(client) && !counts.admit(client));
    }

    #[test]
    fn who_has_nothing_takes_no_memory() {
        let counts = at_most(2);
        for last in 0..=255 {
            let client = IpAddr::from([192, 0, 2, last]);
            assert!(counts.admit(client) && counts.admit(client));
            assert!(!counts.admit(client));
            counts.release(client);
            counts.release(client);
            counts.release(client);
        }
        let is_empty = |stripe: &Mutex<HashMap<_, _>>| stripe.lock().unwrap().is_empty();
        assert!(counts.stripes.iter().all(is_empty));
    }

    #[test]
    fn workers_together_admit_no_more_than_one_alone() {
        let counts = at_most(1_000);
        let admit = || (0..1_000).filter(|_| counts.admit(ip("192.0.2.1"))).count();
        let admitted: usize = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(admit)).collect();
            workers
                .into_iter()
                .map(|worker| worker.join().unwrap())
                .sum()
        });
        assert_eq!(admitted, 1_000);
    }
}

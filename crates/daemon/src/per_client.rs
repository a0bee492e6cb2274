//! How many of something each client may have: peers, connections.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

use aquatic_types::client_network;

/// Counts something per client, for the daemon as a whole: all workers share it.
///
/// A client is an IPv4 address or an IPv6 /64 network ([`client_network`]).
///
/// Only to be touched when something comes or goes (a peer, a connection), which is much rarer
/// than requests; so plain locks do, as long as not all workers want the same one.
#[derive(Debug)]
pub struct PerClient {
    max: usize,
    /// By client; who has nothing has no entry, so memory is bounded by what is counted.
    stripes: Box<[Mutex<HashMap<u64, usize>>]>,
}

impl PerClient {
    const STRIPES: usize = 64;

    /// At most `max` per client.
    #[must_use]
    pub fn new(max: NonZeroUsize) -> Self {
        Self {
            max: max.get(),
            stripes: (0..Self::STRIPES).map(|_| Mutex::default()).collect(),
        }
    }

    /// Counts one more, unless the client has too many already.
    #[must_use]
    pub fn admit(&self, ip: IpAddr) -> bool {
        self.with_count(ip, |count| {
            let admitted = *count < self.max;
            *count += usize::from(admitted);
            admitted
        })
    }

    /// Counts one less: to be called once for each that was [admitted](Self::admit) and has gone.
    pub fn release(&self, ip: IpAddr) {
        self.with_count(ip, |count| *count = count.saturating_sub(1));
    }

    fn with_count<T>(&self, ip: IpAddr, change: impl FnOnce(&mut usize) -> T) -> T {
        let client = client_network(ip);
        // The low bits of an IPv4 address and the low bits of an IPv6 network both vary.
        let place = usize::try_from(client % Self::STRIPES as u64).unwrap_or_default();
        let mut counts = self.stripes[place]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
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

    fn at_most(max: usize) -> PerClient {
        PerClient::new(NonZeroUsize::new(max).unwrap())
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
    fn leaving_makes_room() {
        let counts = at_most(1);
        let client = ip("192.0.2.1");
        assert!(counts.admit(client));
        assert!(!counts.admit(client));
        counts.release(client);
        assert!(counts.admit(client));
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

//! How many offers a client is handed in a time. Pure.
//!
//! Whoever offers much could use up what a client is handed, and nobody else's offers would come.
//! So the second half of that is for offers of networks that have handed it few: [`FewOffers`].

use std::collections::HashMap;
use std::hash::Hasher;
use std::num::NonZeroU32;

use aquatic_daemon::clock::Now;
use aquatic_stream::ConnectionKey;
use aquatic_types::{Seconds, site_or_client};
use siphasher::sip::SipHasher13;

/// A client that was handed none for a while may be handed this long's worth at once: a browser
/// that is the first in a swarm meets all who come next.
const BURST_MICROS: u32 = 4_000_000;

/// The longest time for one offer, that is, at one per second.
const STEP_MICROS_MAX: u32 = 1_000_000;

/// The offers that one connection has been handed lately: when it will have had the time for all
/// of them (the generic cell rate algorithm), in microseconds, modulo 2^32.
///
/// As small as that because every connection has one. What is left of a time that is 71 minutes
/// ago looks like the present at worst; it is made up for within [`BURST_MICROS`].
#[derive(Clone, Copy, Debug, Default)]
pub struct OfferPace(u32);

impl OfferPace {
    /// Whether one more offer may be handed to the client; if so it is counted. `is_of_few` is
    /// asked if there have been many: whether few of them came from where this one does.
    #[must_use]
    pub fn admits(
        &mut self,
        now: Now,
        per_second_max: Option<NonZeroU32>,
        is_of_few: impl FnOnce() -> bool,
    ) -> bool {
        per_second_max.is_none_or(|max| self.counts(now, max, is_of_few))
    }

    fn counts(
        &mut self,
        now: Now,
        per_second_max: NonZeroU32,
        is_of_few: impl FnOnce() -> bool,
    ) -> bool {
        let step = STEP_MICROS_MAX / per_second_max;
        let now_micros = u32::try_from(now.micros & u64::from(u32::MAX)).unwrap_or_default();
        let ahead = match self.0.wrapping_sub(now_micros) {
            ahead if ahead <= BURST_MICROS + STEP_MICROS_MAX => ahead,
            _ => 0,
        };
        let admitted = ahead < BURST_MICROS / 2 || ahead < BURST_MICROS && is_of_few();
        if admitted {
            self.0 = now_micros.wrapping_add(ahead + step);
        }
        admitted
    }
}

/// Places for networks that have handed offers to a client lately, in each of two rows. Thirty that
/// hand it many at a time keep one other in twenty from being told apart from them; and of more
/// networks than that, all of which hand it few, not all can have a share of what it may be handed.
const PLACES: usize = 128;

/// Offers that one network may hand to one client in a second while the client gets many, and four
/// times as many at once.
const OF_NETWORK_PER_SECOND: NonZeroU32 = NonZeroU32::MIN;

/// Nothing is left of what was counted so many seconds ago.
const FORGOTTEN_SECONDS: u32 = 5;

/// Which networks have handed few offers to which clients lately, where clients get many.
///
/// Each client has places of its own, so that nobody else's offers matter: an attacker can have any
/// number of clients. A network has a place in either of two rows, which it shares with others by
/// chance, and has handed few if either says so. Nothing is kept of clients that do not get many.
#[derive(Debug)]
pub struct FewOffers {
    hasher: SipHasher13,
    clients: HashMap<ConnectionKey, OfClient>,
    /// When those that get many no more are forgotten next.
    next_look: Seconds,
}

#[derive(Debug)]
struct OfClient {
    rows: Box<[[OfferPace; 2]; PLACES]>,
    /// When one was last counted.
    counted: Seconds,
}

impl FewOffers {
    /// Nobody has handed any. `secret` must be unpredictable to strangers.
    #[must_use]
    pub fn new(secret: [u64; 2]) -> Self {
        let [key0, key1] = secret;
        Self {
            hasher: SipHasher13::new_with_keys(key0, key1),
            clients: HashMap::new(),
            next_look: Seconds(0),
        }
    }

    /// Whether a network has handed few offers to a client of this worker; if so, one more is
    /// counted. All networks of a site of IPv6 are one.
    #[must_use]
    pub fn admits(&mut self, now: Now, network: u64, receiver: ConnectionKey) -> bool {
        let mut hasher = self.hasher;
        hasher.write(&site_or_client(network).to_ne_bytes());
        // Else a network that has bad luck would have it with every client.
        hasher.write(&receiver.to_bits().to_ne_bytes());
        let hash = hasher.finish();
        let client = self.clients.entry(receiver);
        let client = client.or_insert_with(|| OfClient {
            rows: Box::new([[OfferPace::default(); 2]; PLACES]),
            counted: now.seconds,
        });
        client.counted = now.seconds;
        let places = [hash, hash >> 32].map(|half| (half & 0xffff_ffff) as usize % PLACES);
        let mut is_admitted = false;
        for (row, place) in places.into_iter().enumerate() {
            let pace = client.rows.get_mut(place).and_then(|it| it.get_mut(row));
            is_admitted |= pace.is_some_and(|it| it.counts(now, OF_NETWORK_PER_SECOND, || true));
        }
        is_admitted
    }

    /// Forgets clients that get many no more, now and then.
    pub fn forget_idle(&mut self, now: Now) {
        if self.clients.is_empty() || now.seconds < self.next_look {
            return;
        }
        self.next_look = now.seconds + FORGOTTEN_SECONDS;
        let is_idle = |it: &OfClient| it.counted + FORGOTTEN_SECONDS < now.seconds;
        self.clients.retain(|_, client| !is_idle(client));
        self.clients.shrink_to(2 * self.clients.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of the offers that come every `every` microseconds are admitted until `until`.
    fn admitted(pace: &mut OfferPace, from: u64, until: u64, every: usize) -> usize {
        let offers = (from..until).step_by(every);
        let admits =
            |micros: &u64| pace.admits(Now::from_micros(*micros), NonZeroU32::new(16), || true);
        offers.filter(admits).count()
    }

    /// The same of many in one moment.
    fn admitted_at_once(pace: &mut OfferPace, micros: u64) -> usize {
        let admits = |_: &u32| pace.admits(Now::from_micros(micros), NonZeroU32::new(16), || true);
        (0..200).filter(admits).count()
    }

    #[test]
    fn many_at_once_and_then_as_many_as_are_allowed() {
        // Also where the time that is kept starts again from 0.
        for start in [0, u64::from(u32::MAX) - 6_000_000, 1 << 40] {
            let mut pace = OfferPace::default();
            assert_eq!(admitted_at_once(&mut pace, start), 64);
            let next = start + 1_000_000;
            let in_ten_seconds = admitted(&mut pace, next, next + 10_000_000, 1_000);
            assert!((174..=178).contains(&in_ten_seconds), "{in_ten_seconds}");
            let silence = 3_600_000_000;
            let later = next + silence;
            assert_eq!(admitted_at_once(&mut pace, later), 64);
        }
    }

    #[test]
    fn below_the_rate_all_are_admitted() {
        let mut pace = OfferPace::default();
        assert_eq!(admitted(&mut pace, 7, 62_500_007, 62_500), 1_000);
    }

    #[test]
    fn what_is_kept_for_too_long_does_no_harm() {
        let mut pace = OfferPace::default();
        assert_eq!(admitted_at_once(&mut pace, 0), 64);
        let again = 1 << 32;
        let in_ten_seconds = admitted(&mut pace, again, again + 10_000_000, 1_000);
        assert!(in_ten_seconds >= 158, "{in_ten_seconds}");
    }

    #[test]
    fn without_a_limit_there_is_none() {
        let mut pace = OfferPace::default();
        assert!((0..10_000).all(|_| pace.admits(Now::default(), None, || false)));
    }

    #[test]
    fn the_second_half_is_for_those_who_have_handed_few() {
        let mut pace = OfferPace::default();
        let mut admits = |is_of_few: bool| {
            let per_second = NonZeroU32::new(16);
            let admits = |_: &u32| pace.admits(Now::from_micros(7), per_second, || is_of_few);
            (0..200).filter(admits).count()
        };
        assert_eq!(admits(false), 32);
        assert_eq!(admits(true), 32);
    }

    #[test]
    fn few_are_few_of_one_network_to_one_client() {
        let mut few = FewOffers::new([1, 2]);
        let client = |number| ConnectionKey::from_bits(number);
        let mut admitted = |seconds: u64, network, number| {
            let now = Now::from_micros(seconds * 1_000_000);
            let admits = |_: &u32| few.admits(now, network, client(number));
            (0..100).filter(admits).count()
        };
        assert_eq!(admitted(1, 10, 1), 4);
        assert_eq!(admitted(1, 10, 1), 0);
        assert_eq!(admitted(1, 11, 1), 4, "another network");
        assert_eq!(admitted(1, 10, 2), 4, "another client");
        assert_eq!(admitted(3, 10, 1), 2);
    }

    #[test]
    fn many_networks_leave_places_to_others() {
        let mut few = FewOffers::new([1, 2]);
        let (now, client) = (Now::from_micros(9), ConnectionKey::default());
        for network in 0..30 {
            while few.admits(now, network, client) {}
        }
        let others = 1_000..1_020;
        let admitted = others.filter(|it| few.admits(now, *it, client)).count();
        assert!(admitted >= 18, "{admitted}");
    }

    /// The attack: one machine opens any number of connections, and has them get many offers.
    #[test]
    fn what_other_clients_are_handed_does_not_matter() {
        let mut few = FewOffers::new([1, 2]);
        let now = Now::from_micros(9);
        for client in 1..50_000 {
            while few.admits(now, 7, ConnectionKey::from_bits(client)) {}
        }
        let honest =
            (1_000..1_100).filter(|it| few.admits(now, *it, ConnectionKey::from_bits(*it)));
        assert_eq!(honest.count(), 100);
    }

    #[test]
    fn clients_that_get_many_no_more_are_forgotten() {
        let mut few = FewOffers::new([1, 2]);
        let mut most = 0;
        for second in 1..100 {
            let now = Now::from_micros(second * 1_000_000);
            for client in 0..1_000 {
                let _ = few.admits(now, 7, ConnectionKey::from_bits(second * 1_000 + client));
            }
            few.forget_idle(now);
            most = most.max(few.clients.len());
        }
        assert!(most <= 11_000, "{most}");
        few.forget_idle(Now::from_micros(200 * 1_000_000));
        assert_eq!(few.clients.len(), 0);
    }

    /// Whoever has a site of IPv6 has 65,536 networks.
    #[test]
    fn the_networks_of_a_site_are_one() {
        let mut few = FewOffers::new([1, 2]);
        let (now, client) = (Now::from_micros(9), ConnectionKey::default());
        let site = 0x2a00_0001_0001_0000;
        let admitted = (site..site + 1_000).filter(|it| few.admits(now, *it, client));
        assert_eq!(admitted.count(), 4);
    }
}

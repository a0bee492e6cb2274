//! Which peers an announcer gets where no network may have more than its share of an answer.
//!
//! Identity is free: one address can announce a thousand ports, and a choice that is fair to each
//! peer would give nearly the whole answer to it. So an answer has at most some peers of each
//! network as long as there are others.
//!
//! Nearly always the choice that [`selection`](crate::selection) makes has no more of any network
//! anyway. To see that takes a look at a small table of counters, on the stack. Only if one of them
//! is full, the choice is gone through again, with exact counts: those that are too many are
//! replaced by peers that are drawn one by one from the rest. This keeps peers of networks that
//! have not had their share equally likely: they stay in the choice if they were in it, and have
//! the same chance of replacing somebody.

use std::num::NonZeroU8;

use crate::selection::{Choice, RandomOrder};

/// Counters, of which networks share one by chance. With 50 peers of different networks, one answer
/// in 600 is gone through again for nothing.
const COUNTERS: usize = 512;

/// How many peers of each network an answer has before it has others.
pub(crate) struct Restraint {
    pub(crate) max: NonZeroU8,
    /// A secret odd number, so that strangers cannot make networks share a counter.
    pub(crate) multiplier: u64,
}

/// How to look at peers by position.
pub(crate) struct View<T, P, N> {
    /// Fetches the peer into the cache.
    pub(crate) touch: T,
    /// The peer.
    pub(crate) peer: P,
    /// Its network.
    pub(crate) network: N,
}

impl Restraint {
    /// Hands out as many peers as [`Choice::select`] does, the restrained ones first. Returns how
    /// many are of networks that had their share already.
    pub(crate) fn select<R>(
        &self,
        choice: &Choice,
        rng: &mut fastrand::Rng,
        view: &View<impl Fn(u32), impl Fn(u32) -> Option<R>, impl Fn(&R) -> Option<u64>>,
        mut select_peers: impl FnMut(R),
    ) -> u32 {
        let first_time = rng.clone();
        let mut counters = [0; COUNTERS];
        let mut is_complete = true;
        choice.select(rng, &view.touch, |at| {
            if let Some(peer) = (view.peer)(at) {
                if self.has_share_left(&mut counters, (view.network)(&peer)) {
                    select_peers(peer);
                } else {
                    is_complete = false;
                }
            }
        });
        if is_complete {
            return 0;
        }
        self.complete(choice, first_time, rng, view, select_peers)
    }

    /// Hands out who was held back for nothing, others instead of the rest, and the rest if there
    /// are not enough others. `first_time` makes the same choice again.
    #[cold]
    fn complete<T, R>(
        &self,
        choice: &Choice,
        mut first_time: fastrand::Rng,
        rng: &mut fastrand::Rng,
        view: &View<T, impl Fn(u32) -> Option<R>, impl Fn(&R) -> Option<u64>>,
        mut select_peers: impl FnMut(R),
    ) -> u32 {
        let mut counters = [0; COUNTERS];
        let mut drawn = Vec::new();
        let mut held_back = Vec::new();
        let chosen_max = choice.candidates.len().min(choice.wanted as usize);
        let mut tally = Tally::new(chosen_max, self.multiplier);
        let mut may_come = |network| tally.count_up_to(self.max, network);
        choice.select(
            &mut first_time,
            |_| (),
            |at| {
                drawn.push(at);
                if let Some(peer) = (view.peer)(at) {
                    let network = (view.network)(&peer);
                    if self.has_share_left(&mut counters, network) {
                        may_come(network);
                    } else {
                        held_back.push(peer);
                    }
                }
            },
        );
        let mut surplus = Vec::new();
        for peer in held_back {
            if may_come((view.network)(&peer)) {
                select_peers(peer);
            } else {
                surplus.push(peer);
            }
        }
        let rest = choice.rest(drawn);
        let mut order = RandomOrder::new(rest.len());
        let mut missing = surplus.len();
        while missing > 0
            && let Some(place) = order.draw(rng)
        {
            if let Some(peer) = (view.peer)(rest.position(place))
                && may_come((view.network)(&peer))
            {
                select_peers(peer);
                missing -= 1;
            }
        }
        surplus.into_iter().take(missing).for_each(select_peers);
        u32::try_from(missing).unwrap_or(u32::MAX)
    }

    /// Counts one more peer of a network; `false` if it or others with the same counter have had
    /// the share of one.
    fn has_share_left(&self, counters: &mut [u8; COUNTERS], network: Option<u64>) -> bool {
        let Some(network) = network else {
            return true;
        };
        let place = scatter(network, self.multiplier, COUNTERS);
        let Some(count) = counters.get_mut(place) else {
            return true;
        };
        if *count >= self.max.get() {
            return false;
        }
        *count += 1;
        true
    }
}

/// How many peers of each network an answer has, exactly: a hash table with open addressing.
struct Tally {
    /// A network, and how many peers: 0 in a free cell.
    cells: Vec<(u64, u8)>,
    multiplier: u64,
}

impl Tally {
    /// With room for so many networks.
    fn new(networks: usize, multiplier: u64) -> Self {
        let cells = (networks * 2).next_power_of_two();
        Self {
            cells: vec![(0, 0); cells],
            multiplier,
        }
    }

    /// Counts one more peer of a network; `false` if there are `max` already.
    fn count_up_to(&mut self, max: NonZeroU8, network: Option<u64>) -> bool {
        let Some(network) = network else {
            return true;
        };
        let home = scatter(network, self.multiplier, self.cells.len());
        let (before, from_home) = self.cells.split_at_mut(home);
        let mut cells = from_home.iter_mut().chain(before);
        let cell = cells.find(|(known, count)| *count == 0 || *known == network);
        let Some((known, count)) = cell else {
            return false;
        };
        *known = network;
        let has_share_left = *count < max.get();
        *count += u8::from(has_share_left);
        has_share_left
    }
}

/// Where a network belongs in a table of `len` cells, a power of two.
fn scatter(network: u64, multiplier: u64, len: usize) -> usize {
    // The upper half of a product depends on all bits of a factor's lower half; here it is the
    // network of IPv4. That of IPv6 depends on its lower bits most, which differ most.
    let upper_half = network.wrapping_mul(multiplier) >> 32;
    upper_half as usize & (len - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HashKey;

    #[test]
    fn so_many_peers_of_a_network_are_chosen_at_first_sight() {
        let restraint = Restraint {
            max: NonZeroU8::new(3).unwrap(),
            multiplier: HashKey::new([1, 2]).multiplier(),
        };
        let mut counters = [0; COUNTERS];
        let mut is_chosen = |network| restraint.has_share_left(&mut counters, network);
        for network in [7, 8] {
            assert!((0..3).all(|_| is_chosen(Some(network))));
            assert!(!is_chosen(Some(network)));
        }
        assert!((0..10).all(|_| is_chosen(None)));
    }

    /// Strangers that own many networks own neighbouring ones.
    #[test]
    fn neighbouring_networks_have_counters_of_their_own_nearly_always() {
        for secret in 0..100 {
            let multiplier = HashKey::new([secret, 0]).multiplier();
            for start in [0, 0xc000_0200, 0x2001_0db8_0000_0000_u64] {
                let places = (0..50).map(|at| scatter(start + at, multiplier, COUNTERS));
                let places: std::collections::BTreeSet<_> = places.collect();
                assert!(places.iter().all(|place| *place < COUNTERS));
                assert!(places.len() > 25, "{} places of 50", places.len());
            }
        }
    }
}

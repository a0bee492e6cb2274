//! Which connections give way when there is no room for another.
//!
//! One client must not take all connections, and strangers must not take them all for long. So when
//! there are as many as there may be, a new one is not turned away: the connection that has been
//! idle between two requests for longest is closed, among those of the client that has most. A
//! /48 network counts for a sixteenth of what it has, if that is more than what one of its clients
//! has ([`CLIENTS_PER_SITE`]): it costs nothing to be 65,536 clients there.
//!
//! Among clients that have equally many, one goes first that has not finished its first request for
//! [some seconds](FIRST_REQUEST_SECONDS): strangers that only connect push out each other.
//!
//! Nothing is kept for that while there is room: how long a connection has waited follows from its
//! deadline. When there is none, the worker that accepts looks through its own connections (those
//! of one client are spread evenly over the workers), and picks many at once, for those who will
//! come next. So what one costs does not grow with the number of connections: a worker looks at
//! eight for each that gives way, in at most some milliseconds at once.
//!
//! Those that hold most memory are chosen in the same way when all together hold too much
//! (`memory`): by what each holds, and of the client that holds most.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use aquatic_daemon::clock::Now;
use aquatic_types::{CLIENTS_PER_SITE, site_or_client};

/// Connections that are looked at in one choice. If there are more, they are a sample of them,
/// evenly spread over the table.
pub(crate) const LOOKED_MAX: usize = 16 * 1024;

/// One of so many that are looked at is chosen.
pub(crate) const LOOKED_PER_CHOSEN: usize = 8;

/// Few are looked at quickly.
pub(crate) const CHOSEN_MIN: usize = 16;

/// A client that has not finished its first request after so many seconds gives way to those that
/// have. Less would be unjust: when there is no room, each client that comes pushes one out, and a
/// slow one would never get as far as its first request. From the other side of the world, TCP, TLS
/// and a request take four round trips of a third of a second.
pub(crate) const FIRST_REQUEST_SECONDS: u32 = 3;

/// A choice is good for this long: later, others have most.
const CHOICE_MICROS: u64 = 1_000_000;

/// If fewer were found than wanted, nobody looks again before so much time has passed for each that
/// was looked at: more than ten times of what that takes.
const PAUSE_MICROS_PER_LOOKED: u64 = 2;

/// A connection that may give way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Candidate<R> {
    /// [`client_network`](aquatic_types::client_network) of its client.
    pub(crate) client: u64,
    /// Among those of its client, the least gives way first.
    pub(crate) rank: R,
    /// What it counts for: one connection, or its bytes.
    pub(crate) weight: usize,
    /// If not, it only counts; and so do those of a higher rank.
    pub(crate) gives_way: bool,
    /// [`ConnectionKey::to_bits`](crate::handler::ConnectionKey::to_bits).
    pub(crate) key: u64,
    /// When its time is over. As long as that stays, the connection is what it was.
    pub(crate) deadline: u32,
}

/// In which order the connections of a client give way to others, with the second since which each
/// waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    /// The client has not finished its first request for [too long](FIRST_REQUEST_SECONDS).
    Stalled(u32),
    /// Between two requests.
    Idle(u32),
    /// The client has something to do: to finish a handshake or a request, or to read.
    Unfinished(u32),
    /// The client waits for us: it does not give way, but counts.
    Busy,
}

/// Those that give way next.
#[derive(Debug)]
pub(crate) struct Eviction<R> {
    /// The first is the last.
    chosen: Vec<Candidate<R>>,
    chosen_at_micros: u64,
    /// Nobody is chosen before.
    next_choice_micros: u64,
    /// Where the next sample begins.
    pub(crate) offset: usize,
}

impl<R> Default for Eviction<R> {
    fn default() -> Self {
        Self {
            chosen: Vec::new(),
            chosen_at_micros: 0,
            next_choice_micros: 0,
            offset: 0,
        }
    }
}

impl<R: Copy + Ord> Eviction<R> {
    /// The next one, if there is one left of the last choice.
    pub(crate) fn next(&mut self, now: Now) -> Option<Candidate<R>> {
        if now.micros > self.chosen_at_micros + CHOICE_MICROS {
            self.chosen.clear();
        }
        self.chosen.pop()
    }

    /// Whether another choice may be made.
    pub(crate) fn may_choose(&self, now: Now) -> bool {
        now.micros >= self.next_choice_micros
    }

    /// Makes a choice among these, of so much weight.
    pub(crate) fn choose(&mut self, now: Now, looked: &mut [Candidate<R>], wanted: usize) {
        let found;
        (self.chosen, found) = choose(looked, wanted);
        self.chosen_at_micros = now.micros;
        if found < wanted {
            let looked = u64::try_from(looked.len()).unwrap_or(u64::MAX);
            let pause = looked.saturating_mul(PAUSE_MICROS_PER_LOOKED);
            self.next_choice_micros = now.micros.saturating_add(pause);
        }
        self.offset = self.offset.wrapping_add(1);
    }
}

/// Up to `wanted` of these by weight, the first last, with their weight: always one of the client
/// that has most, less those that were chosen before.
fn choose<R: Copy + Ord>(looked: &mut [Candidate<R>], wanted: usize) -> (Vec<Candidate<R>>, usize) {
    // Clients of a site are neighbours then.
    looked.sort_unstable();
    let site = |it: &Candidate<R>| site_or_client(it.client);
    let by_site = looked.chunk_by(|one, other| site(one) == site(other));
    let mut sites: Vec<_> = by_site.map(Site::new).collect();
    let in_heap = |(place, site): (usize, &Site<'_, R>)| Some((site.claim()?, place));
    let mut heap: BinaryHeap<_> = sites.iter().enumerate().filter_map(in_heap).collect();
    let (mut chosen, mut found) = (Vec::new(), 0);
    while found < wanted
        && let Some((_, place)) = heap.pop()
        && let Some(site) = sites.get_mut(place)
        && let Some(first) = site.take_first()
    {
        chosen.push(first);
        found += first.weight;
        heap.extend(in_heap((place, site)));
    }
    chosen.reverse();
    (chosen, found)
}

/// The clients of an IPv6 /48 network; or one that has none.
struct Site<'a, R> {
    /// Of all of them.
    weight: usize,
    clients: BinaryHeap<InHeap<'a, R>>,
}

/// A client's weight, its first candidate's rank, and all its candidates.
type InHeap<'a, R> = (usize, Reverse<R>, &'a [Candidate<R>]);

impl<'a, R: Copy + Ord> Site<'a, R> {
    fn new(looked: &'a [Candidate<R>]) -> Self {
        let weight = |of: &[Candidate<R>]| of.iter().map(|it| it.weight).sum();
        let by_client = looked.chunk_by(|one, other| one.client == other.client);
        Self {
            weight: weight(looked),
            clients: by_client
                .filter_map(|of_client| in_heap(weight(of_client), of_client))
                .collect(),
        }
    }

    /// What decides which site comes first: what its first client has, or its share of what all
    /// have; among equals, the least rank. `None`: none of it gives way.
    fn claim(&self) -> Option<(usize, Reverse<R>)> {
        let (weight, rank, _) = self.clients.peek()?;
        let of_site = self.weight / CLIENTS_PER_SITE as usize;
        Some((of_site.max(*weight), *rank))
    }

    fn take_first(&mut self) -> Option<Candidate<R>> {
        let (weight, _, of_client) = self.clients.pop()?;
        let (first, rest) = of_client.split_first()?;
        self.weight = self.weight.saturating_sub(first.weight);
        let weight = weight.saturating_sub(first.weight);
        self.clients.extend(in_heap(weight, rest));
        Some(*first)
    }
}

/// The one with most comes first; among equals, the one whose first has the least rank.
fn in_heap<R: Copy>(weight: usize, of_client: &[Candidate<R>]) -> Option<InHeap<'_, R>> {
    let first = of_client.first().filter(|it| it.gives_way)?;
    Some((weight, Reverse(first.rank), of_client))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(client: u64, rank: Rank, key: u64) -> Candidate<Rank> {
        Candidate {
            client,
            rank,
            weight: 1,
            gives_way: rank != Rank::Busy,
            key,
            deadline: 0,
        }
    }

    /// In the order in which they give way.
    fn chosen<R: Copy + Ord>(looked: &[Candidate<R>], wanted: usize) -> Vec<u64> {
        let (chosen, _) = choose(&mut looked.to_vec(), wanted);
        chosen.iter().rev().map(|it| it.key).collect()
    }

    #[test]
    fn whoever_has_most_gives_way_first() {
        let mut looked = Vec::new();
        for key in 0..5 {
            looked.push(candidate(
                1,
                Rank::Idle(100 - u32::try_from(key).unwrap()),
                key,
            ));
        }
        // These have waited for longer.
        looked.extend(
            [(2, 1), (3, 2)]
                .map(|(client, since)| candidate(client, Rank::Idle(since), client * 10)),
        );
        assert_eq!(chosen(&looked, 4), [4, 3, 2, 1]);
        // Then all have one, and the longest wait decides.
        assert_eq!(chosen(&looked, 10)[4..], [20, 30, 0]);
    }

    #[test]
    fn idle_ones_give_way_first_and_busy_ones_never() {
        let looked = [
            candidate(1, Rank::Busy, 1),
            candidate(1, Rank::Unfinished(1), 2),
            candidate(1, Rank::Idle(9), 3),
            candidate(1, Rank::Busy, 4),
            candidate(2, Rank::Idle(5), 5),
        ];
        assert_eq!(chosen(&looked, 10), [3, 2, 5]);
        assert_eq!(chosen(&looked[..1], 10), [0; 0]);
    }

    /// Thirty-two clients of a /48 network count for two.
    #[test]
    fn a_site_counts_for_a_sixteenth_of_what_it_has() {
        let site = |network: u64| 0x2a00_0001_0002_0000 | network;
        let mut looked = vec![candidate(1, Rank::Idle(1), 1)];
        looked.extend((0..40).map(|key| candidate(site(key), Rank::Idle(9), 100 + key)));
        looked.extend((0..3).map(|key| candidate(2, Rank::Idle(8), 10 + key)));
        let order = chosen(&looked, 100);
        // The client with three comes first, and nine of the site, which is as good as two then.
        assert_eq!(order[..2], [10, 11]);
        assert!(order[2..11].iter().all(|key| *key >= 100), "{order:?}");
        // Now all count for one, and the longest wait decides.
        assert_eq!(order[11..13], [1, 12]);
    }

    #[test]
    fn whoever_does_nothing_gives_way_to_those_who_have_as_many() {
        let looked = [
            candidate(1, Rank::Idle(1), 1),
            candidate(2, Rank::Stalled(9), 2),
            candidate(3, Rank::Unfinished(1), 3),
            candidate(4, Rank::Stalled(8), 4),
        ];
        assert_eq!(chosen(&looked, 10), [4, 2, 1, 3]);
    }

    #[test]
    fn whoever_holds_most_of_the_client_with_most_gives_way_first() {
        let holder = |client, bytes| Candidate {
            client,
            rank: Reverse(bytes),
            weight: bytes,
            gives_way: true,
            key: u64::try_from(bytes).unwrap(),
            deadline: 0,
        };
        let looked = [
            holder(1, 50),
            holder(2, 30),
            holder(2, 20),
            holder(2, 25),
            holder(3, 1),
        ];
        // 75 before 50, then 45.
        assert_eq!(chosen(&looked, 1), [30]);
        assert_eq!(chosen(&looked, 31), [30, 50]);
        assert_eq!(chosen(&looked, 1_000), [30, 50, 25, 20, 1]);
    }

    #[test]
    fn a_choice_lasts_for_a_second_and_is_paid_for() {
        let mut eviction = Eviction::default();
        let at = Now::from_micros;
        let mut looked: Vec<_> = (0..800)
            .map(|key| candidate(1, Rank::Idle(1), key))
            .collect();
        eviction.choose(at(10), &mut looked, 100);
        assert!(
            eviction.may_choose(at(10)),
            "all were found that were wanted"
        );
        let many = (0..1_000).map_while(|_| eviction.next(at(1_000_010)));
        assert_eq!(many.count(), 100);
        eviction.choose(at(20), &mut looked, 100);
        assert_eq!(eviction.next(at(1_000_021)), None);
        eviction.choose(at(2_000_000), &mut [candidate(1, Rank::Busy, 1); 500], 62);
        assert!(!eviction.may_choose(at(2_000_999)));
        assert!(eviction.may_choose(at(2_001_000)));
    }
}

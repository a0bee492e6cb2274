//! Which connections give way when there is no room for another.
//!
//! One client must not take all connections, and strangers must not take them all for long. So when
//! there are as many as there may be, a new one is not turned away: the connection that has been
//! idle between two requests for longest is closed, among those of the client that has most.
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

/// Connections that are looked at in one choice. If there are more, they are a sample of them,
/// evenly spread over the table.
pub(crate) const LOOKED_MAX: usize = 16 * 1024;

/// One of so many that are looked at is chosen.
pub(crate) const LOOKED_PER_CHOSEN: usize = 8;

/// Few are looked at quickly.
pub(crate) const CHOSEN_MIN: usize = 16;

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
    /// [`ConnectionId::to_bits`](crate::ConnectionId::to_bits).
    pub(crate) id: u64,
    /// When its time is over. As long as that stays, the connection is what it was.
    pub(crate) deadline: u32,
}

/// In which order the connections of a client give way to others, with the second since which each
/// waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
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
    looked.sort_unstable();
    let by_client = looked.chunk_by(|one, other| one.client == other.client);
    let weighed = by_client.map(|of_client| {
        let weight = of_client.iter().map(|it| it.weight).sum();
        (weight, of_client)
    });
    let in_heap = |(weight, of_client)| in_heap(weight, of_client);
    let mut clients: BinaryHeap<_> = weighed.filter_map(in_heap).collect();
    let (mut chosen, mut found) = (Vec::new(), 0);
    while found < wanted
        && let Some((weight, _, [first, rest @ ..])) = clients.pop()
    {
        chosen.push(*first);
        found += first.weight;
        clients.extend(in_heap((weight.saturating_sub(first.weight), rest)));
    }
    chosen.reverse();
    (chosen, found)
}

/// A client's weight, its first candidate's rank, and all its candidates.
type InHeap<'a, R> = (usize, Reverse<R>, &'a [Candidate<R>]);

/// The one with most comes first; among equals, the one whose first has the least rank.
fn in_heap<R: Copy>(weight: usize, of_client: &[Candidate<R>]) -> Option<InHeap<'_, R>> {
    let first = of_client.first().filter(|it| it.gives_way)?;
    Some((weight, Reverse(first.rank), of_client))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(client: u64, rank: Rank, id: u64) -> Candidate<Rank> {
        Candidate {
            client,
            rank,
            weight: 1,
            gives_way: rank != Rank::Busy,
            id,
            deadline: 0,
        }
    }

    /// In the order in which they give way.
    fn chosen<R: Copy + Ord>(looked: &[Candidate<R>], wanted: usize) -> Vec<u64> {
        let (chosen, _) = choose(&mut looked.to_vec(), wanted);
        chosen.iter().rev().map(|it| it.id).collect()
    }

    #[test]
    fn whoever_has_most_gives_way_first() {
        let mut looked = Vec::new();
        for id in 0..5 {
            looked.push(candidate(
                1,
                Rank::Idle(100 - u32::try_from(id).unwrap()),
                id,
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

    #[test]
    fn whoever_holds_most_of_the_client_with_most_gives_way_first() {
        let holder = |client, bytes| Candidate {
            client,
            rank: Reverse(bytes),
            weight: bytes,
            gives_way: true,
            id: u64::try_from(bytes).unwrap(),
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
        let mut looked: Vec<_> = (0..800).map(|id| candidate(1, Rank::Idle(1), id)).collect();
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

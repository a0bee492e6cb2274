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

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use aquatic_daemon::clock::Now;

/// Connections that are looked at in one choice. If there are more, they are a sample of them,
/// evenly spread over the table.
pub(crate) const LOOKED_MAX: usize = 16 * 1024;

/// One of so many that are looked at is chosen.
const LOOKED_PER_CHOSEN: usize = 8;

/// Few are looked at quickly.
const CHOSEN_MIN: usize = 16;

/// A choice is good for this long: later, others have most.
const CHOICE_MICROS: u64 = 1_000_000;

/// If fewer were found than wanted, nobody looks again before so much time has passed for each that
/// was looked at: more than ten times of what that takes.
const PAUSE_MICROS_PER_LOOKED: u64 = 2;

/// A connection that may give way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Candidate {
    /// [`client_network`](aquatic_types::client_network) of its client.
    pub(crate) client: u64,
    pub(crate) rank: Rank,
    /// [`ConnectionId::to_bits`](crate::ConnectionId::to_bits).
    pub(crate) id: u64,
    /// When its time is over. As long as that stays, the connection is what it was.
    pub(crate) deadline: u32,
}

/// In which order the connections of a client give way, with the second since which each waits.
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
#[derive(Debug, Default)]
pub(crate) struct Eviction {
    /// The first is the last.
    chosen: Vec<Candidate>,
    chosen_at_micros: u64,
    /// Nobody is chosen before.
    next_choice_micros: u64,
    /// Where the next sample begins.
    pub(crate) offset: usize,
}

impl Eviction {
    /// The next one, if there is one left of the last choice.
    pub(crate) fn next(&mut self, now: Now) -> Option<Candidate> {
        if now.micros > self.chosen_at_micros + CHOICE_MICROS {
            self.chosen.clear();
        }
        self.chosen.pop()
    }

    /// Whether another choice may be made.
    pub(crate) fn may_choose(&self, now: Now) -> bool {
        now.micros >= self.next_choice_micros
    }

    /// Makes a choice among these.
    pub(crate) fn choose(&mut self, now: Now, looked: &mut [Candidate]) {
        let wanted = (looked.len() / LOOKED_PER_CHOSEN).max(CHOSEN_MIN);
        self.chosen = choose(looked, wanted);
        self.chosen_at_micros = now.micros;
        if self.chosen.len() < wanted {
            let looked = u64::try_from(looked.len()).unwrap_or(u64::MAX);
            let pause = looked.saturating_mul(PAUSE_MICROS_PER_LOOKED);
            self.next_choice_micros = now.micros.saturating_add(pause);
        }
        self.offset = self.offset.wrapping_add(1);
    }
}

/// Up to `wanted` of these, the first last: always one of the client that has most, less those that
/// were chosen before.
fn choose(looked: &mut [Candidate], wanted: usize) -> Vec<Candidate> {
    looked.sort_unstable();
    let by_client = looked.chunk_by(|one, other| one.client == other.client);
    let mut clients: BinaryHeap<_> = by_client.filter_map(in_heap).collect();
    let mut chosen = Vec::new();
    while chosen.len() < wanted
        && let Some((_, _, [first, rest @ ..])) = clients.pop()
    {
        chosen.push(*first);
        clients.extend(in_heap(rest));
    }
    chosen.reverse();
    chosen
}

/// The one with most comes first; among equals, the one whose first has waited for longest.
fn in_heap(of_client: &[Candidate]) -> Option<(usize, Reverse<Rank>, &[Candidate])> {
    let first = of_client.first().filter(|it| it.rank != Rank::Busy)?;
    Some((of_client.len(), Reverse(first.rank), of_client))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(client: u64, rank: Rank, id: u64) -> Candidate {
        Candidate {
            client,
            rank,
            id,
            deadline: 0,
        }
    }

    /// In the order in which they give way.
    fn chosen(looked: &[Candidate], wanted: usize) -> Vec<u64> {
        let chosen = choose(&mut looked.to_vec(), wanted);
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
    fn a_choice_lasts_for_a_second_and_is_paid_for() {
        let mut eviction = Eviction::default();
        let at = Now::from_micros;
        let mut looked: Vec<_> = (0..800).map(|id| candidate(1, Rank::Idle(1), id)).collect();
        eviction.choose(at(10), &mut looked);
        assert!(
            eviction.may_choose(at(10)),
            "all were found that were wanted"
        );
        let many = (0..1_000).map_while(|_| eviction.next(at(1_000_010)));
        assert_eq!(many.count(), 100);
        eviction.choose(at(20), &mut looked);
        assert_eq!(eviction.next(at(1_000_021)), None);
        eviction.choose(at(2_000_000), &mut [candidate(1, Rank::Busy, 1); 500]);
        assert!(!eviction.may_choose(at(2_000_999)));
        assert!(eviction.may_choose(at(2_001_000)));
    }
}

//! The offers that a peer has been handed and may answer. Pure.
//!
//! Kept with the peer that may answer, each with the connection that it came from: so an answer
//! finds its way whoever else has the offerer's peer id.
//!
//! There is room for [`OPEN_MAX`], and a connection has no more than [`OPEN_OF_ONE_MAX`] of them,
//! or one if there is no room left; a further one takes the place of its own oldest. So whoever
//! makes offers to a peer at a high rate closes those of others only by way of ever more
//! connections.

use aquatic_types::Seconds;
use thin_vec::ThinVec;

use crate::messages::Member;

/// Open offers of a peer. With ten offers per announce, each peer of a swarm is handed ten while
/// every other one announces once; so these are those of twelve intervals.
pub(crate) const OPEN_MAX: usize = 120;

/// Open offers of one connection to one peer. Each announce makes one.
pub(crate) const OPEN_OF_ONE_MAX: usize = 16;

/// Open offers, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct OpenOffers(ThinVec<OpenOffer>);

/// An offer that a peer may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenOffer {
    /// A keyed hash of its name and of the offerer's peer id.
    pub(crate) hash: u64,
    /// Where the answer goes.
    pub(crate) offerer: Member,
    /// The last second in which it can be answered. Never less than that of earlier offers.
    pub(crate) deadline: Seconds,
}

impl OpenOffers {
    /// Bytes that they take.
    pub(crate) fn bytes(&self) -> usize {
        self.0.capacity() * size_of::<OpenOffer>()
    }

    /// A peer has been handed an offer.
    pub(crate) fn open(&mut self, now: Seconds, offer: OpenOffer) {
        let offers = &mut self.0;
        let expired = offers.iter().take_while(|it| it.deadline < now).count();
        offers.drain(..expired);

        let is_own = |it: &OpenOffer| it.offerer == offer.offerer;
        let is_full = offers.len() >= OPEN_MAX;
        let own_max = if is_full { 1 } else { OPEN_OF_ONE_MAX };
        let (mut own, mut oldest, mut same) = (0, None, None);
        for (at, it) in offers.iter().enumerate().filter(|(_, it)| is_own(it)) {
            own += 1;
            oldest = oldest.or(Some(at));
            same = same.or((it.hash == offer.hash).then_some(at));
        }
        let replaced = same
            .or(oldest.filter(|_| own >= own_max))
            .or(is_full.then_some(0));
        if let Some(at) = replaced {
            offers.remove(at);
        }
        offers.push(offer);
    }

    /// A peer answers: whose offer it was, if it was open. It no longer is.
    pub(crate) fn close(&mut self, now: Seconds, hash: u64) -> Option<Member> {
        let is_it = |it: &OpenOffer| it.hash == hash && it.deadline >= now;
        let at = self.0.iter().position(is_it)?;
        let closed = self.0.remove(at);
        if self.0.is_empty() {
            // Most peers have none most of the time.
            *self = Self::default();
        }
        Some(closed.offerer)
    }
}

#[cfg(test)]
mod tests {
    use aquatic_stream::ConnectionId;

    use super::*;

    const NOW: Seconds = Seconds(100);

    fn member(number: usize) -> Member {
        Member {
            worker: 0,
            connection: ConnectionId::from_bits(number.try_into().unwrap()),
        }
    }

    fn offer(offerer: usize, hash: u64) -> OpenOffer {
        OpenOffer {
            hash,
            offerer: member(offerer),
            deadline: NOW,
        }
    }

    #[test]
    fn each_is_closed_once_and_by_its_name() {
        let mut offers = OpenOffers::default();
        offers.open(NOW, offer(1, 10));
        offers.open(NOW, offer(2, 20));
        assert_eq!(offers.close(NOW, 30), None);
        assert_eq!(offers.close(NOW, 20), Some(member(2)));
        assert_eq!(offers.close(NOW, 20), None);
        assert_eq!(offers.close(NOW, 10), Some(member(1)));
        assert_eq!(
            offers.0.capacity(),
            0,
            "who has none keeps no room for them"
        );
    }

    #[test]
    fn time_closes_them() {
        let mut offers = OpenOffers::default();
        offers.open(NOW, offer(1, 10));
        assert_eq!(offers.close(NOW + 1, 10), None);
        let later = OpenOffer {
            deadline: NOW + 60,
            ..offer(1, 11)
        };
        offers.open(NOW + 1, later);
        assert_eq!(&*offers.0, [later], "the first is forgotten");
    }

    #[test]
    fn an_offer_that_is_repeated_is_one_offer() {
        let mut offers = OpenOffers::default();
        for _ in 0..3 {
            offers.open(NOW, offer(1, 10));
        }
        offers.open(NOW, offer(2, 10));
        assert_eq!(offers.0.len(), 2, "another connection's is another one");
    }

    #[test]
    fn one_connection_closes_none_but_its_own() {
        let mut offers = OpenOffers::default();
        offers.open(NOW, offer(0, 0));
        for hash in 1..1_000 {
            offers.open(NOW, offer(1, hash));
        }
        assert_eq!(offers.0.len(), 1 + OPEN_OF_ONE_MAX);
        let others = 2..2 + OPEN_MAX - offers.0.len();
        for other in others {
            offers.open(NOW, offer(other, 2_000));
        }
        assert_eq!(offers.0.len(), OPEN_MAX);
        for hash in 3_000..4_000 {
            offers.open(NOW, offer(1, hash));
        }
        assert_eq!(offers.close(NOW, 0), Some(member(0)), "it was the oldest");
        // With as many connections as there is room, all are closed in the end.
        offers.open(NOW, offer(0, 1));
        for other in 1_000..1_000 + OPEN_MAX {
            offers.open(NOW, offer(other, 5_000));
        }
        assert_eq!(offers.0.len(), OPEN_MAX);
        assert_eq!(offers.close(NOW, 1), None);
    }
}

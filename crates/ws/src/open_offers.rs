//! The offers that a peer has been handed and may answer. Pure.
//!
//! Kept with the peer that may answer, each with the connection that it came from: so an answer
//! finds its way whoever else has the offerer's peer id.
//!
//! There is room for [`OPEN_MAX`], and a connection has no more than [`OPEN_OF_ONE_MAX`] of them,
//! or one if there is no room left; a further one takes the place of its own oldest. When there is
//! no room, one is closed of the node that has most: the oldest of the network that has most there.
//! So whoever makes offers to a peer at a high rate closes nobody's at his node but his own; and no
//! node, whatever it says of networks and connections, those of others once it has as many as they.
//! One that has gone, as another process of its name has come, has no share any more.
//!
//! Those of all peers have a share of the memory of swarms. While that is used up, nobody gets room
//! for more than he has, but each for [`OPEN_KEPT`]; and cleaning closes the older half of all
//! lists that are longer, so that nobody keeps room that others want.

use aquatic_cluster::nodes::{NODES_MAX, NodeIndex};
use aquatic_types::Seconds;
use thin_vec::ThinVec;

use crate::connection_ref::Packed;
use crate::messages::ConnectionRef;

/// Open offers of a peer. With ten offers per announce, each peer of a swarm is handed ten while
/// every other one announces once; so these are those of twelve intervals.
pub(crate) const OPEN_MAX: usize = 120;

/// Open offers of one connection to one peer. Each announce makes one.
pub(crate) const OPEN_OF_ONE_MAX: usize = 16;

/// Open offers for which there is always room: it is counted for every peer.
pub(crate) const OPEN_KEPT: usize = 8;

/// What the open offers for which there is always room take, with what a list begins with and what
/// the allocator keeps with it.
pub(crate) const KEPT_BYTES: usize = OPEN_KEPT * size_of::<OpenOffer>() + 16 + 16;

const _: () = assert!(size_of::<OpenOffer>() == 24);

/// Networks are told apart by so many bits where it matters who has most.
const NETWORKS: usize = 256;

/// Open offers, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct OpenOffers(ThinVec<OpenOffer>);

/// An offer that a peer may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenOffer {
    /// A keyed hash of its name and of the offerer's peer id.
    hash: u64,
    /// Whose it is: a connection of this process or another.
    offerer: Packed,
    /// A keyed hash of the offerer's network.
    network: u16,
    /// The last second in which it can be answered. Never less than that of earlier offers.
    deadline: Seconds,
}

impl OpenOffer {
    /// One of this name, whose answer goes to `offerer`.
    pub(crate) fn new(hash: u64, offerer: ConnectionRef, network: u16, deadline: Seconds) -> Self {
        Self {
            hash,
            offerer: offerer.packed(),
            network,
            deadline,
        }
    }

    fn network(&self) -> usize {
        usize::from(self.network) % NETWORKS
    }

    fn node(&self) -> NodeIndex {
        self.offerer.node()
    }
}

impl OpenOffers {
    /// Bytes that they take, beyond [`KEPT_BYTES`].
    pub(crate) fn bytes(&self) -> usize {
        self.0.capacity().saturating_sub(OPEN_KEPT) * size_of::<OpenOffer>()
    }

    /// Forgets those that nobody can answer any more.
    pub(crate) fn expire(&mut self, now: Seconds) {
        let offers = &mut self.0;
        let before = offers.len();
        // Not in order if `cleaning.max_offer_age` has been changed meanwhile.
        offers.retain(|it| it.deadline >= now);
        if offers.len() < before && offers.len() * 4 <= offers.capacity() {
            self.shrink();
        }
    }

    /// Closes the older half, but leaves [`OPEN_KEPT`]. Those have had the most time for an answer.
    pub(crate) fn halve(&mut self) {
        let offers = &mut self.0;
        let kept = offers.len().div_ceil(2).max(OPEN_KEPT);
        offers.drain(..offers.len().saturating_sub(kept));
        if offers.capacity() > OPEN_KEPT {
            self.shrink();
        }
    }

    /// A peer has been handed an offer. `may_grow` is false while there is no memory for more.
    /// `has_gone` tells which nodes nobody hears any more.
    pub(crate) fn open(
        &mut self,
        now: Seconds,
        offer: OpenOffer,
        may_grow: bool,
        has_gone: impl Fn(NodeIndex) -> bool,
    ) {
        let offers = &mut self.0;
        let expired = offers.iter().take_while(|it| it.deadline < now).count();
        offers.drain(..expired);

        let is_own = |it: &OpenOffer| it.offerer == offer.offerer;
        let room = match may_grow {
            true => OPEN_MAX,
            false => offers.capacity().clamp(OPEN_KEPT, OPEN_MAX),
        };
        let is_full = offers.len() >= room;
        let own_max = if is_full { 1 } else { OPEN_OF_ONE_MAX };
        let (mut own, mut oldest, mut same) = (0, None, None);
        for (at, it) in offers.iter().enumerate().filter(|(_, it)| is_own(it)) {
            own += 1;
            oldest = oldest.or(Some(at));
            same = same.or((it.hash == offer.hash).then_some(at));
        }
        let replaced = same
            .or(oldest.filter(|_| own >= own_max))
            .or_else(|| is_full.then(|| giving_way(offers, &offer, has_gone)));
        if let Some(at) = replaced {
            offers.remove(at);
        }
        if offers.capacity() < OPEN_KEPT {
            offers.reserve_exact(OPEN_KEPT - offers.len());
        }
        offers.push(offer);
    }

    /// A peer answers: whose offer it was, if it was open. It no longer is.
    pub(crate) fn close(&mut self, now: Seconds, hash: u64) -> Option<ConnectionRef> {
        let is_it = |it: &OpenOffer| it.hash == hash && it.deadline >= now;
        let at = self.0.iter().position(is_it)?;
        let closed = self.0.remove(at);
        if self.0.is_empty() {
            self.shrink();
        }
        Some(closed.offerer.unpacked())
    }

    /// Most peers have none most of the time.
    fn shrink(&mut self) {
        if self.0.is_empty() {
            *self = Self::default();
        } else {
            self.0.shrink_to_fit();
        }
    }
}

/// The place of the offer that gives way to a further one.
fn giving_way(
    offers: &[OpenOffer],
    further: &OpenOffer,
    has_gone: impl Fn(NodeIndex) -> bool,
) -> usize {
    if let Some(gone) = offers.iter().position(|it| has_gone(it.node())) {
        return gone;
    }
    let largest = largest_node(offers, further);
    let is_there = |it: &&OpenOffer| it.node() == largest;
    let of_node = offers.iter().filter(is_there);
    let is_of_largest = of_largest::<NETWORKS>(of_node, further, OpenOffer::network);
    let gives_way = |it: &OpenOffer| is_there(&it) && is_of_largest(it);
    offers.iter().position(gives_way).unwrap_or(0)
}

/// The node that has most of the offers, or would have with a further one.
fn largest_node(offers: &[OpenOffer], further: &OpenOffer) -> NodeIndex {
    // There may be no other node, and nothing to be counted.
    if offers.iter().all(|it| it.node() == further.node()) {
        return further.node();
    }
    let node = |it: &OpenOffer| usize::from(it.node().0);
    let is_of_largest = of_largest::<NODES_MAX>(offers.iter(), further, node);
    let oldest = offers.iter().find(|it| is_of_largest(it));
    oldest.unwrap_or(further).node()
}

/// Tells which offers are of the group that has most of them, or would have with a further one: of
/// its own, then.
fn of_largest<'a, const GROUPS: usize>(
    offers: impl Iterator<Item = &'a OpenOffer>,
    further: &OpenOffer,
    group: impl Fn(&OpenOffer) -> usize,
) -> impl Fn(&OpenOffer) -> bool {
    let mut counts = [0_u8; GROUPS];
    for offer in offers {
        if let Some(count) = counts.get_mut(group(offer)) {
            *count = count.saturating_add(1);
        }
    }
    let most = counts.iter().copied().max().unwrap_or(0);
    let count_of = move |group: usize| counts.get(group).copied().unwrap_or(0);
    let own_group = group(further);
    let own = count_of(own_group);
    let is_largest = own > 0 && own + 1 >= most;
    move |it| match is_largest {
        true => group(it) == own_group,
        false => count_of(group(it)) == most,
    }
}

#[cfg(test)]
mod tests {
    use aquatic_stream::ConnectionKey;

    use super::*;

    const NOW: Seconds = Seconds(100);

    /// Has gone.
    const NOBODY: fn(NodeIndex) -> bool = |_| false;

    fn member(number: usize) -> ConnectionRef {
        ConnectionRef::here(0, ConnectionKey::from_bits(number.try_into().unwrap()))
    }

    /// Each connection is of a network of its own.
    fn offer(offerer: usize, hash: u64) -> OpenOffer {
        let network = u16::try_from(offerer % NETWORKS).unwrap();
        of_network(network, offerer, hash)
    }

    fn of_network(network: u16, offerer: usize, hash: u64) -> OpenOffer {
        OpenOffer::new(hash, member(offerer), network, NOW)
    }

    #[test]
    fn each_is_closed_once_and_by_its_name() {
        let mut offers = OpenOffers::default();
        offers.open(NOW, offer(1, 10), true, NOBODY);
        offers.open(NOW, offer(2, 20), true, NOBODY);
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
        offers.open(NOW, offer(1, 10), true, NOBODY);
        assert_eq!(offers.close(NOW + 1, 10), None);
        let later = OpenOffer::new(11, member(1), 1, NOW + 60);
        offers.open(NOW + 1, later, true, NOBODY);
        assert_eq!(&*offers.0, [later], "the first is forgotten");
    }

    #[test]
    fn an_offer_that_is_repeated_is_one_offer() {
        let mut offers = OpenOffers::default();
        for _ in 0..3 {
            offers.open(NOW, offer(1, 10), true, NOBODY);
        }
        offers.open(NOW, offer(2, 10), true, NOBODY);
        assert_eq!(offers.0.len(), 2, "another connection's is another one");
    }

    #[test]
    fn one_connection_closes_none_but_its_own() {
        let mut offers = OpenOffers::default();
        offers.open(NOW, offer(0, 0), true, NOBODY);
        for hash in 1..1_000 {
            offers.open(NOW, offer(1, hash), true, NOBODY);
        }
        assert_eq!(offers.0.len(), 1 + OPEN_OF_ONE_MAX);
        let others = 2..2 + OPEN_MAX - offers.0.len();
        for other in others {
            offers.open(NOW, offer(other, 2_000), true, NOBODY);
        }
        assert_eq!(offers.0.len(), OPEN_MAX);
        for hash in 3_000..4_000 {
            offers.open(NOW, offer(1, hash), true, NOBODY);
        }
        assert_eq!(offers.close(NOW, 0), Some(member(0)), "it was the oldest");
        // With as many connections as there is room, all are closed in the end.
        offers.open(NOW, offer(0, 1), true, NOBODY);
        for other in 1_000..1_000 + OPEN_MAX {
            offers.open(NOW, offer(other, 5_000), true, NOBODY);
        }
        assert_eq!(offers.0.len(), OPEN_MAX);
        assert_eq!(offers.close(NOW, 1), None);
    }

    #[test]
    fn one_network_closes_none_but_its_own() {
        let mut offers = OpenOffers::default();
        for honest in 0..20 {
            offers.open(NOW, offer(honest, 1), true, NOBODY);
        }
        for other in 1_000..2_000 {
            offers.open(NOW, of_network(100, other, 2), true, NOBODY);
        }
        assert_eq!(offers.0.len(), OPEN_MAX);
        // Who comes now has the place of one of those.
        for honest in 20..40 {
            offers.open(
                NOW,
                offer(honest, 3 + u64::try_from(honest).unwrap()),
                true,
                NOBODY,
            );
        }
        assert_eq!(offers.0.len(), OPEN_MAX);
        for honest in 20..40 {
            let hash = 3 + u64::try_from(honest).unwrap();
            assert_eq!(offers.close(NOW, hash), Some(member(honest)));
        }
        for honest in 0..20 {
            assert_eq!(offers.close(NOW, 1), Some(member(honest)));
        }
    }

    #[test]
    fn of_two_networks_with_as_many_the_one_that_goes_on_gives_way() {
        let mut offers = OpenOffers::default();
        let half = OPEN_MAX / 2;
        for offerer in 0..OPEN_MAX {
            let network = if offerer < half { 1 } else { 2 };
            offers.open(NOW, of_network(network, offerer, 1), true, NOBODY);
        }
        offers.open(NOW, of_network(2, OPEN_MAX, 2), true, NOBODY);
        assert_eq!(
            &offers.0[0],
            &of_network(1, 0, 1),
            "the oldest of all stays"
        );
        let of_second = offers.0.iter().filter(|it| it.network() == 2);
        assert_eq!(of_second.count(), half);
    }

    fn of_node(node: u16, network: u16, offerer: usize) -> OpenOffer {
        let offerer = ConnectionRef {
            node: NodeIndex(node),
            ..member(offerer)
        };
        OpenOffer::new(7, offerer, network, NOW)
    }

    /// What one node says of networks and connections, no other one can know.
    #[test]
    fn one_node_closes_none_but_its_own_once_it_has_its_share() {
        let mut offers = OpenOffers::default();
        let mut network = 0;
        let mut flood = |offers: &mut OpenOffers| {
            for offerer in 10_000..11_000 {
                network += 1;
                offers.open(NOW, of_node(3, network, offerer), true, NOBODY);
            }
        };
        let of = |offers: &OpenOffers, node| {
            let of_node = offers.0.iter().filter(|it| it.node() == NodeIndex(node));
            of_node.count()
        };
        flood(&mut offers);
        // All of one network: what nobody would have less right to, among clients of one node.
        for offerer in 0..60 {
            offers.open(NOW, of_node(0, 5, offerer), true, NOBODY);
        }
        for offerer in 0..25 {
            offers.open(NOW, of_node(1, 6, offerer), true, NOBODY);
        }
        flood(&mut offers);
        let shares = [0, 1, 3].map(|node| of(&offers, node));
        assert_eq!(shares, [48, 25, 47]);
        // The others go on, and get what is theirs.
        for offerer in 100..200 {
            offers.open(NOW, of_node(1, 6, offerer), true, NOBODY);
        }
        flood(&mut offers);
        let shares = [0, 1, 3].map(|node| of(&offers, node));
        assert_eq!(shares, [40; 3]);
    }

    /// Else one that starts again and again would have a share each time.
    #[test]
    fn offers_of_nodes_that_have_gone_are_closed_first() {
        let mut offers = OpenOffers::default();
        for offerer in 0..20 {
            offers.open(NOW, of_node(0, 5, offerer), true, NOBODY);
        }

        let has_gone = |node: NodeIndex| (10..500).contains(&node.0);
        for node in 10..=500 {
            offers.open(NOW, of_node(node, node, 0), true, has_gone);
        }
        let here = offers.0.iter().filter(|it| it.node() == NodeIndex::HERE);
        assert_eq!((here.count(), offers.0.len()), (20, OPEN_MAX));
    }

    #[test]
    fn without_memory_nobody_gets_more_room() {
        let mut offers = OpenOffers::default();
        for offerer in 0..100 {
            offers.open(NOW, offer(offerer, 1), false, NOBODY);
            assert_eq!(offers.bytes(), 0);
        }
        assert_eq!(offers.0.len(), OPEN_KEPT);
        for offerer in 0..10 {
            offers.open(NOW, offer(offerer, 1), true, NOBODY);
        }
        let bytes = offers.bytes();
        assert!(bytes > 0);
        for offerer in 100..200 {
            offers.open(NOW, offer(offerer, 1), false, NOBODY);
        }
        assert_eq!(offers.bytes(), bytes);
        assert_eq!(offers.close(NOW, 1), Some(member(200 - offers.0.len() - 1)));
        // Of a list that has been cut to less than that.
        offers.0.truncate(3);
        offers.shrink();
        for offerer in 0..100 {
            offers.open(NOW, offer(offerer, 1), false, NOBODY);
        }
        assert_eq!((offers.0.len(), offers.bytes()), (OPEN_KEPT, 0));
    }

    #[test]
    fn the_older_half_can_be_closed() {
        let mut offers = OpenOffers::default();
        for offerer in 0..40 {
            offers.open(NOW, offer(offerer, 1), true, NOBODY);
        }
        for left in [20, 10, 8, 8] {
            offers.halve();
            assert_eq!((offers.0.len(), offers.0.capacity()), (left, left));
        }
        assert_eq!(
            offers.close(NOW, 1),
            Some(member(32)),
            "the newest are left"
        );
    }

    #[test]
    fn time_frees_their_room() {
        let mut offers = OpenOffers::default();
        for offerer in 0..20 {
            offers.open(NOW, offer(offerer, 1), true, NOBODY);
        }
        let later = OpenOffer::new(2, member(30), 0, NOW + 60);
        offers.open(NOW, later, true, NOBODY);
        offers.expire(NOW);
        assert_eq!(offers.0.len(), 21);
        offers.expire(NOW + 1);
        assert_eq!(&*offers.0, [later]);
        assert_eq!(offers.bytes(), 0);
        offers.expire(NOW + 61);
        assert_eq!(offers.0.capacity(), 0);
    }
}

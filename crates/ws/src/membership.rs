//! In which swarms the peers of a connection are. Pure.

use aquatic_types::{InfoHash, PeerId, PeerStatus};
use thin_vec::ThinVec;

use crate::refusal::Refusal;

/// Peers that one connection may have in one torrent. Clients in one page that share a connection
/// are few; with more, it would be handed most of what others offer.
pub const PEERS_PER_TORRENT_MAX: usize = 8;

/// The peers of a connection: the torrents to which it has announced, with the peer ids that it
/// used for each.
///
/// What it says is what shards may know: a peer is in it as soon as an announce is on its way, and
/// until the last reply that is on its way has said that it is not in the swarm. So when the
/// connection ends, nobody is left behind.
#[derive(Debug, Default)]
pub struct Membership(ThinVec<Peer>);

#[derive(Debug)]
struct Peer {
    info_hash: InfoHash,
    peer_id: PeerId,
    /// Announces that are on their way, the farewell, and questions whether it is still there.
    in_flight: u16,
    farewell: Farewell,
}

/// What has become of the tracker's wish that a peer leave, which the peer has not said itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Farewell {
    /// There is no such wish.
    None,
    /// The shard has not been told yet.
    Due,
    /// The shard has been told, and has not confirmed it.
    OnItsWay,
}

/// What an announce is to a [`Membership`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MembershipChange {
    /// It has added the peer. Its reply is to be [settled](Membership::settle).
    Joined,
    /// The peer was there already. Its reply is to be [settled](Membership::settle), too.
    Renewed,
    /// Nothing: who has not come says goodbye.
    None,
}

impl Membership {
    /// An announce goes on its way.
    ///
    /// # Errors
    /// If it must not. Nothing was changed then.
    pub fn ask(
        &mut self,
        info_hash: InfoHash,
        peer_id: PeerId,
        status: PeerStatus,
        peers_max: usize,
    ) -> Result<MembershipChange, Refusal> {
        if let Some(at) = self.place_of(info_hash, peer_id)
            && let Some(peer) = self.0.get_mut(at)
        {
            // An announce may be on its way before a farewell that is due, which would then remove
            // a peer that has just shown that it lives.
            if peer.farewell == Farewell::Due {
                peer.farewell = Farewell::None;
            } else {
                peer.in_flight = peer.in_flight.saturating_add(1);
            }
            return Ok(MembershipChange::Renewed);
        }
        if status == PeerStatus::Stopped {
            return Ok(MembershipChange::None);
        }
        if self.0.len() >= peers_max {
            return Err(Refusal::TORRENTS_PER_CONNECTION);
        }
        if self.siblings(info_hash, peer_id).count() >= PEERS_PER_TORRENT_MAX {
            return Err(Refusal::PEERS_PER_TORRENT);
        }
        self.0.push(Peer {
            info_hash,
            peer_id,
            in_flight: 1,
            farewell: Farewell::None,
        });
        Ok(MembershipChange::Joined)
    }

    /// The reply to an announce has come, which says whether the peer is in the swarm now. Returns
    /// whether the peer was removed.
    pub fn settle(&mut self, info_hash: InfoHash, peer_id: PeerId, is_in_swarm: bool) -> bool {
        let Some(at) = self.place_of(info_hash, peer_id) else {
            return false;
        };
        let Some(peer) = self.0.get_mut(at) else {
            return false;
        };
        peer.in_flight = peer.in_flight.saturating_sub(1);
        let is_over = peer.in_flight == 0 && !is_in_swarm;
        if is_over {
            self.0.swap_remove(at);
            if self.0.len() * 4 < self.0.capacity() {
                self.0.shrink_to_fit();
            }
        }
        is_over
    }

    /// Has peers leave that have not said so themselves. Each is given to `leave`, so that its
    /// shard is told, unless there is an announce before [that](Self::says_farewell); it stays in
    /// the book until the shard has [confirmed](Self::confirm) that.
    pub fn dismiss(
        &mut self,
        mut is_meant: impl FnMut(&InfoHash, &PeerId) -> bool,
        mut leave: impl FnMut(InfoHash, PeerId),
    ) {
        for peer in &mut self.0 {
            if peer.farewell == Farewell::None && is_meant(&peer.info_hash, &peer.peer_id) {
                peer.farewell = Farewell::Due;
                peer.in_flight = peer.in_flight.saturating_add(1);
                leave(peer.info_hash, peer.peer_id);
            }
        }
    }

    /// The shard can be told that a [dismissed](Self::dismiss) peer leaves. Returns whether it is
    /// to be told: not if the peer has announced since.
    pub fn says_farewell(&mut self, info_hash: InfoHash, peer_id: PeerId) -> bool {
        let Some(at) = self.place_of(info_hash, peer_id) else {
            return false;
        };
        let due = |peer: &&mut Peer| peer.farewell == Farewell::Due;
        let peer = self.0.get_mut(at).filter(due);
        peer.map(|peer| peer.farewell = Farewell::OnItsWay)
            .is_some()
    }

    /// The shard has let a [dismissed](Self::dismiss) peer go. Returns whether the peer was
    /// removed; otherwise another announce is on its way.
    pub fn confirm(&mut self, info_hash: InfoHash, peer_id: PeerId) -> bool {
        if let Some(at) = self.place_of(info_hash, peer_id)
            && let Some(peer) = self.0.get_mut(at)
        {
            peer.farewell = Farewell::None;
        }
        self.settle(info_hash, peer_id, false)
    }

    /// A peer may have had to give way, and is to be looked for: the shard's reply is to be
    /// [settled](Self::settle), like that to an announce. Returns whether it is in the book.
    pub fn doubt(&mut self, info_hash: InfoHash, peer_id: PeerId) -> bool {
        if let Some(at) = self.place_of(info_hash, peer_id)
            && let Some(peer) = self.0.get_mut(at)
        {
            peer.in_flight = peer.in_flight.saturating_add(1);
            return true;
        }
        false
    }

    /// Peers in the same torrent as this one; no more than [`PEERS_PER_TORRENT_MAX`].
    pub fn siblings(&self, info_hash: InfoHash, peer_id: PeerId) -> impl Iterator<Item = PeerId> {
        let is_sibling = move |it: &&Peer| it.info_hash == info_hash && it.peer_id != peer_id;
        let siblings = self.0.iter().filter(is_sibling).map(|it| it.peer_id);
        siblings.take(PEERS_PER_TORRENT_MAX)
    }

    /// All peers: torrent and peer id of each.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (InfoHash, PeerId)> {
        self.0.iter().map(|it| (it.info_hash, it.peer_id))
    }

    fn place_of(&self, info_hash: InfoHash, peer_id: PeerId) -> Option<usize> {
        let is_it = |it: &Peer| it.info_hash == info_hash && it.peer_id == peer_id;
        self.0.iter().position(is_it)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: InfoHash = InfoHash([1; 20]);
    const B: InfoHash = InfoHash([2; 20]);
    const ME: PeerId = PeerId([3; 20]);
    const OTHER: PeerId = PeerId([4; 20]);
    const LEECHER: PeerStatus = PeerStatus::Leecher;

    #[test]
    fn a_peer_stays_until_the_last_reply() {
        let mut membership = Membership::default();
        assert_eq!(
            membership.ask(A, ME, LEECHER, 2),
            Ok(MembershipChange::Joined)
        );
        assert_eq!(
            membership.ask(A, ME, PeerStatus::Stopped, 2),
            Ok(MembershipChange::Renewed)
        );
        assert_eq!(
            membership.ask(A, ME, LEECHER, 2),
            Ok(MembershipChange::Renewed)
        );
        assert!(!membership.settle(A, ME, true));
        assert!(
            !membership.settle(A, ME, false),
            "another announce is on its way"
        );
        assert!(!membership.settle(A, ME, true));
        assert_eq!(membership.iter().collect::<Vec<_>>(), [(A, ME)]);
        assert_eq!(
            membership.ask(A, ME, PeerStatus::Stopped, 2),
            Ok(MembershipChange::Renewed)
        );
        assert!(membership.settle(A, ME, false));
        assert_eq!(membership.iter().len(), 0);
    }

    #[test]
    fn the_dismissed_stay_in_the_book_until_that_is_confirmed() {
        let mut membership = Membership::default();
        for info_hash in [A, B] {
            assert_eq!(
                membership.ask(info_hash, ME, LEECHER, 2),
                Ok(MembershipChange::Joined)
            );
            assert!(!membership.settle(info_hash, ME, true));
        }
        let dismiss = |membership: &mut Membership| {
            let mut told = Vec::new();
            membership.dismiss(|it, _| *it == A, |info_hash, _| told.push(info_hash));
            told
        };
        assert_eq!(dismiss(&mut membership), [A]);
        assert_eq!(dismiss(&mut membership), [], "it was told already");
        assert!(membership.says_farewell(A, ME));
        assert!(!membership.says_farewell(A, ME), "once");
        assert_eq!(membership.iter().len(), 2);
        assert!(membership.confirm(A, ME));
        assert_eq!(membership.iter().collect::<Vec<_>>(), [(B, ME)]);

        // An announce behind the farewell brings it back.
        assert_eq!(
            membership.ask(A, ME, LEECHER, 2),
            Ok(MembershipChange::Joined)
        );
        assert!(!membership.settle(A, ME, true));
        assert_eq!(dismiss(&mut membership), [A]);
        assert!(membership.says_farewell(A, ME));
        assert_eq!(
            membership.ask(A, ME, LEECHER, 2),
            Ok(MembershipChange::Renewed)
        );
        assert!(!membership.confirm(A, ME));
        assert!(!membership.settle(A, ME, true));
        assert_eq!(membership.iter().len(), 2);
        assert_eq!(dismiss(&mut membership), [A], "and it can be told again");
    }

    #[test]
    fn an_announce_takes_a_farewell_back_that_is_due() {
        let mut membership = Membership::default();
        assert_eq!(
            membership.ask(A, ME, LEECHER, 1),
            Ok(MembershipChange::Joined)
        );
        assert!(!membership.settle(A, ME, true));
        for rounds in 1..=2 {
            let mut told = 0;
            for _ in 0..rounds {
                membership.dismiss(|_, _| true, |_, _| told += 1);
                assert_eq!(
                    membership.ask(A, ME, LEECHER, 1),
                    Ok(MembershipChange::Renewed)
                );
                assert!(!membership.settle(A, ME, true));
            }
            assert_eq!(told, rounds);
            assert!(!membership.says_farewell(A, ME));
        }
        membership.dismiss(|_, _| true, |_, _| ());
        assert!(membership.says_farewell(A, ME));
        assert!(membership.confirm(A, ME));
        assert!(!membership.says_farewell(A, ME), "nobody is there");
    }

    #[test]
    fn who_had_to_give_way_leaves_the_book() {
        let mut membership = Membership::default();
        assert!(!membership.doubt(A, ME));
        assert_eq!(
            membership.ask(A, ME, LEECHER, 2),
            Ok(MembershipChange::Joined)
        );
        assert!(!membership.settle(A, ME, true));
        assert!(membership.doubt(A, ME));
        assert!(
            !membership.settle(A, ME, true),
            "it has come back meanwhile"
        );
        assert!(membership.doubt(A, ME));
        // An announce behind the question.
        assert_eq!(
            membership.ask(A, ME, LEECHER, 2),
            Ok(MembershipChange::Renewed)
        );
        assert!(!membership.settle(A, ME, false));
        assert!(!membership.settle(A, ME, true));
        assert!(membership.doubt(A, ME));
        assert!(membership.settle(A, ME, false));
        assert_eq!(membership.iter().len(), 0);
    }

    #[test]
    fn a_torrent_has_few_peers_of_one_connection() {
        let mut membership = Membership::default();
        let peer = |number| PeerId([number; 20]);
        for number in 0..8 {
            assert_eq!(
                membership.ask(A, peer(number), LEECHER, 20),
                Ok(MembershipChange::Joined)
            );
        }
        let more = membership.ask(A, peer(8), LEECHER, 20);
        assert_eq!(more, Err(Refusal::PEERS_PER_TORRENT));
        assert_eq!(
            membership.ask(A, peer(7), LEECHER, 20),
            Ok(MembershipChange::Renewed)
        );
        assert_eq!(
            membership.ask(B, peer(8), LEECHER, 20),
            Ok(MembershipChange::Joined)
        );
    }

    #[test]
    fn peers_are_told_apart_by_both_names_and_bounded() {
        let mut membership = Membership::default();
        let goodbye = membership.ask(A, ME, PeerStatus::Stopped, 1);
        assert_eq!(goodbye, Ok(MembershipChange::None));
        assert_eq!(membership.iter().len(), 0, "who leaves does not come");
        assert_eq!(
            membership.ask(A, ME, LEECHER, 1),
            Ok(MembershipChange::Joined)
        );
        for (info_hash, peer_id) in [(A, OTHER), (B, ME)] {
            let more = membership.ask(info_hash, peer_id, LEECHER, 1);
            assert_eq!(more, Err(Refusal::TORRENTS_PER_CONNECTION));
        }
        assert_eq!(
            membership.ask(A, OTHER, LEECHER, 3),
            Ok(MembershipChange::Joined)
        );
        assert_eq!(
            membership.ask(B, ME, LEECHER, 3),
            Ok(MembershipChange::Joined)
        );
        assert!(membership.settle(A, OTHER, false));
        assert!(!membership.settle(B, OTHER, false), "it never came");
        assert_eq!(membership.iter().collect::<Vec<_>>(), [(A, ME), (B, ME)]);
    }
}

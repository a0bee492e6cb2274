//! In which swarms the peers of a connection are. Pure.

use aquatic_types::{InfoHash, PeerId, PeerStatus};
use thin_vec::ThinVec;

use crate::refusal::Refusal;

/// The torrents to which a connection has announced, with the peer id it used for each.
///
/// What it says is what relays may know: a torrent is in it as soon as an announce is on its way,
/// and until the last reply that is on its way has said that the peer is not in the swarm. So when
/// the connection ends, nobody is left behind.
#[derive(Debug, Default)]
pub struct Membership(ThinVec<Torrent>);

#[derive(Debug)]
struct Torrent {
    info_hash: InfoHash,
    peer_id: PeerId,
    /// Announces that are on their way.
    asked: u16,
}

/// What an announce is to a [`Membership`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It has added the torrent. Its reply is to be [settled](Membership::settle).
    Added,
    /// The torrent was there already. Its reply is to be [settled](Membership::settle), too.
    Known,
    /// Nothing: who has not come says goodbye.
    Nothing,
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
        torrents_max: usize,
    ) -> Result<Asked, Refusal> {
        if let Some(torrent) = self.0.iter_mut().find(|it| it.info_hash == info_hash) {
            if torrent.peer_id != peer_id {
                return Err(Refusal::PEER_ID_CHANGED);
            }
            torrent.asked = torrent.asked.saturating_add(1);
            return Ok(Asked::Known);
        }
        if status == PeerStatus::Stopped {
            return Ok(Asked::Nothing);
        }
        if self.0.len() >= torrents_max {
            return Err(Refusal::TORRENTS_PER_CONNECTION);
        }
        self.0.push(Torrent {
            info_hash,
            peer_id,
            asked: 1,
        });
        Ok(Asked::Added)
    }

    /// The reply to an announce has come, which says whether the peer is in the swarm now. Returns
    /// whether the torrent was removed.
    pub fn settle(&mut self, info_hash: InfoHash, is_in_swarm: bool) -> bool {
        let Some(at) = self.0.iter().position(|it| it.info_hash == info_hash) else {
            return false;
        };
        let Some(torrent) = self.0.get_mut(at) else {
            return false;
        };
        torrent.asked = torrent.asked.saturating_sub(1);
        let is_over = torrent.asked == 0 && !is_in_swarm;
        if is_over {
            self.0.swap_remove(at);
            if self.0.len() * 4 < self.0.capacity() {
                self.0.shrink_to_fit();
            }
        }
        is_over
    }

    /// All torrents, with the peer id used for each.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (InfoHash, PeerId)> {
        self.0.iter().map(|it| (it.info_hash, it.peer_id))
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
    fn a_torrent_stays_until_the_last_reply() {
        let mut membership = Membership::default();
        assert_eq!(membership.ask(A, ME, LEECHER, 2), Ok(Asked::Added));
        assert_eq!(
            membership.ask(A, ME, PeerStatus::Stopped, 2),
            Ok(Asked::Known)
        );
        assert_eq!(membership.ask(A, ME, LEECHER, 2), Ok(Asked::Known));
        assert!(!membership.settle(A, true));
        assert!(
            !membership.settle(A, false),
            "another announce is on its way"
        );
        assert!(!membership.settle(A, true));
        assert_eq!(membership.iter().collect::<Vec<_>>(), [(A, ME)]);
        assert_eq!(
            membership.ask(A, ME, PeerStatus::Stopped, 2),
            Ok(Asked::Known)
        );
        assert!(membership.settle(A, false));
        assert_eq!(membership.iter().len(), 0);
    }

    #[test]
    fn peer_ids_are_kept_and_torrents_are_bounded() {
        let mut membership = Membership::default();
        let goodbye = membership.ask(A, ME, PeerStatus::Stopped, 1);
        assert_eq!(goodbye, Ok(Asked::Nothing));
        assert_eq!(membership.iter().len(), 0, "who leaves does not come");
        assert_eq!(membership.ask(A, ME, LEECHER, 1), Ok(Asked::Added));
        let changed = membership.ask(A, OTHER, LEECHER, 1);
        assert_eq!(changed, Err(Refusal::PEER_ID_CHANGED));
        let more = membership.ask(B, OTHER, LEECHER, 1);
        assert_eq!(more, Err(Refusal::TORRENTS_PER_CONNECTION));
        assert_eq!(membership.ask(B, OTHER, LEECHER, 2), Ok(Asked::Added));
    }
}

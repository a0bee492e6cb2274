//! What is known of peers without their having announced here: from before a restart, or from
//! another tracker.

use aquatic_types::{InfoHash, PeerStatus, Seconds};

use crate::hash::{PeerKey, TorrentKey};
use crate::outcome::{PeerPolicy, Refusal};
use crate::peer::{Peer, PeerState};
use crate::torrent_map::TorrentMap;

/// What is told of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told<K> {
    /// Who it is.
    pub peer: K,
    /// Seeder, leecher, or gone.
    pub status: PeerStatus,
    /// It has completed its download, which is to be counted.
    pub completed: bool,
    /// Its download was counted already, or it has been a seeder.
    pub is_finished: bool,
    /// The last second in which it is alive. For a peer that has left: in which it would have been,
    /// had it announced once more instead.
    pub deadline: Seconds,
}

/// What became of something that was [told](TorrentMap::apply).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied<V = ()> {
    /// The peer was unknown and is now in the swarm.
    Added,
    /// The peer was known, and this is newer.
    Updated,
    /// The peer has left; this was kept with it.
    Removed(V),
    /// Nothing that was not known, or of a peer whose time is over.
    Nothing,
    /// The peer was unknown and still is, since its network has as many peers in the swarm as are
    /// allowed.
    NotAdded,
}

impl<K: PeerKey, V> TorrentMap<K, V> {
    /// Notes what is told of a peer, unless something newer is known: the later deadline counts.
    /// So the order in which such things arrive, and how often, makes no difference.
    ///
    /// `policy` is asked before an unknown peer is added, as in [`Self::announce`]. It is not asked
    /// about known ones, since nobody tells by which client they are.
    ///
    /// # Errors
    ///
    /// When the peer is unknown and there is no room for it. Nothing was changed then.
    pub fn apply(
        &mut self,
        now: Seconds,
        torrent: &TorrentKey,
        told: &Told<K>,
        policy: &mut impl PeerPolicy<K, V>,
    ) -> Result<Applied<V>, Refusal> {
        if PeerState::new(told.deadline, false).has_passed(now) {
            return Ok(Applied::Nothing);
        }
        let position = self.position(torrent);
        let entry = position.and_then(|position| self.torrents.get(position));
        let at = entry.and_then(|entry| entry.swarm.find(&told.peer, &self.rules));
        match (position.zip(at), told.status) {
            (Some((position, at)), _) => Ok(self.apply_to(position, at, told)),
            (None, PeerStatus::Stopped) => Ok(Applied::Nothing),
            (None, PeerStatus::Seeder | PeerStatus::Leecher) => {
                self.apply_new(position, torrent, told, policy)
            }
        }
    }

    /// Something is told of a peer that is known.
    fn apply_to(&mut self, position: u32, at: u32, told: &Told<K>) -> Applied<V> {
        let Some(entry) = self.torrents.get_mut(position) else {
            return Applied::Nothing;
        };
        let was_seeder = at < entry.swarm.seeders();
        let Some(known) = entry.swarm.get_mut(at) else {
            return Applied::Nothing;
        };
        let was_finished = known.state.is_finished();
        let is_newer = !known.state.is_later_than(told.deadline);
        if is_newer && told.status == PeerStatus::Stopped {
            let removed = self.remove_at(position, at);
            return removed.map_or(Applied::Nothing, |peer| Applied::Removed(peer.value));
        }
        let seeder = told.status == PeerStatus::Seeder;
        let is_finished = was_finished || told.is_finished || told.completed || seeder;
        if is_newer {
            known.state = PeerState::new(told.deadline, is_finished);
        } else {
            known.state = known.state.finished(is_finished);
        }
        if told.completed && !was_finished {
            entry.add_completed(1);
        }
        if !is_newer {
            return Applied::Nothing;
        }
        let kinds = (was_seeder, seeder);
        entry.set_seeder(at, kinds, &mut self.snapshot, &self.rules);
        self.seeders = self.seeders + usize::from(seeder) - usize::from(was_seeder);
        Applied::Updated
    }

    /// A peer is told of that is not known.
    fn apply_new(
        &mut self,
        position: Option<u32>,
        torrent: &TorrentKey,
        told: &Told<K>,
        policy: &mut impl PeerPolicy<K, V>,
    ) -> Result<Applied<V>, Refusal> {
        let entry = position.and_then(|position| self.torrents.get(position));
        if entry.is_some_and(|entry| entry.swarm.is_closed_to(&told.peer, &self.rules)) {
            return Ok(Applied::NotAdded);
        }
        self.check_room(position)?;
        let value = policy.admit(&told.peer).ok_or(Refusal::NotAdmitted)?;
        let seeder = told.status == PeerStatus::Seeder;
        let is_finished = seeder || told.is_finished || told.completed;
        let new = Peer {
            key: told.peer,
            value,
            state: PeerState::new(told.deadline, is_finished),
        };
        let position = position
            .or_else(|| self.add(torrent))
            .ok_or(Refusal::TorrentLimit)?;
        let added = self.insert(position, new, seeder);
        added.ok_or(Refusal::PeerLimit)?;
        if told.completed
            && !told.is_finished
            && let Some(entry) = self.torrents.get_mut(position)
        {
            entry.add_completed(1);
        }
        Ok(Applied::Added)
    }

    /// At least so many downloads of this torrent were completed. A torrent that has no peers is
    /// kept for that until the second `until`, to give them time to announce.
    ///
    /// # Errors
    ///
    /// When the torrent is unknown and there is no room for it.
    pub fn apply_completed(
        &mut self,
        info_hash: InfoHash,
        completed: u32,
        until: Seconds,
    ) -> Result<(), Refusal> {
        let torrent = self.key(info_hash);
        let position = match self.position(&torrent) {
            Some(position) => position,
            None if self.is_full() => return Err(Refusal::MemoryLimit),
            None if self.has_torrents_max() => return Err(Refusal::TorrentLimit),
            None => self.add(&torrent).ok_or(Refusal::TorrentLimit)?,
        };
        if let Some(entry) = self.torrents.get_mut(position) {
            entry.raise_completed(completed);
            self.counts_kept_until = self.counts_kept_until.max(Some(until));
        }
        Ok(())
    }
}

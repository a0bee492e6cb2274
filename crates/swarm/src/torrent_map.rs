//! All torrents of one shard.

use std::hint::black_box;
use std::num::NonZeroUsize;

use aquatic_types::{CompactV4, InfoHash, PeerStatus, Seconds};
use arrayvec::ArrayVec;

use crate::hash::{HashKey, PeerKey, TorrentKey};
use crate::index::{Index, Keys};
use crate::large_sample::LargeSample;
use crate::outcome::{Announce, Announced, Counts, Limits, PeerChange, PeerPolicy, Refusal};
use crate::peer::{Peer, PeerState};
use crate::refresh::Previous;
use crate::rules::Rules;
use crate::segments::{Segments, as_usize};
use crate::snapshot::SnapshotProgress;
use crate::swarm::Swarm;

/// Torrents that [`TorrentMap::prefetch`] treats at a time: enough to keep the memory busy, few
/// enough that what it fetched is still in the cache when it is used.
pub const PREFETCH_BATCH: usize = 32;

/// Keys of no more than [`PREFETCH_BATCH`] torrents.
pub type TorrentKeys = ArrayVec<TorrentKey, PREFETCH_BATCH>;

/// The torrents of one shard and, for UDP and HTTP, of one IP family: who is in which swarm.
///
/// `K` names a peer, `V` is kept with it. Knows no time, no configuration and no randomness of its
/// own but what the hash key tells. Nothing that it does stops for long: the longest single
/// operations rehash some 1,000 entries.
pub struct TorrentMap<K, V = ()> {
    pub(crate) rules: Rules,
    pub(crate) torrents: Segments<Torrent<K, V>>,
    pub(crate) index: Index,
    pub(crate) peers: usize,
    pub(crate) seeders: usize,
    completed: usize,
    /// Bytes that swarms take beside the entries of torrents.
    pub(crate) swarm_bytes: usize,
    /// What it may take; `usize::MAX` = any number of bytes.
    bytes_max: usize,
    /// See [`Self::all_are_old`].
    pub(crate) old_torrents: u32,
    pub(crate) large_sample: LargeSample,
    pub(crate) snapshot: SnapshotProgress<K>,
    /// Until then torrents without peers stay for the sake of their download counts, if there is
    /// such a time.
    pub(crate) counts_kept_until: Option<Seconds>,
}

pub(crate) struct Torrent<K, V> {
    pub(crate) info_hash: InfoHash,
    completed: u32,
    pub(crate) swarm: Swarm<K, V>,
}

const _: () = assert!(size_of::<Peer<CompactV4, ()>>() == 8);
const _: () = assert!(size_of::<Torrent<CompactV4, ()>>() == 48);

impl<K: PeerKey, V> TorrentMap<K, V> {
    /// An empty map.
    #[must_use]
    pub fn new(hash_key: HashKey, limits: Limits) -> Self {
        Self {
            rules: Rules { hash_key, limits },
            torrents: Segments::new(),
            index: Index::new(),
            peers: 0,
            seeders: 0,
            completed: 0,
            swarm_bytes: 0,
            bytes_max: usize::MAX,
            old_torrents: 0,
            large_sample: LargeSample::new(hash_key.network(0)),
            snapshot: SnapshotProgress::new(),
            counts_kept_until: None,
        }
    }

    /// Hashes an info hash for the other operations.
    #[must_use]
    pub fn key(&self, info_hash: InfoHash) -> TorrentKey {
        self.rules.hash_key.torrent(info_hash)
    }

    /// Hashes the first [`PREFETCH_BATCH`] of these info hashes.
    pub fn keys(&self, info_hashes: impl IntoIterator<Item = InfoHash>) -> TorrentKeys {
        let keys = info_hashes.into_iter().map(|info_hash| self.key(info_hash));
        keys.take(PREFETCH_BATCH).collect()
    }

    /// Fetches what announces to (or scrapes of) these torrents are going to read into the cache.
    ///
    /// Optional, and pays when the torrents do not fit into the cache: an announce waits for two or
    /// three memory accesses one after the other, whereas those of a whole batch can be under way
    /// together. So this goes in stages, each a loop of reads that do not depend on one another.
    pub fn prefetch(&self, batch: &[TorrentKey]) {
        for batch in batch.chunks(PREFETCH_BATCH) {
            let buckets = batch.iter().map(|key| self.index.prefetch(key.hash));
            black_box(buckets.fold(0, |all, word| all ^ word));

            let mut guesses = [None; PREFETCH_BATCH];
            for (guess, key) in guesses.iter_mut().zip(batch) {
                *guess = self
                    .index
                    .probable_position(key.hash)
                    .and_then(|at| self.torrents.get(at));
            }
            let entries = guesses.iter().flatten().map(|torrent| torrent.completed);
            black_box(entries.fold(0, |all, word| all ^ word));

            let swarms = guesses.iter().flatten().map(|torrent| torrent.swarm.len());
            black_box(swarms.fold(0, |all, word| all ^ word));
        }
    }

    /// Fetches where large swarms keep these peers: each announces to the torrent at the same place
    /// in `batch`. To be called after [`Self::prefetch`], and optional like it; pays when there are
    /// swarms of many thousands.
    pub fn prefetch_peers(&self, batch: &[TorrentKey], peers: impl IntoIterator<Item = K>) {
        let mut peers = peers.into_iter();
        for batch in batch.chunks(PREFETCH_BATCH) {
            let mut large = ArrayVec::<_, PREFETCH_BATCH>::new();
            for (key, peer) in batch.iter().zip(&mut peers) {
                let entry = self
                    .index
                    .probable_position(key.hash)
                    .and_then(|at| self.torrents.get(at));
                if let Some(Swarm::Large(swarm)) = entry.map(|entry| &entry.swarm) {
                    large.push((swarm, self.rules.peer_hash(&peer)));
                }
            }
            let buckets = large
                .iter()
                .map(|(swarm, hash)| swarm.index.prefetch(*hash));
            black_box(buckets.fold(0, |all, word| all ^ word));
            for (swarm, hash) in &large {
                let peer = swarm
                    .index
                    .probable_position(*hash)
                    .and_then(|at| swarm.get(at));
                black_box(peer.map(|peer| peer.state));
            }
        }
    }

    /// Notes what a peer says and hands other peers out to it.
    ///
    /// - A leecher gets seeders and leechers mixed, a seeder leechers only, one that leaves none.
    ///   It gets exactly `num_want` or, if there are fewer, all; each as likely as any other,
    ///   no one twice, never itself.
    /// - `policy` is asked, last of all, before an unknown peer is added.
    /// - The peer is forgotten at the first cleaning after the second `deadline`, or the next one
    ///   if that is even. It is at most
    ///   [`PEER_AGE_MAX_SECONDS`](crate::PEER_AGE_MAX_SECONDS) from now.
    /// - Of each network it gets no more peers than its
    ///   [share](Limits::max_response_peers_per_network), as long as there are others.
    /// - An unknown peer is not added if its network has [as many
    ///   peers](Limits::max_peers_per_network) in the swarm as are allowed, but gets its answer: it
    ///   may be one of many behind one address, who want to find peers even if they cannot be
    ///   found. Those that are there stay: else each could be ousted by its neighbours.
    /// - A finished download counts as completed unless the peer was a seeder before, or has had a
    ///   download counted. So going to and fro counts once, as long as the peer does not leave.
    ///
    /// # Errors
    /// When the announcer is new and there is no room for it. Nothing was changed then.
    pub fn announce(
        &mut self,
        torrent: &TorrentKey,
        announce: &Announce<K>,
        deadline: Seconds,
        policy: &mut impl PeerPolicy<K, V>,
        rng: &mut fastrand::Rng,
        mut select_peers: impl FnMut(&K, &V),
    ) -> Result<Announced<V>, Refusal> {
        let Announce { peer, num_want, .. } = announce;
        let (status, completed) = (announce.status, announce.completed);
        if status == PeerStatus::Stopped {
            return Ok(self.depart(torrent, peer));
        }
        let known = self.position(torrent);
        let known_peer = known
            .and_then(|position| self.torrents.get(position))
            .and_then(|entry| entry.swarm.find(peer, &self.rules));
        let mut admitted = None;
        if known_peer.is_none() {
            if let Some(answer) = self.answer_closed(known, announce, rng, &mut select_peers) {
                return Ok(answer);
            }
            self.check_room(known)?;
            admitted = Some(policy.admit(peer).ok_or(Refusal::NotAdmitted)?);
        }
        let position = known
            .or_else(|| self.add(torrent))
            .ok_or(Refusal::TorrentLimit)?;
        let entry = self
            .torrents
            .get_mut(position)
            .ok_or(Refusal::TorrentLimit)?;

        let seeder = status == PeerStatus::Seeder;
        let was_seeder = known_peer.is_some_and(|at| at < entry.swarm.seeders());
        let known = known_peer.and_then(|at| entry.swarm.get(at));
        let was_finished = known.is_some_and(|known| known.state.is_finished());
        let state = PeerState::new(deadline, was_finished || seeder || completed);
        let (at, change) = match known_peer {
            None => {
                let new = Peer {
                    key: *peer,
                    value: admitted.ok_or(Refusal::NotAdmitted)?,
                    state,
                };
                if seeder {
                    entry.note_new_seeder(&mut self.snapshot, peer, &self.rules);
                }
                let (bytes, sample) = (&mut self.swarm_bytes, &mut self.large_sample);
                let at = entry.insert(new, seeder, &self.rules, bytes, sample);
                self.peers += 1;
                (at.ok_or(Refusal::PeerLimit)?, PeerChange::Added)
            }
            Some(at) => {
                let known = entry.swarm.get_mut(at).ok_or(Refusal::PeerLimit)?;
                policy.replaces(Previous::new(known.state, was_seeder));
                known.state = state;
                policy.update(&mut known.value);
                let kinds = (was_seeder, seeder);
                let at = entry.set_seeder(at, kinds, &mut self.snapshot, &self.rules);
                (at, PeerChange::Updated)
            }
        };
        self.seeders = self.seeders + usize::from(seeder) - usize::from(was_seeder);
        if completed && !was_finished {
            entry.add_completed(1);
            self.completed += 1;
        }
        debug_assert!(self.seeders <= self.peers);
        debug_assert_eq!(entry.swarm.find(peer, &self.rules), Some(at));
        let wanted = u32::from(*num_want);
        let choice = entry.swarm.choice(status, Some(at), wanted);
        let surplus = entry.swarm.draw(&choice, &self.rules, rng, select_peers);
        Ok(Announced {
            counts: entry.counts(),
            change,
            surplus,
        })
    }

    /// The answer to an announcer that is not in the swarm and must stay out, as its network has
    /// enough peers there; `None` if it may come in.
    fn answer_closed(
        &self,
        position: Option<u32>,
        announce: &Announce<K>,
        rng: &mut fastrand::Rng,
        select_peers: impl FnMut(&K, &V),
    ) -> Option<Announced<V>> {
        let entry = self.torrents.get(position?)?;
        if !entry.swarm.is_closed_to(&announce.peer, &self.rules) {
            return None;
        }
        let wanted = u32::from(announce.num_want);
        let choice = entry.swarm.choice(announce.status, None, wanted);
        Some(Announced {
            counts: entry.counts(),
            change: PeerChange::NotAdded,
            surplus: entry.swarm.draw(&choice, &self.rules, rng, select_peers),
        })
    }

    /// Hands peers out to `peer`, or to somebody who is not in this map but, say, in that of the
    /// other IP family. By the same rules as [`Self::announce`] does. Returns how many of them, the
    /// last ones, are [surplus](Announced::surplus), even if these are all peers there are.
    pub fn select_peers(
        &self,
        torrent: &TorrentKey,
        (to, peer): (PeerStatus, Option<&K>),
        num_want: usize,
        rng: &mut fastrand::Rng,
        select_peers: impl FnMut(&K, &V),
    ) -> u32 {
        let Some(Torrent { swarm, .. }) = self.entry(torrent) else {
            return 0;
        };
        let own = peer.and_then(|peer| swarm.find(peer, &self.rules));
        let wanted = u32::try_from(num_want).unwrap_or(u32::MAX);
        let choice = swarm.choice(to, own, wanted);
        swarm.draw_in_order(&choice, &self.rules, rng, select_peers)
    }

    /// Introduces a peer to others of its torrent, seeders and leechers alike, each as likely as
    /// any other, no one twice, never itself. They are shown to `accept` one by one, until it has
    /// accepted `wanted`; so it is the caller who says which of them will do, and who may change
    /// what is kept with them.
    ///
    /// At most 256 are shown: that bounds the work for an announcer whom nearly nobody suits.
    pub fn introduce(
        &mut self,
        torrent: &TorrentKey,
        peer: &K,
        wanted: usize,
        rng: &mut fastrand::Rng,
        accept: impl FnMut(&K, &mut V) -> bool,
    ) {
        let position = self.position(torrent);
        if let Some(Torrent { swarm, .. }) = position.and_then(|at| self.torrents.get_mut(at)) {
            let own = swarm.find(peer, &self.rules);
            swarm.draw_each(own, wanted, rng, accept);
        }
    }

    /// How many peers could be handed out to `peer`, whether it is in this map or not, if it
    /// announced this status; to somebody who cannot be in this map if it is `None`.
    #[must_use]
    pub fn available(&self, torrent: &TorrentKey, to: PeerStatus, peer: Option<&K>) -> u32 {
        let Some(Torrent { swarm, .. }) = self.entry(torrent) else {
            return 0;
        };
        let candidates = swarm.candidates(to);
        let own = peer.and_then(|peer| swarm.find(peer, &self.rules));
        let includes_peer = own.is_some_and(|at| candidates.contains(&at));
        candidates.end - candidates.start - u32::from(includes_peer)
    }

    /// How large a swarm is; zeros when the torrent is unknown.
    #[must_use]
    pub fn scrape(&self, torrent: &TorrentKey) -> Counts {
        self.entry(torrent)
            .map_or(Counts::default(), Torrent::counts)
    }

    /// Takes a peer out of a swarm and returns what was kept with it; `None` when it was not there.
    pub fn remove_peer(&mut self, torrent: &TorrentKey, peer: &K) -> Option<V> {
        let position = self.position(torrent)?;
        let entry = self.torrents.get(position)?;
        let at = entry.swarm.find(peer, &self.rules)?;
        self.remove_at(position, at).map(|removed| removed.value)
    }

    /// Takes the peer at position `at` out of the torrent at `position`. Other peers move as
    /// [`Swarm::remove`] says.
    pub(crate) fn remove_at(&mut self, position: u32, at: u32) -> Option<Peer<K, V>> {
        let entry = self.torrents.get_mut(position)?;
        let was_seeder = at < entry.swarm.seeders();
        let bytes = entry.swarm.heap_bytes();
        debug_assert!(at < entry.swarm.len(), "the peer is here");
        let removed = entry.swarm.remove(at, &self.rules)?;
        self.swarm_bytes = self.swarm_bytes + entry.swarm.heap_bytes() - bytes;
        self.peers -= 1;
        self.seeders -= usize::from(was_seeder);
        debug_assert!(self.seeders <= self.peers);
        Some(removed)
    }

    /// What is kept with a peer.
    #[must_use]
    pub fn peer(&self, torrent: &TorrentKey, peer: &K) -> Option<&V> {
        let entry = self.entry(torrent)?;
        let at = entry.swarm.find(peer, &self.rules)?;
        Some(&entry.swarm.get(at)?.value)
    }

    /// What is kept with a peer, to change it.
    pub fn peer_mut(&mut self, torrent: &TorrentKey, peer: &K) -> Option<&mut V> {
        let position = self.position(torrent)?;
        let entry = self.torrents.get_mut(position)?;
        let at = entry.swarm.find(peer, &self.rules)?;
        Some(&mut entry.swarm.get_mut(at)?.value)
    }

    /// Torrents, counting those whose peers have left but which have not been cleaned away yet.
    #[must_use]
    pub fn torrents(&self) -> usize {
        as_usize(self.torrents.len())
    }

    /// Peers over all torrents.
    #[must_use]
    pub fn peers(&self) -> usize {
        self.peers
    }

    /// Those of them that have everything.
    #[must_use]
    pub fn seeders(&self) -> usize {
        self.seeders
    }

    /// Downloads finished since the start, over all torrents there have been.
    #[must_use]
    pub fn completed(&self) -> usize {
        self.completed
    }

    /// Bytes that all this takes: a little more rather than less. Without what values hold
    /// themselves.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.torrents.bytes() + self.index.bytes() + self.swarm_bytes
    }

    /// Refuses unknown peers from so many [bytes](Self::bytes) on. At first, there is no bound.
    ///
    /// An announce may exceed it by what a swarm takes at once when it grows.
    pub fn set_bytes_max(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
    }

    /// Whether it takes as much as it may.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.bytes() >= self.bytes_max
    }

    fn depart(&mut self, torrent: &TorrentKey, peer: &K) -> Announced<V> {
        let removed = self.remove_peer(torrent, peer);
        Announced {
            counts: self.scrape(torrent),
            change: removed.map_or(PeerChange::Absent, PeerChange::Removed),
            surplus: 0,
        }
    }

    /// Whether one more peer may come, and one more torrent if this one is unknown.
    pub(crate) fn check_room(&self, known: Option<u32>) -> Result<(), Refusal> {
        if known.is_none() && self.has_torrents_max() {
            return Err(Refusal::TorrentLimit);
        }
        if is_reached(self.rules.limits.max_peers, self.peers) {
            return Err(Refusal::PeerLimit);
        }
        if self.is_full() {
            return Err(Refusal::MemoryLimit);
        }
        Ok(())
    }

    /// Whether there are as many torrents as there may be.
    pub(crate) fn has_torrents_max(&self) -> bool {
        is_reached(self.rules.limits.max_torrents, self.torrents())
    }

    pub(crate) fn entry(&self, torrent: &TorrentKey) -> Option<&Torrent<K, V>> {
        self.torrents.get(self.position(torrent)?)
    }

    pub(crate) fn position(&self, torrent: &TorrentKey) -> Option<u32> {
        self.index.find(torrent.hash, |position| {
            let entry = self.torrents.get(position);
            entry.is_some_and(|entry| entry.info_hash == torrent.info_hash)
        })
    }

    /// Adds a peer that is not here yet to the torrent at `position`, and returns its own position.
    pub(crate) fn insert(&mut self, position: u32, peer: Peer<K, V>, seeder: bool) -> Option<u32> {
        let entry = self.torrents.get_mut(position)?;
        if seeder {
            entry.note_new_seeder(&mut self.snapshot, &peer.key, &self.rules);
        }
        let (bytes, sample) = (&mut self.swarm_bytes, &mut self.large_sample);
        let at = entry.insert(peer, seeder, &self.rules, bytes, sample)?;
        self.peers += 1;
        self.seeders += usize::from(seeder);
        Some(at)
    }

    /// Adds a torrent without peers.
    pub(crate) fn add(&mut self, torrent: &TorrentKey) -> Option<u32> {
        debug_assert_eq!(self.position(torrent), None, "a torrent is added once");
        let position = self.torrents.push(Torrent {
            info_hash: torrent.info_hash,
            completed: 0,
            swarm: Swarm::new(),
        })?;
        let keys = InfoHashes(&self.torrents, &self.rules.hash_key);
        self.index.insert(torrent.hash, position, &keys);
        Some(position)
    }

    /// Forgets the torrent at `position` and puts the last one in its place.
    pub(crate) fn remove_torrent(&mut self, position: u32) {
        debug_assert!(
            self.torrents
                .get(position)
                .is_some_and(|torrent| torrent.swarm.len() == 0)
        );
        let Some(last) = self.torrents.len().checked_sub(1) else {
            return;
        };
        let keys = InfoHashes(&self.torrents, &self.rules.hash_key);
        self.index.remove(keys.hash_at(position), position, &keys);
        if position != last {
            self.index.reposition(keys.hash_at(last), last, position);
        }
        self.torrents.swap_remove(position);
    }
}

impl<K: PeerKey, V> Torrent<K, V> {
    /// Adds a peer that is not here yet and returns its position. Counts what all swarms take.
    fn insert(
        &mut self,
        peer: Peer<K, V>,
        seeder: bool,
        rules: &Rules,
        swarm_bytes: &mut usize,
        large_sample: &mut LargeSample,
    ) -> Option<u32> {
        let bytes = self.swarm.heap_bytes();
        let at = self.swarm.insert(peer, seeder, rules);
        *swarm_bytes = *swarm_bytes + self.swarm.heap_bytes() - bytes;
        if !self.swarm.is_small() {
            large_sample.grows(&self.info_hash);
        }
        at
    }

    /// A peer that is not here yet is about to be added as a seeder.
    fn note_new_seeder(&self, snapshot: &mut SnapshotProgress<K>, peer: &K, rules: &Rules) {
        snapshot.note_move(&self.info_hash, &self.swarm, (peer, true), rules);
    }

    /// Makes the peer at position `at` a seeder or a leecher, whatever it was. Returns where it is
    /// then.
    #[inline]
    pub(crate) fn set_seeder(
        &mut self,
        at: u32,
        (was_seeder, seeder): (bool, bool),
        snapshot: &mut SnapshotProgress<K>,
        rules: &Rules,
    ) -> u32 {
        if seeder == was_seeder {
            return at;
        }
        if let Some(peer) = self.swarm.get(at) {
            snapshot.note_move(&self.info_hash, &self.swarm, (&peer.key, seeder), rules);
        }
        self.swarm.set_seeder(at, seeder, rules)
    }

    pub(crate) fn completed(&self) -> u32 {
        self.completed
    }

    pub(crate) fn add_completed(&mut self, downloads: u32) {
        self.completed = self.completed.saturating_add(downloads);
    }

    /// At least so many downloads were completed.
    pub(crate) fn raise_completed(&mut self, downloads: u32) {
        self.completed = self.completed.max(downloads);
    }

    pub(crate) fn counts(&self) -> Counts {
        let seeders = self.swarm.seeders();
        Counts {
            seeders,
            leechers: self.swarm.len() - seeders,
            completed: self.completed,
        }
    }
}

fn is_reached(limit: Option<NonZeroUsize>, count: usize) -> bool {
    limit.is_some_and(|limit| count >= limit.get())
}

/// The info hashes that the index of a map leads to.
struct InfoHashes<'a, K, V>(&'a Segments<Torrent<K, V>>, &'a HashKey);

impl<K, V> Keys for InfoHashes<'_, K, V> {
    type Key = InfoHash;

    fn key(&self, position: u32) -> Option<InfoHash> {
        self.0.get(position).map(|torrent| torrent.info_hash)
    }

    fn hash(&self, info_hash: &InfoHash) -> u64 {
        self.1.torrent(*info_hash).hash
    }
}

#[cfg(test)]
impl<K: PeerKey, V> TorrentMap<K, V> {
    /// Checks that what swarms take is counted right.
    pub(crate) fn assert_bytes_sound(&self) {
        let swarms = (0..self.torrents.len()).filter_map(|at| self.torrents.get(at));
        let bytes = swarms.map(|torrent| torrent.swarm.heap_bytes());
        assert_eq!(self.swarm_bytes, bytes.sum::<usize>());
    }
}

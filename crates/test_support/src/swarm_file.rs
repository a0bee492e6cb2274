//! What is in a file of swarms, peer by peer, and what may be in it: for the simulations, in which
//! clients announce while a tracker writes a snapshot.
//!
//! A simulation tells [`Possible`] of everything that a peer can have been between the beginning
//! and the end of a snapshot. The file, [`Written`], is held against that. What a tracker must know
//! that has started with the file follows from the file alone ([`Written::after`]), and is compared
//! with a snapshot that the new tracker writes at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use aquatic_swarm_log::{Batch, Body, CompletedRecord, FileCheck, InvalidRecord, PeerRecord};
use aquatic_types::{CompactAddr, InfoHash, IpFamily, PeerStatus};

mod restart;

pub use restart::{EXPECTED, Restart, Restarted, SYSTEM, system_at};

/// A torrent's peers of a family, or of WebTorrent (`None`).
pub type Torrent = (Option<IpFamily>, InfoHash);

/// A peer of a torrent.
pub type Name = (InfoHash, SocketAddr);

/// A peer as it stands in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrittenPeer {
    /// Seeder or leecher.
    pub is_seeder: bool,
    /// What it completes counts no more.
    pub is_finished: bool,
    /// When this was so: milliseconds after the file was begun, or before.
    pub at_millis: i64,
    /// For how many seconds it is alive then.
    pub seconds_left: u16,
}

/// All that stands in a file.
#[derive(Debug, Default)]
pub struct Written {
    /// Everything that is said of each peer, in order.
    pub peers: BTreeMap<Name, Vec<WrittenPeer>>,
    /// Every number of downloads that is said of each torrent, in order.
    pub completed: BTreeMap<Torrent, Vec<u32>>,
    /// Where the batches end, in bytes.
    pub batch_ends: Vec<usize>,
}

impl Written {
    /// Reads a file.
    ///
    /// # Panics
    /// If it is not whole.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Self {
        let (mut written, mut check, mut rest) = (Self::default(), FileCheck::new(), bytes);
        let mut began_millis = None;
        while !rest.is_empty() {
            let (batch, after) = Batch::parse(rest).expect("a batch");
            check.note(&batch).expect("the next batch");
            rest = after;
            let millis = batch.header.unix_millis;
            let began_millis = *began_millis.get_or_insert(millis);
            let at_millis = millis.cast_signed() - began_millis.cast_signed();
            written.batch_ends.push(bytes.len() - rest.len());
            written.add(&batch.body, at_millis);
        }
        check.finish().expect("a whole file");
        written
    }

    fn add(&mut self, body: &Body<'_>, at_millis: i64) {
        match body {
            Body::PeersV4(peers) => self.add_peers(peers.clone(), at_millis),
            Body::PeersV6(peers) => self.add_peers(peers.clone(), at_millis),
            Body::CompletedV4(counts) => self.add_completed(Some(IpFamily::V4), counts.clone()),
            Body::CompletedV6(counts) => self.add_completed(Some(IpFamily::V6), counts.clone()),
            Body::CompletedWebTorrent(counts) => self.add_completed(None, counts.clone()),
            Body::Members(_) | Body::Letters(_) => panic!("not in a file: {body:?}"),
            Body::Begin(_) | Body::End(_) => {}
            Body::Alive(_) | Body::Leaving | Body::Unknown(_) => panic!("in a file: {body:?}"),
        }
    }

    fn add_peers<A: CompactAddr>(
        &mut self,
        peers: impl Iterator<Item = Result<PeerRecord<A>, InvalidRecord>>,
        at_millis: i64,
    ) {
        for peer in peers {
            let peer = peer.expect("a sound record");
            assert!(!peer.has_completed, "the count is written down by itself");
            assert_ne!(peer.status, PeerStatus::Stopped, "nobody who has left");
            let name = (peer.info_hash, peer.peer.socket_addr());
            self.peers.entry(name).or_default().push(WrittenPeer {
                is_seeder: peer.status == PeerStatus::Seeder,
                is_finished: peer.is_finished,
                at_millis,
                seconds_left: peer.seconds_left,
            });
        }
    }

    fn add_completed(
        &mut self,
        family: Option<IpFamily>,
        counts: impl Iterator<Item = Result<CompletedRecord, InvalidRecord>>,
    ) {
        for count in counts {
            let CompletedRecord {
                info_hash,
                downloads,
            } = count.expect("a sound record");
            let completed = self.completed.entry((family, info_hash)).or_default();
            completed.push(downloads);
        }
    }

    /// What a tracker must know that starts `millis` after this file was begun, lets peers live for
    /// no longer than `peer_age_seconds_max`, and has no limits.
    #[must_use]
    pub fn after(
        &self,
        millis: u64,
        peer_age_seconds_max: u32,
        is_allowed: impl Fn(&InfoHash) -> bool,
    ) -> Survivors {
        let mut survivors = Survivors::default();
        for ((info_hash, addr), said) in &self.peers {
            let mut survivor: Option<Survivor> = None;
            for peer in said {
                let age = millis.cast_signed() - peer.at_millis;
                let left = i64::from(peer.seconds_left) - age.max(0) / 1_000;
                if left < 0 {
                    survivors.expired += 1;
                    continue;
                }
                let left = left.min(peer_age_seconds_max.into());
                // Who was told of twice was so last as the later deadline says.
                let is_newer = survivor.is_none_or(|known| left >= known.seconds_left);
                let was_finished = survivor.is_some_and(|known| known.is_finished);
                let known = survivor.get_or_insert(Survivor {
                    is_seeder: peer.is_seeder,
                    is_finished: false,
                    seconds_left: left,
                });
                if is_newer {
                    (known.is_seeder, known.seconds_left) = (peer.is_seeder, left);
                }
                known.is_finished = was_finished || peer.is_finished || peer.is_seeder;
            }
            match survivor {
                Some(survivor) if is_allowed(info_hash) => {
                    survivors.peers.insert((*info_hash, *addr), survivor);
                }
                Some(_) => survivors.denied += 1,
                None => {}
            }
        }
        let counts = self.completed.iter().filter(|(it, _)| is_allowed(&it.1));
        let counts = counts.map(|(torrent, said)| (*torrent, *said.iter().max().expect("one")));
        survivors.completed = counts.collect();
        survivors
    }
}

/// A peer that has outlived a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Survivor {
    /// Seeder or leecher.
    pub is_seeder: bool,
    /// What it completes counts no more.
    pub is_finished: bool,
    /// For how many seconds it is alive.
    pub seconds_left: i64,
}

/// What must have outlived a restart.
#[derive(Debug, Default)]
pub struct Survivors {
    /// Who is there again.
    pub peers: BTreeMap<Name, Survivor>,
    /// How often a torrent was completed.
    pub completed: BTreeMap<Torrent, u32>,
    /// How often something was said of peers whose time is over.
    pub expired: u64,
    /// How many peers are in torrents that are no longer allowed.
    pub denied: u64,
}

impl Survivors {
    /// Compares with what the new tracker writes as soon as it has started. If `has_limits`, some
    /// of them may not have been taken in.
    ///
    /// # Panics
    /// If somebody is missing, or there who should not be, or is not as it was.
    pub fn compare(&self, again: &Written, has_limits: bool) {
        for (name, said) in &again.peers {
            let [peer] = said.as_slice() else {
                panic!("{name:?} is there more than once: {said:?}");
            };
            let Some(survivor) = self.peers.get(name) else {
                panic!("{name:?} is back, and should not be: {peer:?}");
            };
            let found = (peer.is_seeder, peer.is_finished);
            assert_eq!(
                found,
                (survivor.is_seeder, survivor.is_finished),
                "{name:?}"
            );
            // Deadlines are kept in steps of two seconds.
            let more = i64::from(peer.seconds_left) - survivor.seconds_left;
            assert!((0..=1).contains(&more), "{name:?}: {peer:?}, {survivor:?}");
        }
        for (torrent, said) in &again.completed {
            assert_eq!(
                said.as_slice(),
                [self.completed.get(torrent).copied().unwrap_or(0)]
            );
        }
        if !has_limits {
            let missing = |name: &&Name| !again.peers.contains_key(*name);
            let missing: BTreeSet<_> = self.peers.keys().filter(missing).collect();
            assert!(missing.is_empty(), "alive, and lost: {missing:?}");
            let missing = |torrent: &&Torrent| !again.completed.contains_key(*torrent);
            let missing: BTreeSet<_> = self.completed.keys().filter(missing).collect();
            assert!(missing.is_empty(), "downloads that are lost: {missing:?}");
        }
    }
}

/// What a peer can have been.
#[derive(Clone, Copy, Debug, Default)]
struct PossiblePeer {
    absent: bool,
    leecher: bool,
    seeder: bool,
    /// The first and the last of the seconds that can be its deadline.
    deadlines: Option<(u32, u32)>,
    /// The first of those that it can have had when the snapshot was begun.
    deadline_at_begin: u32,
}

/// Everything that can have been since a snapshot was begun.
#[derive(Debug)]
pub struct Possible {
    began_micros: u64,
    is_begun: bool,
    peers: BTreeMap<Name, PossiblePeer>,
    completed: BTreeMap<Torrent, (u32, u32)>,
}

impl Possible {
    /// A snapshot is about to be begun. Next comes what is so now, and [`Self::begin`].
    #[must_use]
    pub fn new(now_micros: u64) -> Self {
        Self {
            began_micros: now_micros,
            is_begun: false,
            peers: BTreeMap::new(),
            completed: BTreeMap::new(),
        }
    }

    /// The snapshot is begun. Who has not been told of was absent, and nothing was completed.
    pub fn begin(&mut self) {
        self.is_begun = true;
    }

    /// The file is not to hold peers.
    pub fn forget_peers(&mut self) {
        self.peers.clear();
    }

    /// A peer can be so, and its deadline one of these.
    pub fn peer(&mut self, name: Name, status: PeerStatus, deadlines: (u32, u32)) {
        let is_new = self.is_begun;
        let peer = self.peers.entry(name).or_insert_with(|| PossiblePeer {
            absent: is_new,
            deadline_at_begin: deadlines.0,
            ..PossiblePeer::default()
        });
        match status {
            PeerStatus::Stopped => peer.absent = true,
            PeerStatus::Leecher => peer.leecher = true,
            PeerStatus::Seeder => peer.seeder = true,
        }
        let known = peer.deadlines.get_or_insert(deadlines);
        *known = (known.0.min(deadlines.0), known.1.max(deadlines.1));
    }

    /// So many downloads, from the first to the last of these numbers, can have been completed.
    pub fn completed(&mut self, torrent: Torrent, counts: (u32, u32)) {
        let new = if self.is_begun { (0, 0) } else { counts };
        let known = self.completed.entry(torrent).or_insert(new);
        *known = (known.0.min(counts.0), known.1.max(counts.1));
    }

    /// Holds a file against all this. `ended_seconds` is when it was whole. Returns how many peers
    /// had to be in it.
    ///
    /// # Panics
    /// If somebody is in it who cannot have been there, or is not in it who must.
    pub fn check(&self, file: &Written, ended_seconds: u32) -> usize {
        for (name, said) in &file.peers {
            let Some(possible) = self.peers.get(name) else {
                panic!("{name:?} has never been there: {said:?}");
            };
            for peer in said {
                self.check_peer(*name, *peer, *possible);
            }
        }
        let mut needed = 0;
        for (name, possible) in &self.peers {
            if !possible.absent && possible.deadline_at_begin >= ended_seconds {
                assert!(file.peers.contains_key(name), "{name:?}: {possible:?}");
                needed += 1;
            }
        }
        for (torrent, said) in &file.completed {
            let (min, max) = self.completed.get(torrent).copied().unwrap_or_default();
            let are_possible = said.iter().all(|count| (min..=max).contains(count));
            assert!(
                are_possible,
                "{torrent:?}: {said:?}, expected {min} to {max}"
            );
        }
        for (torrent, (min, _)) in &self.completed {
            assert!(
                *min == 0 || file.completed.contains_key(torrent),
                "{torrent:?}"
            );
        }
        needed
    }

    fn check_peer(&self, name: Name, peer: WrittenPeer, possible: PossiblePeer) {
        let may_be_so = if peer.is_seeder {
            possible.seeder
        } else {
            possible.leecher
        };
        assert!(may_be_so, "{name:?}: {peer:?}, {possible:?}");
        let at_millis = (self.began_micros / 1_000).cast_signed() + peer.at_millis;
        let dies_at = at_millis.div_euclid(1_000) + i64::from(peer.seconds_left);
        let (min, max) = possible.deadlines.expect("it comes with each status");
        assert!(
            (min.into()..=max.into()).contains(&dies_at),
            "{name:?} dies at {dies_at}, expected {min} to {max}: {peer:?}, {possible:?}"
        );
    }
}

//! Snapshots while all goes on, and trackers that start with them.

use aquatic_access_list::SharedAccessList;
use aquatic_keys::SharedKeys;
use aquatic_swarm_log::{Contents, SystemTime};
use aquatic_test_support::swarm_file::{Possible, Restart, Restarted, SYSTEM, Written, system_at};
use aquatic_tracker::persistence::Persistence;
use aquatic_tracker::persistence::simulation::SimulatedStart;
use aquatic_types::{PeerStatus, PerFamily};
use aquatic_udp::Now;
use aquatic_udp::config::Config;

use super::clients::some_torrents;
use super::limits::Allowed;
use super::model::Model;
use super::states::{States, Torrent};
use super::tracker::Tracker;
use super::world::World;

/// Persistence of a tracker that starts with nothing.
pub(crate) fn persistence(contents: Contents) -> Persistence {
    let start = SimulatedStart {
        file: None,
        now: Now::default(),
        system: SYSTEM,
    };
    Persistence::simulated(contents, start).0
}

impl World {
    /// A snapshot is begun, or the thread that writes has a turn.
    pub(crate) fn snapshot_step(&mut self) {
        let is_busy = self.tracker.snapshots.is_busy();
        if self.rng.u8(..) < if is_busy { 1 } else { 20 } {
            let tally = &mut self.coverage.tally;
            tally.note_if("snapshots given up", is_busy);
            self.begin_snapshot();
        } else if is_busy && self.rng.bool() {
            // The disk is slow now and then.
            let parts_max = [0, 1, usize::MAX][self.rng.usize(..3)];
            self.take_parts(parts_max);
        }
    }

    fn begin_snapshot(&mut self) {
        let now = self.now();
        self.snapshot_began = system_at(now.micros);
        self.model.begin_snapshot(now);
        self.tracker.snapshots.begin(now, &self.snapshot_began);
    }

    fn take_parts(&mut self, parts_max: usize) {
        let now = self.now();
        let file = self.tracker.snapshots.step(now, parts_max);
        if let Some(file) = file.expect("all workers are there") {
            let needed = self.model.end_snapshot(&file, now, self.contents);
            let is_amidst = self.open_requests() > 0;
            let tally = &mut self.coverage.tally;
            tally.note("snapshots");
            tally.add("peers that had to be in a snapshot", needed as u64);
            tally.note_if("snapshots with requests on their way", is_amidst);
            self.restart(&file);
        }
    }

    /// Another tracker starts with the file: with other numbers of workers, other keys, and another
    /// access list perhaps.
    fn restart(&mut self, file: &[u8]) {
        let mut rng = self.rng.fork();
        let mut config = self.config.clone();
        config.socket_workers = rng.usize(1..4);
        config.swarm_workers = rng.usize(..3);
        let listed = match rng.bool() {
            true => self.allowed.listed.clone(),
            false => some_torrents(&mut rng),
        };
        let mode = self.allowed.mode;
        let allowed = Allowed { mode, listed };
        let (seed, now) = (rng.u64(..), Now::from_micros(rng.u64(..10_000_000)));
        let restart = Restart {
            file,
            began: self.snapshot_began,
            peer_age_seconds_max: config.cleaning.max_peer_age,
            has_limits: has_limits(&config),
        };
        let contents = self.contents;
        let start = |file: &[u8], system: SystemTime| {
            let list = SharedAccessList::new(mode, allowed.listed.iter().copied().collect());
            started(&config, (list, seed), contents, (now, system), file)
        };
        let tally = &mut self.coverage.tally;
        restart.check(&mut rng, tally, |torrent| allowed.allows(torrent), start);
    }
}

fn has_limits(config: &Config) -> bool {
    let limits = &config.limits.tracker;
    limits.max_torrents > 0
        || limits.max_peers > 0
        || limits.max_peers_per_ip > 0
        || config.limits.addresses.max_peers_per_ip_and_torrent > 0
}

fn started(
    config: &Config,
    (list, seed): (SharedAccessList, u64),
    contents: Contents,
    (now, system): (Now, SystemTime),
    file: &[u8],
) -> Restarted {
    let file = Some(file.to_vec());
    let start = SimulatedStart { file, now, system };
    let (persistence, loaded) = Persistence::simulated(contents, start);
    let mut tracker = Tracker::new(config, list, &SharedKeys::off(), persistence, seed);
    let loaded = loaded.recv().expect("there was a file");
    Restarted {
        loaded: loaded.ok().map(|it| (it.expired, it.refused)),
        snapshot: tracker.snapshot(now, &system),
        peers: PerFamily::new(|family| tracker.gauges(family).1.into()),
    }
}

impl Model {
    fn begin_snapshot(&mut self, now: Now) {
        self.snapshot = Some(Possible::new(now.micros));
        self.note_all(now.seconds.0);
        if let Some(possible) = &mut self.snapshot {
            possible.begin();
        }
    }

    /// Holds a file against what can have been. Returns how many peers had to be in it.
    fn end_snapshot(&mut self, file: &[u8], now: Now, contents: Contents) -> usize {
        self.note_all(now.seconds.0);
        let mut possible = self.snapshot.take().expect("it was begun");
        if contents == Contents::Completed {
            possible.forget_peers();
        }
        possible.check(&Written::read(file), now.seconds.0)
    }

    fn note_all(&mut self, now_seconds: u32) {
        let torrents: Vec<_> = self.swarms.keys().copied().collect();
        for torrent in torrents {
            self.note_torrent(torrent, now_seconds);
        }
    }

    /// Tells a snapshot that is being written what a torrent can be now.
    pub(crate) fn note_torrent(&mut self, torrent: Torrent, now_seconds: u32) {
        let last = self.deadline(now_seconds);
        let (Some(possible), Some(swarm)) = (&mut self.snapshot, self.swarms.get(&torrent)) else {
            return;
        };
        let (family, info_hash) = torrent;
        for (addr, peer) in &swarm.peers {
            let deadlines = peer.deadlines(last);
            for (states, status) in [
                (States::ABSENT, PeerStatus::Stopped),
                (States::LEECHER, PeerStatus::Leecher),
                (States::SEEDER, PeerStatus::Seeder),
            ] {
                if peer.states.may_be(states) {
                    possible.peer((info_hash, *addr), status, deadlines);
                }
            }
        }
        let completed = swarm.completed();
        possible.completed((Some(family), info_hash), (completed.min, completed.max));
    }
}

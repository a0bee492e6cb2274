//! Snapshots while all goes on, and trackers that start with them.

use std::collections::BTreeSet;

use aquatic_daemon::clock::Now;
use aquatic_http::config::Config;
use aquatic_keys::SharedKeys;
use aquatic_swarm_log::{Contents, SystemTime};
use aquatic_test_support::lists::Lists;
use aquatic_test_support::swarm_file::{Possible, Restart, Restarted, SYSTEM, Written, system_at};
use aquatic_tracker::persistence::Persistence;
use aquatic_tracker::persistence::simulation::SimulatedStart;
use aquatic_types::{IpFamily, PeerStatus, PerFamily};

use super::changes::some_torrents;
use super::model::Announce;
use super::requests::{Meaning, Request};
use super::tracker::arranged;
use super::world::World;

/// A snapshot that is being written.
pub(crate) struct BegunSnapshot {
    began: SystemTime,
    possible: Possible,
}

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
        let is_busy = self.snapshot.is_some();
        if self.rng.u8(..) < if is_busy { 1 } else { 20 } {
            self.tally.note_if("snapshots given up", is_busy);
            self.begin_snapshot();
        } else if is_busy && self.rng.bool() {
            // The disk is slow now and then.
            let parts_max = [0, 1, usize::MAX][self.rng.usize(..3)];
            self.take_parts(parts_max);
        }
    }

    fn begin_snapshot(&mut self) {
        let now = self.now();
        let began = system_at(now.micros);
        let possible = Possible::new(now.micros);
        self.snapshot = Some(BegunSnapshot { began, possible });
        self.note_all();
        if let Some(snapshot) = &mut self.snapshot {
            snapshot.possible.begin();
        }
        let snapshots = self.tracker.snapshots.as_mut();
        snapshots.expect("persistence is on").begin(now, &began);
    }

    fn take_parts(&mut self, parts_max: usize) {
        let now = self.now();
        let snapshots = self.tracker.snapshots.as_mut().expect("persistence is on");
        let file = snapshots.step(now, parts_max);
        let Some(file) = file.expect("all workers are there") else {
            return;
        };
        self.note_all();
        let snapshot = self.snapshot.take().expect("it was begun");
        let BegunSnapshot {
            began,
            mut possible,
        } = snapshot;
        if self.contents == Contents::Completed {
            possible.forget_peers();
        }
        let needed = possible.check(&Written::read(&file), now.seconds.0);
        let is_amidst = self.links.values().any(|link| link.open() > 0);
        self.tally.note("snapshots");
        self.tally
            .add("peers that had to be in a snapshot", needed as u64);
        self.tally
            .note_if("snapshots with requests on their way", is_amidst);
        self.restart(&file, began);
    }

    /// Another tracker starts with the file: with other numbers of workers, other keys, and another
    /// access list perhaps.
    fn restart(&mut self, file: &[u8], began: SystemTime) {
        let mut rng = self.rng.fork();
        let mut config = self.config.clone();
        config.socket_workers = rng.usize(1..4);
        config.swarm_workers = rng.usize(..3);
        let mut lists = Lists::new(config.access_list.mode, some_torrents(&mut rng));
        if rng.bool() {
            lists = self.lists.now_only();
        }
        let (seed, now) = (rng.u64(..), Now::from_micros(rng.u64(..10_000_000)));
        let restart = Restart {
            file,
            began,
            peer_age_seconds_max: config.cleaning.max_peer_age,
            has_limits: config.limits.addresses.max_peers_per_ip_and_torrent > 0,
        };
        let contents = self.contents;
        let start = |file: &[u8], system: SystemTime| {
            started(&config, (&lists, seed), contents, (now, system), file)
        };
        let tally = &mut self.tally;
        restart.check(&mut rng, tally, |torrent| lists.allows(torrent), start);
    }

    /// Tells a snapshot that is being written of everything that can be so now.
    fn note_all(&mut self) {
        let Some(snapshot) = &mut self.snapshot else {
            return;
        };
        for (name, status, deadline) in self.model.all_peers() {
            snapshot.possible.peer(name, status, (deadline, deadline));
        }
        for (torrent, completed) in self.model.all_completed() {
            snapshot.possible.completed(torrent, (completed, completed));
        }
        let links = self.links.values();
        let open = links.flat_map(|link| link.requests()).chain(&self.ghosts);
        let open: Vec<Request> = open.cloned().collect();
        for request in open {
            self.note_request(&request);
        }
    }

    /// The same of a request that may take effect from now on, and may be refused.
    pub(crate) fn note_request(&mut self, request: &Request) {
        let Meaning::Announce(announce, _) = &request.meaning else {
            return;
        };
        let name = (announce.torrent, announce.peer);
        if !self.model.all_peers().any(|(known, ..)| known == name) {
            self.note(announce, PeerStatus::Stopped);
        }
        self.note(announce, announce.status);
        self.note_completed(announce);
    }

    /// The same of an announce that has taken effect.
    pub(crate) fn note_announce(&mut self, announce: &Announce) {
        self.note(announce, announce.status);
    }

    fn note(&mut self, announce: &Announce, status: PeerStatus) {
        let deadline = (self.now().seconds.0 + self.config.cleaning.max_peer_age) | 1;
        if let Some(snapshot) = &mut self.snapshot {
            let name = (announce.torrent, announce.peer);
            snapshot.possible.peer(name, status, (deadline, deadline));
        }
    }

    /// Each announce that is open may be one more download.
    fn note_completed(&mut self, announce: &Announce) {
        let torrent = (Some(IpFamily::of(&announce.peer)), announce.torrent);
        let mut completed = self.model.all_completed();
        let known = completed.find(|(it, _)| *it == torrent);
        let known = known.map_or(0, |(_, completed)| completed);
        drop(completed);
        let links = self.links.values();
        let open = links.flat_map(|link| link.requests()).chain(&self.ghosts);
        let completes = |request: &&Request| match &request.meaning {
            Meaning::Announce(open, _) => open.completed && open.torrent == announce.torrent,
            _ => false,
        };
        let open = u32::try_from(open.filter(completes).count()).unwrap();
        if let Some(snapshot) = &mut self.snapshot {
            let max = known + open + u32::from(announce.completed);
            snapshot.possible.completed(torrent, (known, max));
        }
    }

    /// Torrents and peers may be forgotten.
    pub(crate) fn note_cleaning(&mut self, clean: impl FnOnce(&mut Self)) {
        let before: Vec<_> = self.model.all_peers().collect();
        let counted: Vec<_> = self.model.all_completed().collect();
        clean(self);
        let Some(snapshot) = &mut self.snapshot else {
            return;
        };
        let after: BTreeSet<_> = self.model.all_peers().map(|(name, ..)| name).collect();
        for (name, _, deadline) in before.iter().filter(|(name, ..)| !after.contains(name)) {
            let deadlines = (*deadline, *deadline);
            snapshot
                .possible
                .peer(*name, PeerStatus::Stopped, deadlines);
        }
        let after: BTreeSet<_> = self.model.all_completed().map(|(it, _)| it).collect();
        for (torrent, completed) in counted.iter().filter(|(it, _)| !after.contains(it)) {
            snapshot.possible.completed(*torrent, (0, *completed));
        }
    }
}

fn started(
    config: &Config,
    (lists, seed): (&Lists, u64),
    contents: Contents,
    (now, system): (Now, SystemTime),
    file: &[u8],
) -> Restarted {
    let file = Some(file.to_vec());
    let start = SimulatedStart { file, now, system };
    let (persistence, loaded) = Persistence::simulated(contents, start);
    let keys = SharedKeys::off();
    let mut tracker = arranged(config, lists.shared(), &keys, None, persistence, seed);
    let loaded = loaded.recv().expect("there was a file");
    Restarted {
        loaded: loaded.ok().map(|it| (it.expired, it.refused)),
        snapshot: tracker.snapshot(now, &system),
        peers: PerFamily::new(|family| tracker.gauges(family).1),
    }
}

//! Snapshots, and trackers that start with them. They hold download counts only, so the model knows
//! all that is in them.

use aquatic_daemon::clock::Now;
use aquatic_keys::SharedKeys;
use aquatic_swarm_log::{Contents, SystemTime};
use aquatic_test_support::lists::Lists;
use aquatic_test_support::swarm_file::{Possible, Restart, Restarted, SYSTEM, Written, system_at};
use aquatic_tracker::persistence::Persistence;
use aquatic_tracker::persistence::simulation::{Loaded, SimulatedStart};
use aquatic_types::PerFamily;
use aquatic_ws::config::Config;

use super::super::tracker::{Tracker, arranged};
use super::World;

/// Persistence of a tracker that starts with nothing.
pub(super) fn persistence() -> Persistence {
    let start = SimulatedStart {
        file: None,
        now: Now::default(),
        system: SYSTEM,
    };
    Persistence::simulated(Contents::CompletedWebTorrent, start).0
}

impl World {
    /// A snapshot is written while nothing else happens, and another tracker starts with it.
    pub(super) fn restart(&mut self) {
        let (now, began) = (self.now(), system_at(self.now_micros));
        let mut possible = Possible::new(now.micros);
        for (torrent, count) in self.model.completed() {
            // A torrent that is forbidden may be forgotten already.
            let is_allowed = self.lists.allows(&torrent);
            let least = if is_allowed { count } else { 0 };
            possible.completed((None, torrent), (least, count));
        }
        possible.begin();
        let file = self.tracker.snapshot(now, &began);
        let written = Written::read(&file);
        possible.check(&written, now.seconds.0);
        self.tally
            .add("counts in snapshots", written.completed.len() as u64);

        let mut rng = self.rng.fork();
        let mut config = self.config.clone();
        config.socket_workers = rng.usize(1..4);
        config.swarm_workers = rng.usize(..3);
        let restart = Restart {
            file: &file,
            began,
            peer_age_seconds_max: config.cleaning.max_peer_age,
            has_limits: false,
        };
        let (lists, seed) = (self.lists.now_only(), rng.u64(..));
        let start = |file: &[u8], system: SystemTime| {
            let (mut tracker, loaded) = started(&config, &lists, system, seed, file);
            Restarted {
                loaded: loaded.ok().map(|it| (it.expired, it.refused)),
                snapshot: tracker.snapshot(Now::default(), &system),
                peers: PerFamily::new(|family| tracker.gauges(family).1),
            }
        };
        restart.check(&mut rng, &mut self.tally, |it| lists.allows(it), start);
    }
}

fn started(
    config: &Config,
    lists: &Lists,
    system: SystemTime,
    seed: u64,
    file: &[u8],
) -> (Tracker, Loaded) {
    let start = SimulatedStart {
        file: Some(file.to_vec()),
        now: Now::default(),
        system,
    };
    let (persistence, loaded) = Persistence::simulated(Contents::CompletedWebTorrent, start);
    let keys = SharedKeys::off();
    let tracker = arranged(config, lists.shared(), &keys, None, persistence, seed);
    (tracker, loaded.recv().expect("there was a file"))
}

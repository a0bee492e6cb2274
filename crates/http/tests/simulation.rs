//! A seeded simulation of whole HTTP trackers on a virtual clock.
//!
//! All workers of an arrangement run here in one thread, in an order that a random number generator
//! chooses. Clients open connections and send requests of all kinds over them, many at once, in
//! pieces of any size, also malformed ones; they read slowly, end their input early,
//! vanish. Workers do not keep up, and hours pass. A shadow model predicts each answer.
//!
//! | module | what it is |
//! |---|---|
//! | `tracker` | the system under test: hubs, workers, shards |
//! | `requests` | random requests, and what must come of each |
//! | `link` | one connection, seen by its client |
//! | `world` | what happens when: read this first |
//! | `checks` | what must be true of counters and of a tracker at rest |
//! | `model` | who should be in which swarm |
//!
//! At any time a torrent is asked about over one connection only, so that its state is known
//! whatever the order of the workers. What others ask goes on meanwhile, through the same batches.
//!
//! A run that fails prints its seed. `SIMULATION_SEED=<seed>` replays it (with the name of the
//! test), and `SIMULATION_RUNS=<number>` does more runs than usual.

mod simulation {
    pub(crate) mod checks;
    pub(crate) mod link;
    pub(crate) mod model;
    pub(crate) mod requests;
    pub(crate) mod tracker;
    pub(crate) mod world;
}

use std::collections::BTreeSet;

use aquatic_access_list::AccessListMode;
use aquatic_daemon::counter::Label;
use aquatic_daemon_tests::seeds::for_each_seed;
use aquatic_http::config::Config;
use aquatic_http::counters::Reason;
use simulation::world::World;

/// Enough for everything that should happen to happen.
const RUNS: u64 = 24;

/// What these clients do not run into: limits have tests of their own, and whoever finds a queue
/// full waits.
const NOT_HERE: [Reason; 7] = [
    Reason::QueueFull,
    Reason::UntrustedProxy,
    Reason::RequestRate,
    Reason::TorrentLimit,
    Reason::PeerLimit,
    Reason::MemoryLimit,
    Reason::PeersPerIp,
];

#[test]
fn one_worker() {
    // Nothing is ever passed on.
    simulate(1, 0, |reason| {
        !NOT_HERE.contains(&reason) && reason != Reason::ConnectionGone
    });
}

#[test]
fn fused() {
    simulate(3, 0, |reason| !NOT_HERE.contains(&reason));
}

#[test]
fn split() {
    simulate(2, 2, |reason| !NOT_HERE.contains(&reason));
}

/// Runs an arrangement with several seeds, after which every reason that is to be expected must
/// have occurred.
fn simulate(socket_workers: usize, swarm_workers: usize, expected: impl Fn(Reason) -> bool) {
    let mut seen = BTreeSet::new();
    let is_whole = for_each_seed(RUNS, |seed| {
        let mut rng = fastrand::Rng::with_seed(seed);
        let config = config(socket_workers, swarm_workers, &mut rng);
        let mut world = World::new(config, rng);
        world.run();
        seen.extend(world.reasons());
    });
    for reason in Reason::ALL {
        let is_seen = seen.contains(reason.label());
        let is_expected = expected(*reason);
        assert!(is_seen <= is_expected, "{reason:?} has occurred");
        assert!(
            is_seen == is_expected || !is_whole,
            "{reason:?} has never occurred"
        );
    }
}

/// Any of the settings that matter here.
fn config(socket_workers: usize, swarm_workers: usize, rng: &mut fastrand::Rng) -> Config {
    let mut config = Config {
        socket_workers,
        swarm_workers,
        ..Config::default()
    };
    config.network.keep_alive = rng.u8(..8) > 0;
    config.network.stream.runs_behind_reverse_proxy = rng.u8(..3) == 0;
    config.protocol.max_peers = [0, 5, 30, 1_000][rng.usize(..4)];
    // A client has up to three ports.
    config.limits.addresses.max_peers_per_ip_and_torrent = [0, 2, 64][rng.usize(..3)];
    config.protocol.max_response_peers_per_ip = [0, 1, 3][rng.usize(..3)];
    config.protocol.max_scrape_torrents = [1, 12, 100][rng.usize(..3)];
    config.protocol.max_full_scrape_torrents = [0, 3, 1_000][rng.usize(..3)];
    config.protocol.min_announce_interval = [0, 60][rng.usize(..2)];
    config.metrics.interval = 1;
    config.metrics.peer_clients = rng.bool();
    config.metrics.torrent_peer_histograms = rng.bool();
    config.access_list.mode = [
        AccessListMode::Off,
        AccessListMode::Allow,
        AccessListMode::Deny,
    ][rng.usize(..3)];
    config
}

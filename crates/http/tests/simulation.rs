//! A seeded simulation of whole HTTP trackers on a virtual clock.
//!
//! All workers of a topology run here in one thread, in an order that a random number generator
//! chooses. Clients open connections and send requests of all kinds over them, many at once, in
//! pieces of any size, also malformed ones; they read slowly, end their input early,
//! vanish. Workers do not keep up, access lists and certificates are exchanged under their hands,
//! and hours pass. A shadow model predicts each answer. In a quarter of the runs clients speak TLS,
//! and in half of them they need a key.
//!
//! | module | what it is |
//! |---|---|
//! | `tracker` | the system under test: hubs, workers, shards |
//! | `requests` | random requests, and what must come of each |
//! | `keys` | the keys of clients, where the tracker wants some |
//! | `link` | one connection, seen by its client |
//! | `changes` | what is exchanged while requests are on their way, and what may come of that |
//! | `world` | what happens when: read this first |
//! | `checks` | what must be true of counters and of a tracker at rest |
//! | `restarts` | snapshots while all goes on, and trackers that start with them |
//! | `model` | who should be in which swarm |
//!
//! At any time a torrent is asked about over one connection only, so that its state is known
//! whatever the order of the workers. What others ask goes on meanwhile, through the same batches.
//!
//! A run that fails prints its seed. `SIMULATION_SEED=<seed>` replays it (with the name of the
//! test), and `SIMULATION_RUNS=<number>` does more runs than usual. With `--nocapture`, the test
//! prints what has happened.

mod simulation {
    pub(crate) mod changes;
    pub(crate) mod checks;
    pub(crate) mod keys;
    pub(crate) mod link;
    pub(crate) mod model;
    pub(crate) mod requests;
    pub(crate) mod restarts;
    pub(crate) mod tracker;
    pub(crate) mod world;
}

use std::collections::BTreeSet;

use aquatic_access_list::AccessListMode;
use aquatic_daemon::counter::Label;
use aquatic_http::config::Config;
use aquatic_http::counters::Reason;
use aquatic_test_support::certificates;
use aquatic_test_support::seeds::for_each_seed;
use aquatic_test_support::swarm_file;
use aquatic_test_support::tally::Tally;
use simulation::world::World;

/// Enough for everything that should happen to happen.
const RUNS: u64 = 24;

/// What these clients do not run into: limits have tests of their own, whoever finds a queue full
/// waits (but for full scrapes, now and then), and a request that is begun comes whole in time or
/// ends with its connection.
const NOT_HERE: [Reason; 10] = [
    Reason::TimedOut,
    Reason::QueueFull,
    Reason::UntrustedProxy,
    Reason::NetworkDenied,
    Reason::PeerIdDenied,
    Reason::RequestRate,
    Reason::TorrentLimit,
    Reason::PeerLimit,
    Reason::MemoryLimit,
    Reason::PeersPerIp,
];

/// What must have happened after all runs of a topology.
const EXPECTED: [&str; 8] = [
    "answers over connections with an earlier certificate",
    "clients that read in part",
    "clients that vanished with a request on its way",
    "reloads of the list with requests on their way",
    "requests on their way at a reload",
    "requests on their way at a reload that decides about them",
    "snapshots given up",
    "snapshots with requests on their way",
];

/// The same, if there is more than one worker.
const EXPECTED_OF_SEVERAL: [&str; 1] = ["queues so full that requests waited"];

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

/// The same seed, the same run: with TLS, too, whose keys are others each time.
#[test]
fn a_run_can_be_made_again() {
    let mut seeds = 0..;
    let seed = seeds.find(|seed| world(3, 0, *seed).certificates.is_some());
    let [first, second] = [(); 2].map(|()| {
        let mut world = world(3, 0, seed.expect("one of very many"));
        world.run();
        (world.tally, world.expected, world.micros)
    });
    assert_eq!(first, second);
}

fn world(socket_workers: usize, swarm_workers: usize, seed: u64) -> World {
    let mut rng = fastrand::Rng::with_seed(seed);
    let config = config(socket_workers, swarm_workers, &mut rng);
    World::new(config, rng)
}

/// Runs a topology with several seeds, after which every reason that is to be expected must
/// have occurred.
fn simulate(socket_workers: usize, swarm_workers: usize, expected: impl Fn(Reason) -> bool) {
    let mut seen = BTreeSet::new();
    let mut tally = Tally::default();
    let is_split_up = socket_workers + swarm_workers > 1;
    let is_whole = for_each_seed(RUNS, |seed| {
        let mut world = world(socket_workers, swarm_workers, seed);
        world.run();
        seen.extend(world.reasons());
        tally.join(&world.tally);
    });
    println!("{tally}");
    if is_whole {
        tally.check(&EXPECTED);
        tally.check(&certificates::EXPECTED);
        tally.check(&swarm_file::EXPECTED);
        if is_split_up {
            tally.check(&EXPECTED_OF_SEVERAL);
        }
    }
    for reason in Reason::ALL {
        let is_seen = seen.contains(reason.label());
        let is_expected = expected(*reason);
        let may_be = is_expected || is_split_up && *reason == Reason::QueueFull;
        assert!(is_seen <= may_be, "{reason:?} has occurred");
        assert!(
            is_seen >= is_expected || !is_whole,
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
    config.protocol.max_scrape_torrents = [1, 12, 200][rng.usize(..3)];
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

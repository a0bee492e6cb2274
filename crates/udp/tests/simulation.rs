//! A seeded simulation of whole trackers on a virtual clock.
//!
//! All workers of a topology run here in one thread, in an order that a random number generator
//! chooses, with requests of all kinds (also malformed, forged and late ones), and with everything
//! that can go wrong around them: datagrams that are lost, doubled, reordered and steered to the
//! wrong worker, send buffers that are full, an access list that is replaced, workers that do not
//! keep up, hours that pass in between. A shadow model predicts each answer, or what it can be.
//!
//! | module | what it is |
//! |---|---|
//! | `tracker` | the system under test |
//! | `clients` | random requests |
//! | `schedule` | what happens when: read this first |
//! | `world` | what must become of each datagram |
//! | `checks` | what must be true of answers, counters and a tracker at rest |
//! | `model`, `states`, `limits` | what the tracker should know |
//! | `keys` | the keys of clients, which they need in a quarter of the runs |
//! | `restarts` | snapshots while all goes on, and trackers that start with them |
//! | `coverage` | whether enough has happened |
//!
//! A run that fails prints its seed. `SIMULATION_SEED=<seed>` replays it (with the name of the
//! test), and `SIMULATION_RUNS=<number>` does more runs than usual. With `--nocapture`, the test
//! prints what has happened.

mod simulation {
    pub(crate) mod checks;
    pub(crate) mod clients;
    pub(crate) mod coverage;
    pub(crate) mod keys;
    pub(crate) mod limits;
    pub(crate) mod model;
    pub(crate) mod restarts;
    pub(crate) mod schedule;
    pub(crate) mod states;
    pub(crate) mod tracker;
    pub(crate) mod world;
}

use aquatic_access_list::AccessListMode;
use aquatic_test_support::seeds::for_each_seed;
use aquatic_udp::config::Config;
use aquatic_udp::counters::Reason;
use simulation::coverage::{Coverage, RUNS};
use simulation::world::World;

#[test]
fn one_worker() {
    let coverage = simulate(1, 0);
    coverage.check(|reason| reason != Reason::QueueFull);
}

#[test]
fn fused() {
    let coverage = simulate(3, 0);
    coverage.check(|_| true);
    coverage.check_steering();
}

#[test]
fn split() {
    let coverage = simulate(2, 2);
    coverage.check(|_| true);
}

/// The same seed, the same run.
#[test]
fn a_run_can_be_made_again() {
    let [first, second] = [(); 2].map(|()| {
        let world = run(3, 0, 0);
        (world.coverage.tally, world.expected, world.possible)
    });
    assert_eq!(first, second);
}

/// Runs a topology with several seeds.
fn simulate(socket_workers: usize, swarm_workers: usize) -> Coverage {
    let mut coverage = Coverage::default();
    for_each_seed(RUNS, |seed| {
        coverage.add(run(socket_workers, swarm_workers, seed));
    });
    coverage
}

fn run(socket_workers: usize, swarm_workers: usize, seed: u64) -> World {
    let mut rng = fastrand::Rng::with_seed(seed);
    let config = config(socket_workers, swarm_workers, &mut rng);
    let mut world = World::new(config, rng);
    world.run();
    world
}

/// Any of the settings that matter here.
fn config(socket_workers: usize, swarm_workers: usize, rng: &mut fastrand::Rng) -> Config {
    let mut config = Config {
        socket_workers,
        swarm_workers,
        ..Config::default()
    };
    config.protocol.max_response_peers = [0, 5, 30, 76][rng.usize(..4)];
    config.protocol.max_scrape_torrents = [1, 12, 74][rng.usize(..3)];
    config.statistics.metrics.interval = 1;
    config.statistics.metrics.peer_clients = rng.bool();
    config.statistics.metrics.torrent_peer_histograms = rng.bool();
    config.access_list.mode = [
        AccessListMode::Off,
        AccessListMode::Allow,
        AccessListMode::Deny,
    ][rng.usize(..3)];
    match rng.u8(..8) {
        0 => config.limits.tracker.max_torrents = 12,
        1 => config.limits.tracker.max_peers = 60,
        2 => config.limits.tracker.max_peers_per_ip = 7,
        4 => config.limits.addresses.max_peers_per_ip_and_torrent = 5,
        3 => config.limits.tracker.requests_per_second_per_ip = 10,
        _ => {}
    }
    config
}

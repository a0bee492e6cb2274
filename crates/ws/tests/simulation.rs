//! A seeded simulation of whole WebTorrent trackers on a virtual clock.
//!
//! All workers of a topology run here in one thread, in an order that a random number generator
//! chooses. Clients open WebSockets, announce with offers, answer (rightly, twice, too late, in the
//! name of others), scrape, talk nonsense, read slowly, leave, vanish, fall silent and come back;
//! torrents are forbidden and allowed again, and certificates exchanged, under the hands of
//! workers; crowds come; hours pass. In a quarter of the runs clients speak TLS, and in
//! half of them they need a key.
//!
//! | module | what it is |
//! |---|---|
//! | `tracker` | the system under test: hubs, workers, shards |
//! | `keys` | the keys of clients, where the tracker wants some |
//! | `client` | one connection, seen by its client |
//! | `ledger` | where every offer and answer is, and whether it may be there |
//! | `replies` | which of its messages a client has got replies to |
//! | `model` | who should be in which swarm, and what must come of a message |
//! | `world` | what happens when: read this first |
//!
//! There are two kinds of runs. In a *patient* one, every message is dealt with before the next
//! thing happens, and all that comes of it is compared with the model. In a *hasty* one, messages
//! of all clients are on their way at once, and the ledger says what must never happen: an answer
//! without its offer, an offer or answer that comes back to its sender or comes twice, an answer
//! after the offer has expired, an announce without a reply, a connection that answers pings and is
//! closed. When all connections are closed, nothing may be left, and nobody may be counted any
//! more.
//!
//! A run that fails prints its seed. `SIMULATION_SEED=<seed>` replays it (with the name of the
//! test), and `SIMULATION_RUNS=<number>` does more runs than usual. With `--nocapture`, the test
//! prints what has happened.

mod simulation {
    pub(crate) mod client;
    pub(crate) mod keys;
    pub(crate) mod ledger;
    pub(crate) mod model;
    pub(crate) mod replies;
    pub(crate) mod tracker;
    pub(crate) mod world;
}

use std::collections::BTreeSet;

use aquatic_access_list::AccessListMode;
use aquatic_daemon::counter::Label;
use aquatic_test_support::certificates;
use aquatic_test_support::seeds::for_each_seed;
use aquatic_test_support::tally::Tally;
use aquatic_ws::config::Config;
use aquatic_ws::counters::Reason;
use simulation::world::{Pace, World};

/// Enough for everything that should happen to happen.
const RUNS: u64 = 48;

/// What must have happened after all runs of a topology.
const REASONS: [Reason; 14] = [
    Reason::ConnectionGone,
    Reason::InfoHashDenied,
    Reason::Json,
    Reason::KeyExpired,
    Reason::KeyMissing,
    Reason::KeyPeerLimit,
    Reason::KeyUnknown,
    Reason::NotInSwarm,
    Reason::OfferRate,
    Reason::OfferUnknown,
    Reason::PeersPerIp,
    Reason::PeersPerIpAndTorrent,
    Reason::ReceiverFull,
    Reason::TorrentsPerConnection,
];

const EXPECTED: [&str; 7] = [
    "clients that read in part",
    "connections closed because their certificate was outdated",
    "counts in snapshots",
    "files torn between two batches",
    "messages over connections with an earlier certificate",
    "reloads of the list with requests on their way",
    "requests on their way at a reload",
];

/// The same, if there is more than one worker.
const EXPECTED_OF_SEVERAL: [&str; 1] = ["queues so full that requests waited"];

#[test]
fn one_worker() {
    simulate(1, 0);
}

#[test]
fn fused() {
    simulate(3, 0);
}

#[test]
fn split() {
    simulate(2, 2);
}

/// The same seed, the same run: with TLS, too, whose keys are others each time.
#[test]
fn a_run_can_be_made_again() {
    let mut seeds = 0..;
    let seed = seeds.find(|seed| world(3, 0, *seed).is_encrypted());
    let [first, second] = [(); 2].map(|()| {
        let mut world = world(3, 0, seed.expect("one of very many"));
        world.run();
        (world.answers_received(), world.tally)
    });
    assert_eq!(first, second);
}

fn simulate(socket_workers: usize, swarm_workers: usize) {
    let mut seen = BTreeSet::new();
    let mut answers = 0;
    let mut tally = Tally::default();
    let is_whole = for_each_seed(RUNS, |seed| {
        let mut world = world(socket_workers, swarm_workers, seed);
        world.run();
        seen.extend(world.reasons());
        answers += world.answers_received();
        tally.join(&world.tally);
    });
    println!("{tally}");
    if is_whole {
        tally.check(&EXPECTED);
        tally.check(&certificates::EXPECTED);
        if socket_workers + swarm_workers > 1 {
            tally.check(&EXPECTED_OF_SEVERAL);
        }
        for reason in REASONS {
            assert!(seen.contains(reason.label()), "{reason:?} never occurred");
        }
        assert!(
            answers > 1_000,
            "only {answers} answers reached their offers"
        );
    }
}

fn world(socket_workers: usize, swarm_workers: usize, seed: u64) -> World {
    let mut rng = fastrand::Rng::with_seed(seed);
    let pace = [Pace::Patient, Pace::Hasty][usize::from(seed % 2 == 1)];
    let mut config = config(socket_workers, swarm_workers, &mut rng);
    // In a patient run every offer arrives, and no time passes meanwhile.
    config.protocol.max_offers_per_second_per_receiver = match pace {
        Pace::Patient => 0,
        Pace::Hasty => [0, 1, 16][rng.usize(..3)],
    };
    // By turns, since few runs have certificates.
    config.cleaning.close_after_tls_update_grace_period = match seed / 2 % 3 {
        0 => 0,
        1 => 20,
        _ => 3_600,
    };
    if pace == Pace::Hasty && rng.bool() {
        // Little is much for clients that do not read.
        config.network.websocket_max_message_size = 4_500;
        config.network.websocket_write_buffer_size = 0;
        config.protocol.max_scrape_torrents = 10;
    }
    World::new(config, pace, rng)
}

/// Any of the settings that matter here.
fn config(socket_workers: usize, swarm_workers: usize, rng: &mut fastrand::Rng) -> Config {
    let mut config = Config {
        socket_workers,
        swarm_workers,
        ..Config::default()
    };
    config.protocol.max_offers = [2, 10][rng.usize(..2)];
    config.protocol.max_torrents_per_connection = [2, 100][rng.usize(..2)];
    config.limits.connections.tracker.max_peers_per_ip = [12, 1_000][rng.usize(..2)];
    config.limits.addresses.max_peers_per_ip_and_torrent = [0, 3][rng.usize(..2)];
    config.access_list.mode = AccessListMode::Deny;
    config.cleaning.max_peer_age = [100, 180][rng.usize(..2)];
    config.cleaning.max_offer_age = [20, 120][rng.usize(..2)];
    config.metrics.interval = 1;
    config.metrics.peer_clients = rng.bool();
    config.metrics.torrent_peer_histograms = rng.bool();
    config
}

//! A hundred nodes, which have few peers each: what holds for four does for them.

use aquatic_cluster::simulation::Conditions;
use fastrand::Rng;

use crate::answers::{assert_equally_likely, leecher};
use crate::cluster::{Cluster, Settings};
use crate::hostile::{Heard, TORRENT, lies, repeat};
use crate::measures::{Figures, ROUNDING_MICROS};
use crate::node::{ANNOUNCE_INTERVAL, Intervals};
use crate::population::{SECOND, Session, info_hash};

const NODES: usize = 100;
const PEERS: usize = 1_000;

fn settings(conditions: Conditions, history: bool) -> Settings {
    Settings {
        nodes: NODES,
        peers: PEERS,
        tick: SECOND / 4,
        flush: SECOND / 4,
        conditions,
        history,
        ticks_per_sample: 0,
        ..Settings::default()
    }
}

fn hundred(conditions: Conditions, history: bool) -> Cluster {
    let mut cluster = Cluster::new(settings(conditions, history));
    // Everybody has announced.
    cluster.pass(u64::from(ANNOUNCE_INTERVAL) + 3);
    assert_all_equal(&mut cluster, 0..NODES);
    cluster
}

/// They know everybody, and nobody who has left.
#[track_caller]
fn assert_all_equal(cluster: &mut Cluster, nodes: impl IntoIterator<Item = usize>) {
    for number in nodes {
        let figures = cluster.compare(number, 2 * SECOND);
        assert!(figures.live > 800, "{figures:?}");
        let missing = (figures.missing, figures.missing_at_home, figures.strangers);
        assert_eq!(missing, (0, 0, 0), "node {number}");
        assert_eq!((figures.left, figures.mistaken), (0, 0), "node {number}");
    }
}

/// Each is complete before the next one goes.
#[test]
fn a_hundred_nodes_are_restarted_one_after_another() {
    let mut cluster = hundred(Conditions::default(), true);
    // Since the log was made everybody has been told of again: it has all there is.
    cluster.pass(u64::from(Intervals::default().told_within()));
    let mut took = Vec::new();
    for number in 0..NODES {
        cluster.stop(number);
        cluster.pass(2);
        let others = [1, 37, 99].map(|further| (number + further) % NODES);
        assert_all_equal(&mut cluster, others);
        for other in others {
            assert_eq!(cluster.counters(other).nodes.get(), NODES as u64 - 2);
        }
        cluster.start(number);
        assert!(!cluster.counters(number).is_complete());
        took.extend(cluster.until_equal(&[number], 5));
        assert!(cluster.counters(number).is_complete());
    }
    let took = longest(took);
    println!("complete after {took} s at most");
    assert!(took <= 1.0);
    cluster.shunned.clear();
    cluster.pass(3);
    assert_all_equal(&mut cluster, 0..NODES);
    assert!((0..NODES).all(|number| cluster.counters(number).nodes.get() == NODES as u64 - 1));
}

fn is_here(number: usize) -> impl Fn(usize) -> bool {
    move |other| (other >= NODES / 2) == (number >= NODES / 2)
}

fn longest(took: Vec<Option<f64>>) -> f64 {
    let took = took.into_iter().map(|it| it.expect("in time"));
    took.fold(0.0, f64::max)
}

/// Half of them hear nothing of the other half, and have no log.
fn apart(seconds: u64, history: bool) {
    let mut cluster = hundred(Conditions::default(), history);
    cluster.part(|number| u8::from(number >= NODES / 2));
    let looks = [0, 23, 49, 50, 77, 99];
    for _ in 0..seconds / 30 {
        cluster.pass(30);
        for number in looks {
            // Who has just come over to this side is not known on it yet.
            let (here, before) = (is_here(number), cluster.now - 2 * SECOND);
            let among = |it: &Session| here(it.node) && it.last <= before;
            let figures = cluster.compare_among(number, 2 * SECOND, &among);
            assert!(figures.live > 300, "{figures:?}");
            assert_eq!((figures.missing, figures.missing_at_home), (0, 0));
            assert_eq!(figures.mistaken, 0);
        }
    }
    for number in looks {
        let figures = cluster.compare(number, 2 * SECOND);
        assert!(figures.missing > 20 && figures.left > 20, "{figures:?}");
        assert_eq!(cluster.counters(number).nodes.get(), NODES as u64 / 2 - 1);
    }
    cluster.part(|_| 0);
    let healed = cluster.now;
    if history {
        let all: Vec<usize> = (0..NODES).collect();
        let took = longest(cluster.until_complete(&all, 10));
        println!("with the log: complete after {took} s");
        assert!(took <= 10.0);
    }
    let all: Vec<usize> = (0..NODES).collect();
    let told_within = u64::from(Intervals::default().told_within()) + 2;
    let took = longest(cluster.until_complete(&all, told_within));
    println!("apart for {seconds} s, log: {history}: complete after {took} s");
    // Who has left meanwhile, and changed, is told of so.
    let passed = (cluster.now - healed) / SECOND;
    cluster.pass(told_within.saturating_sub(passed));
    let mut figures = Figures::default();
    for number in 0..NODES {
        figures += cluster.compare(number, 2 * SECOND);
    }
    assert_eq!((figures.missing, figures.missing_at_home), (0, 0));
    assert_eq!((figures.mistaken, figures.strangers), (0, 0));
    assert!(figures.latest_micros <= ROUNDING_MICROS);
}

#[test]
fn two_halves_that_were_apart_for_five_minutes_become_one_again_without_a_log() {
    apart(300, false);
}

#[test]
fn two_halves_that_were_apart_for_ten_minutes_become_one_again() {
    apart(600, true);
}

/// In small and in large swarms, whoever is asked.
#[test]
fn all_peers_are_equally_likely_whichever_of_a_hundred_nodes_has_told_of_them() {
    const SWARMS: [(u32, u32); 4] = [(0, 150), (1, 400), (2, 1_000), (3, 2_500)];
    let mut cluster = Cluster::new(Settings {
        nodes: NODES,
        peers: 0,
        tick: SECOND / 4,
        flush: SECOND / 4,
        ticks_per_sample: 0,
        ..Settings::default()
    });
    let nodes = u32::try_from(NODES).unwrap();
    // One has many peers, and another one few.
    let node_of = |number: u32| ((number * 7_919) % (nodes * nodes)).isqrt() as usize;
    for (torrent, peers) in SWARMS {
        for number in 0..peers {
            let now = cluster.now;
            cluster
                .node(node_of(number))
                .ask(now, [leecher(torrent, number, 0)]);
            cluster.pass(u64::from(number % 500 == 0));
        }
    }
    cluster.pass(3);
    for swarm in SWARMS {
        for asked in [0, 50, 99] {
            assert_equally_likely(&mut cluster, swarm, (asked, 3_000), &node_of);
        }
    }
}

/// Messages come twice and out of order, somebody repeats them, and somebody else lies.
#[test]
fn what_is_false_doubled_or_late_changes_nothing_at_a_hundred_nodes() {
    let conditions = Conditions {
        latency_micros: (200, SECOND),
        one_doubled_of: 5,
        doubled_after_micros: SECOND,
        reorders: true,
        ..Conditions::default()
    };
    let mut cluster = hundred(conditions, true);
    let mut rng = Rng::with_seed(1);
    let [mut echo, mut liar] = ["echo", "liar"].map(|name| cluster.network.connect(name));
    let (mut heard, mut repeated) = (Heard::default(), 0);
    for second in 0..120 {
        for _ in 0..4 {
            repeated += repeat(&mut echo);
            lies("liar", &mut liar, &mut heard, &mut rng);
            cluster.tick();
        }
        if second % 10 == 9 {
            for number in [0, 33, 66, 99] {
                let figures = cluster.compare(number, 3 * SECOND);
                assert_eq!((figures.missing, figures.missing_at_home), (0, 0));
                assert_eq!(figures.strangers, 0, "in torrents of others");
            }
        }
    }
    assert!(repeated > 500, "{repeated}");
    cluster.population.stop();
    // Until nothing is on its way, and departures were told again.
    cluster.pass(15);
    assert_all_equal(&mut cluster, 0..NODES);
    for number in 0..NODES {
        assert!(cluster.counters(number).invalid.get() > 100);
        let now = cluster.now;
        let known = cluster.node(number).look(now, info_hash(TORRENT)).known;
        assert!(!known.is_empty(), "it was heard");
    }
}

/// Messages are lost, late, doubled and out of order, clocks are wrong by half a minute, halves are
/// apart from each other again and again, and nodes are restarted meanwhile.
#[test]
fn a_hundred_nodes_agree_when_bad_weather_is_over() {
    let conditions = Conditions {
        latency_micros: (200, SECOND),
        one_lost_of: 100,
        one_doubled_of: 20,
        doubled_after_micros: SECOND,
        reorders: true,
        ..Conditions::default()
    };
    let mut cluster = Cluster::new(Settings {
        skew_millis: 30_000,
        ..settings(conditions, true)
    });
    cluster.pass(u64::from(ANNOUNCE_INTERVAL) + 3);
    let (mut rng, mut lost) = (Rng::with_seed(1), 0);
    for round in 0..6 {
        let sides: Vec<u8> = (0..NODES).map(|_| rng.u8(0..2)).collect();
        cluster.part(|number| sides[number]);
        cluster.pass(60);
        let restarted = rng.usize(0..NODES);
        cluster.stop(restarted);
        cluster.pass(5);
        let figures = cluster.compare((restarted + 1) % NODES, 2 * SECOND);
        lost += figures.missing;
        cluster.start(restarted);
        cluster.part(|_| 0);
        cluster.pass(10);
        cluster.shunned.clear();
        assert_eq!(figures.strangers, 0, "round {round}");
    }
    assert!(lost > 30, "{lost}: the weather was fine");
    cluster.population.stop();
    // Until the log has been read for the last hole, and departures were told again.
    cluster.pass(60);
    assert_all_equal(&mut cluster, 0..NODES);
    let (min, max) = clocks(&cluster);
    assert!(min > 20_000 && max <= 62_000, "{min} to {max}");
}

/// The smallest and the largest difference of clocks that nodes tell of, in milliseconds.
fn clocks(cluster: &Cluster) -> (u64, u64) {
    let skews = (0..NODES).map(|number| cluster.counters(number).skew_millis.get());
    skews.fold((u64::MAX, 0), |(min, max), skew| {
        (min.min(skew), max.max(skew))
    })
}

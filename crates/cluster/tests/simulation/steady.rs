//! Nothing fails but messages.

use aquatic_cluster::simulation::Conditions;

use crate::cluster::{Cluster, Settings};
use crate::measures::{Figures, ROUNDING_MICROS, share};
use crate::node::{AGE, ANNOUNCE_INTERVAL};
use crate::population::SECOND;

const HOUR: u64 = 3_600;

/// What was measured after everything had settled.
struct Outcome {
    figures: Figures,
    records_per_announce: f64,
    /// How long a peer that has vanished is known elsewhere, on average, in seconds.
    ghost_seconds: f64,
}

fn measure(name: &str, settings: Settings, hours: u64) -> Outcome {
    let mut cluster = Cluster::new(settings);
    cluster.pass(u64::from(AGE + ANNOUNCE_INTERVAL));
    cluster.figures = Figures::default();
    let (announces, published) = (cluster.population.announces, cluster.published());
    let vanished = cluster.population.vanished;
    cluster.pass(hours * HOUR);
    let figures = cluster.figures;
    let announces = cluster.population.announces - announces;
    let vanished = cluster.population.vanished - vanished;
    let others = settings.nodes as u64 - 1;
    let between = Figures::seconds(settings.ticks_per_sample * settings.tick);
    let outcome = Outcome {
        figures,
        records_per_announce: share(cluster.published() - published, announces),
        ghost_seconds: share(figures.vanished, vanished * others) * between,
    };
    println!(
        "{name}: missing {:.4} %, {:.3} records per announce; who has vanished is known for \
         {:.0} s, at most {:.3} s longer than at home; {figures:?}",
        figures.missing_share() * 100.0,
        outcome.records_per_announce,
        outcome.ghost_seconds,
        Figures::seconds(figures.latest_micros),
    );
    assert_eq!((figures.missing_at_home, figures.strangers), (0, 0));
    assert!(
        figures.live > 4 * HOUR * 100,
        "a share of nothing is no measure"
    );
    outcome
}

/// So many of the messages are lost, on the way to each receiver.
fn losing(one_lost_of: u32, history: bool) -> Settings {
    let conditions = Conditions {
        one_lost_of,
        ..Conditions::default()
    };
    Settings {
        conditions,
        history,
        ..Settings::default()
    }
}

#[test]
fn without_losses_everybody_is_known() {
    let outcome = measure("no loss", losing(0, false), 4);
    let figures = outcome.figures;
    assert!(figures.missing_share() <= 0.000_1);
    assert!((outcome.records_per_announce - 0.30).abs() <= 0.03);
    assert!(figures.latest_micros <= ROUNDING_MICROS);
    // Others were told of it for the last time some R / 2 before it was announced last.
    assert!((957.0 - outcome.ghost_seconds).abs() < 60.0);
    // Whoever has left or changed is so for others within the time that batches take.
    assert!(share(figures.left + figures.mistaken, figures.live) <= 0.000_1);
}

#[test]
fn what_is_lost_is_repaired_by_peers_and_sooner_by_the_log() {
    let alone = measure("1 % lost, no log", losing(100, false), 4);
    let with_log = measure("1 % lost, log", losing(100, true), 4);
    let (alone, with_log) = (alone.figures, with_log.figures);
    assert!(alone.missing_share() <= 0.002);
    assert!(alone.missing_share() >= 0.000_3, "something was lost");
    assert!(with_log.missing_share() <= 0.000_2);
    assert!(with_log.left * 4 < alone.left, "departures, too");
    for figures in [alone, with_log] {
        assert!(figures.latest_micros <= ROUNDING_MICROS);
    }
}

#[test]
fn one_in_ten_may_be_lost() {
    let alone = measure("10 % lost, no log", losing(10, false), 4);
    let with_log = measure("10 % lost, log", losing(10, true), 4);
    let (alone, with_log) = (alone.figures, with_log.figures);
    assert!((0.012..=0.022).contains(&alone.missing_share()));
    assert!(with_log.missing_share() <= 0.001);
    for figures in [alone, with_log] {
        assert!(figures.latest_micros <= ROUNDING_MICROS);
    }
}

/// As if by other ways than the straight one.
#[test]
fn what_comes_twice_or_out_of_order_changes_nothing() {
    let conditions = Conditions {
        latency_micros: (200, 2 * SECOND),
        one_doubled_of: 5,
        doubled_after_micros: SECOND,
        reorders: true,
        ..Conditions::default()
    };
    for history in [true, false] {
        let mut cluster = Cluster::new(Settings {
            conditions,
            history,
            ..Settings::default()
        });
        cluster.pass(HOUR);
        cluster.population.stop();
        // Until nothing is on its way, and departures were told again.
        cluster.pass(15);
        let mut figures = Figures::default();
        for number in 0..cluster.nodes.len() {
            figures += cluster.compare(number, 0);
        }
        println!("{figures:?}");
        assert!(figures.live > 1_000);
        assert_eq!((figures.missing, figures.missing_at_home), (0, 0));
        assert_eq!(
            (figures.left, figures.mistaken, figures.strangers),
            (0, 0, 0)
        );
        assert!(figures.latest_micros <= ROUNDING_MICROS);
    }
}

/// Nobody keeps who has left: who is told of again, by a message that was on its way for minutes,
/// is remembered again, but never for longer than if he had not left.
#[test]
fn what_is_old_makes_nobody_live_longer() {
    let conditions = Conditions {
        one_doubled_of: 5,
        doubled_after_micros: 900 * SECOND,
        ..Conditions::default()
    };
    let settings = Settings {
        conditions,
        ..Settings::default()
    };
    let outcome = measure("old messages", settings, 2);
    let figures = outcome.figures;
    assert!(figures.missing_share() <= 0.000_1);
    assert!(share(figures.mistaken, figures.live) <= 0.000_1);
    assert!(figures.latest_micros <= ROUNDING_MICROS);
    assert!(share(figures.left, figures.live) < 0.05);
}

#[test]
fn clocks_that_are_wrong_change_nothing() {
    let settings = Settings {
        skew_millis: 30_000,
        ..losing(0, true)
    };
    let outcome = measure("clocks", settings, 2);
    let figures = outcome.figures;
    assert!(figures.missing_share() <= 0.000_1);
    assert!((outcome.records_per_announce - 0.30).abs() <= 0.03);
    assert!(figures.latest_micros <= ROUNDING_MICROS);
    assert!(share(figures.left + figures.mistaken, figures.live) <= 0.000_1);
}

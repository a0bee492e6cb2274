//! The intervals that trackers have by default: nobody is told of less often than he announces.

use aquatic_cluster::simulation::Conditions;

use crate::cluster::{Cluster, Settings};
use crate::measures::{Figures, ROUNDING_MICROS, share};
use crate::node::Intervals;

/// `protocol.peer_announce_interval` and `cleaning.max_peer_age` of each.
const UDP: Intervals = Intervals {
    announce: 900,
    age: 1_200,
};
const HTTP: Intervals = Intervals {
    announce: 900,
    age: 1_800,
};

const HOURS: u64 = 6;

/// What nodes know of each other's peers, when of so many messages one is lost to each receiver.
fn measure(name: &str, intervals: Intervals, (one_lost_of, history): (u32, bool)) -> Figures {
    let mut cluster = Cluster::new(Settings {
        peers: 4_000,
        intervals,
        tick: 200_000,
        conditions: Conditions {
            one_lost_of,
            ..Conditions::default()
        },
        history,
        ticks_per_sample: 149,
        ..Settings::default()
    });
    cluster.pass(u64::from(intervals.age + intervals.announce));
    cluster.figures = Figures::default();
    let (announces, published) = (cluster.population.announces, cluster.published());
    cluster.pass(HOURS * 3_600);
    let announces = cluster.population.announces - announces;
    let records = share(cluster.published() - published, announces);
    let figures = cluster.figures;
    println!(
        "{name}, announces every {} s, age {} s, told of every {} s: missing {:.4} %, {records:.3} \
         records per announce; {figures:?}",
        intervals.announce,
        intervals.age,
        intervals.refresh().seconds(),
        figures.missing_share() * 100.0,
    );
    assert!(figures.live > 4_000_000, "a share of nothing is no measure");
    assert_eq!((figures.missing_at_home, figures.strangers), (0, 0));
    // Every announce is published.
    assert!((records - 1.0).abs() < 0.001);
    assert!(figures.latest_micros <= ROUNDING_MICROS);
    figures
}

#[test]
fn the_configuration_s_choice_is_what_is_simulated() {
    assert_eq!(UDP.refresh().seconds(), 128);
    assert_eq!(HTTP.refresh().seconds(), 256);
    assert_eq!(
        Intervals::default().refresh().seconds(),
        crate::node::REFRESH_INTERVAL
    );
}

#[test]
fn without_losses_nobody_is_missed_by_default() {
    for (name, intervals) in [("UDP", UDP), ("HTTP", HTTP)] {
        let figures = measure(name, intervals, (0, false));
        // The flush interval of who has just come.
        assert!(figures.missing_share() <= 0.000_1);
    }
}

/// One lost telling is a gap if peers announce less often than others are told of them by choice:
/// until the next one, less what is left of the life that they had.
#[test]
fn what_is_lost_is_missed_longer_by_default_and_the_log_has_it() {
    for (name, intervals, expected) in [
        ("UDP, 1 % lost", UDP, 0.006..=0.009),
        ("HTTP, 1 % lost", HTTP, 0.001_5..=0.003),
    ] {
        let alone = measure(name, intervals, (100, false));
        let share = alone.missing_share();
        assert!(expected.contains(&share), "{share}");
        let with_log = measure(&format!("{name}, log"), intervals, (100, true));
        assert!(with_log.missing_share() <= 0.000_2);
        assert!(with_log.left * 4 < alone.left, "departures, too");
    }
}

//! Nodes and connections fail, or are slow.

use aquatic_cluster::simulation::Conditions;
use aquatic_daemon::counter::Counter;

use crate::cluster::{Cluster, Settings};
use crate::measures::Figures;
use crate::node::{AGE, ANNOUNCE_INTERVAL, REFRESH_INTERVAL};
use crate::population::SECOND;

/// In this time all peers who are alive are told of again, and clocks are read in steps of two
/// seconds.
const REPAIRED_SECONDS: u64 = (REFRESH_INTERVAL + ANNOUNCE_INTERVAL + 2) as u64;

fn with_history(history: bool, nodes: usize) -> Settings {
    Settings {
        nodes,
        history,
        ticks_per_sample: 0,
        ..Settings::default()
    }
}

/// All of them within so many seconds.
fn assert_within(took: &[Option<f64>], seconds: f64) {
    println!("took {took:.2?} s, may take {seconds} s");
    for took in took {
        assert!(took.is_some_and(|took| took <= seconds), "{took:?}");
    }
}

/// The log is on one side. What the other one has published is not in it before it is published
/// again.
#[test]
fn sides_that_were_apart_become_one_again() {
    for history in [true, false] {
        let mut cluster = Cluster::new(with_history(history, 6));
        cluster.pass(300);
        cluster.part(|number| u8::from(number >= 3));
        for _ in 0..30 {
            cluster.pass(10);
            for number in 0..6 {
                let is_here = |other: usize| (other >= 3) == (number >= 3);
                let of_side = |session: &crate::population::Session| is_here(session.node);
                let figures = cluster.compare_among(number, 2 * SECOND, &of_side);
                assert!(figures.live > 100);
                assert_eq!((figures.missing, figures.missing_at_home), (0, 0));
                assert_eq!((figures.left, figures.mistaken), (0, 0));
            }
        }
        let apart: Vec<Figures> = (0..6).map(|it| cluster.compare(it, 2 * SECOND)).collect();
        assert!(apart.iter().all(|it| it.missing > 20 && it.left > 20));
        cluster.part(|_| 0);
        if history {
            let took = cluster.until_equal(&[0, 1, 2, 3, 4, 5], 10);
            assert_within(&took, 10.0);
            let counters = (0..6).map(|it| cluster.counters(it));
            let lost = counters.flat_map(|it| it.lost.iter().map(Counter::get));
            assert_eq!(lost.sum::<u64>(), 0);
        }
        let took = cluster.until_complete(&[0, 1, 2, 3, 4, 5], REPAIRED_SECONDS);
        #[expect(clippy::cast_precision_loss, reason = "minutes")]
        assert_within(&took, REPAIRED_SECONDS as f64);
        // Who has left on the other side meanwhile is remembered until his time is over.
        let took = cluster.until_equal(&[0, 1, 2, 3, 4, 5], u64::from(AGE));
        assert_within(&took, f64::from(AGE));
    }
}

/// One node after another, without the loss of anything.
#[test]
fn nodes_can_be_restarted_one_after_another() {
    for history in [true, false] {
        let mut cluster = Cluster::new(with_history(history, 4));
        // Since the log was made everybody has been told of again: it has all there is.
        cluster.pass(REPAIRED_SECONDS);
        for number in 0..4 {
            cluster.stop(number);
            cluster.pass(5);
            for other in (0..4).filter(|other| *other != number) {
                let figures = cluster.compare(other, 2 * SECOND);
                assert_eq!((figures.missing, figures.missing_at_home), (0, 0));
                assert_eq!(cluster.counters(other).nodes.get(), 2);
            }
            cluster.start(number);
            assert!(!cluster.counters(number).is_complete());
            match history {
                true => assert_within(&cluster.until_equal(&[number], 5), 0.5),
                false => {
                    cluster.pass(10);
                    assert!(!cluster.counters(number).is_complete());
                    let took = cluster.until_complete(&[number], REPAIRED_SECONDS);
                    #[expect(clippy::cast_precision_loss, reason = "minutes")]
                    assert_within(&took, REPAIRED_SECONDS as f64);
                    cluster.pass(REPAIRED_SECONDS);
                }
            }
            assert!(cluster.counters(number).is_complete());
        }
        cluster.shunned.clear();
        cluster.pass(3);
        assert!((0..4).all(|number| cluster.counters(number).nodes.get() == 3));
    }
}

/// The log takes half a minute, and meanwhile peers come, change and go.
#[test]
fn a_log_that_is_read_slowly_undoes_nothing() {
    for seed in 0..3 {
        let mut cluster = Cluster::new(Settings {
            seed,
            conditions: Conditions {
                logged_per_second: 150,
                ..Conditions::default()
            },
            ..with_history(true, 4)
        });
        cluster.pass(900);
        cluster.shunned = vec![2];
        cluster.pass(1);
        cluster.kill(2);
        cluster.pass(5);
        cluster.start(2);
        cluster.shunned.clear();
        cluster.pass(10);
        assert!(cluster.counters(2).is_reading_log());
        let mut seconds = 10;
        while cluster.counters(2).is_reading_log() {
            cluster.pass(1);
            seconds += 1;
        }
        assert!((15..60).contains(&seconds), "{seconds}");
        assert!(cluster.counters(2).is_complete());
        // Departures that were heard meanwhile are told again.
        cluster.pass(6);
        let figures = cluster.compare(2, 2 * SECOND);
        assert_eq!((figures.missing, figures.missing_at_home), (0, 0));
        assert_eq!((figures.left, figures.mistaken), (0, 0), "{figures:?}");
    }
}

/// It does not know the clocks of others before it has heard them, and the log is read at once.
#[test]
fn a_node_that_joins_does_not_need_right_clocks() {
    for seed in 0..5 {
        let mut cluster = Cluster::new(Settings {
            seed,
            skew_millis: 30_000,
            ..with_history(true, 4)
        });
        cluster.pass(900);
        cluster.shunned = vec![1];
        cluster.pass(1);
        cluster.kill(1);
        cluster.pass(5);
        cluster.start(1);
        assert_within(&cluster.until_complete(&[1], 5), 0.5);
        cluster.shunned.clear();
        let mut latest = 0;
        let mut left = 0;
        for _ in 0..AGE / 10 {
            cluster.pass(10);
            let figures = cluster.compare(1, 2 * SECOND);
            assert_eq!((figures.missing, figures.missing_at_home), (0, 0));
            latest = latest.max(figures.latest_micros);
            left = left.max(figures.left);
        }
        println!(
            "at most {} s late, {left} had left",
            Figures::seconds(latest)
        );
        // By the difference of two clocks, and by what is rounded.
        assert!(latest <= 62 * SECOND);
        // Who has been told of and has left within that time.
        assert!(left <= 10);
    }
}

#[test]
fn a_node_that_was_cut_off_answers_on_and_is_complete_soon_after() {
    for (publish_buffer, is_ample) in [(64 << 20, true), (2_000, false)] {
        let mut cluster = Cluster::new(Settings {
            publish_buffer,
            ..with_history(true, 4)
        });
        cluster.pass(300);
        cluster.set_connected(1, false);
        let mut most = 0;
        for _ in 0..60 {
            cluster.pass(1);
            assert_eq!(cluster.compare(1, 2 * SECOND).missing_at_home, 0);
            most = most.max(cluster.counters(1).buffered.get());
        }
        assert!(!cluster.counters(1).is_connected());
        assert!(cluster.compare(1, 2 * SECOND).missing > 5);
        assert!(cluster.compare(0, 2 * SECOND).missing > 5);
        assert!(most <= publish_buffer as u64, "{most}");
        assert!(most > 1_500);
        cluster.set_connected(1, true);
        assert_within(&cluster.until_equal(&[1], 10), 10.0);
        assert_eq!(cluster.counters(1).buffered.get(), 0);
        let lost = cluster.counters(1).lost.iter();
        assert_eq!(lost.map(Counter::get).sum::<u64>() == 0, is_ample);
        if is_ample {
            assert_within(&cluster.until_equal(&[0, 2, 3], 10), 1.0);
        } else {
            let took = cluster.until_complete(&[0, 2, 3], REPAIRED_SECONDS);
            #[expect(clippy::cast_precision_loss, reason = "minutes")]
            assert_within(&took, REPAIRED_SECONDS as f64);
        }
    }
}

/// The server takes everything for 12 seconds, and passes nothing on.
#[test]
fn what_went_down_with_a_server_that_hung_is_told_again() {
    for seed in 0..3 {
        let mut cluster = Cluster::new(Settings {
            seed,
            ..with_history(true, 4)
        });
        cluster.pass(300);
        cluster.hang(1);
        cluster.pass(12);
        assert!(cluster.counters(1).is_connected());
        assert!(cluster.compare(0, 2 * SECOND).missing > 0);
        cluster.set_connected(1, false);
        cluster.pass(3);
        cluster.set_connected(1, true);
        assert_within(&cluster.until_equal(&[0, 2, 3], 10), 1.0);
        assert_within(&cluster.until_equal(&[1], 10), 1.0);
        let lost = cluster.counters(1).lost.iter();
        assert_eq!(lost.map(Counter::get).sum::<u64>(), 0);
    }
}

/// It does nothing at all, or looks at some messages every twenty seconds. That others hear as
/// quickly as before is so by construction here: tests with real servers show it.
#[test]
fn a_slow_node_is_dropped_and_reads_the_log_when_it_goes_on() {
    for takes_some in [false, true] {
        let conditions = Conditions {
            waiting_max: 150,
            ..Conditions::default()
        };
        let mut cluster = Cluster::new(Settings {
            conditions,
            ..with_history(true, 4)
        });
        cluster.pass(300);
        let reads: Vec<u64> = (0..3)
            .map(|it| cluster.counters(it).log_reads.get())
            .collect();
        cluster.shunned = vec![3];
        let endpoint = cluster.node(3).engine.bus_mut().number();
        let mut ticks = 0_u32;
        while ticks < 90 * 20 {
            cluster.tick_with(&[3]);
            ticks += 1;
            if takes_some && ticks.is_multiple_of(400) {
                let now = cluster.now;
                cluster.node(3).run_slowly(now);
            }
            if ticks.is_multiple_of(19) {
                for number in 0..3 {
                    let figures = cluster.compare(number, SECOND / 4);
                    assert_eq!((figures.missing, figures.left, figures.mistaken), (0, 0, 0));
                }
            }
        }
        assert!(cluster.network.was_slow(endpoint));
        assert!(cluster.compare(3, 2 * SECOND).missing > 5);
        cluster.shunned.clear();
        assert_within(&cluster.until_equal(&[3], 12), 10.0);
        for (number, reads) in reads.into_iter().enumerate() {
            let endpoint = cluster.node(number).engine.bus_mut().number();
            assert!(!cluster.network.was_slow(endpoint));
            let counters = cluster.counters(number);
            assert_eq!(counters.missed.get() + counters.overrun.get(), 0);
            assert_eq!(counters.log_reads.get(), reads, "nothing was missed");
        }
    }
}

/// Somebody deletes it, or the servers lose what they had. Who starts then does not find everybody.
#[test]
fn nobody_is_complete_by_a_log_that_was_lost() {
    let mut cluster = Cluster::new(with_history(true, 4));
    assert_within(&cluster.until_complete(&[0, 1, 2, 3], 5), 2.0);
    cluster.pass(900);
    cluster.network.lose_log();
    cluster.pass(60);
    cluster.stop(3);
    cluster.start(3);
    cluster.pass(30);
    assert!(!cluster.counters(3).is_complete());
    assert!(cluster.compare(3, 2 * SECOND).missing > 20);
    let took = cluster.until_complete(&[3], REPAIRED_SECONDS);
    #[expect(clippy::cast_precision_loss, reason = "minutes")]
    assert_within(&took, REPAIRED_SECONDS as f64);
    cluster.pass(REPAIRED_SECONDS);
    assert!(cluster.counters(3).is_complete());
    let figures = cluster.compare(3, 2 * SECOND);
    assert_eq!((figures.missing, figures.missing_at_home), (0, 0));
    // By then it is as good as the first one.
    cluster.stop(2);
    cluster.start(2);
    assert_within(&cluster.until_complete(&[2], 5), 0.5);
    assert!(cluster.counters(2).is_complete());
}

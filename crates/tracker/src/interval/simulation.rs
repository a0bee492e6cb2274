//! What becomes of many clients that do what they are told: second by second, for hours, with the
//! controller and the intervals that a tracker uses.
//!
//! The figures of the decision page come from here:
//! `cargo nextest run -p aquatic_tracker interval::simulation --no-capture`.

use super::controller::{BUSY_WANTED, Clients, Controller, Observation};
use super::{AnnounceIntervals, IntervalConfig, Stretch};
use crate::metrics::approximate;

/// `peer_announce_interval`.
const BASE: u32 = 900;

/// After so many seconds a client tries again that got no answer; each time after twice as many
/// (BEP 15).
const RETRY: usize = 15;

/// How often it does so at most.
const RETRIES_MAX: u8 = 8;

/// A tracker with room for so many announces per second, and its clients.
struct World {
    capacity: usize,
    config: IntervalConfig,
    intervals: AnnounceIntervals,
    stretch: Stretch,
    controller: Controller,
    /// The clients that announce in each second to come: how often they have tried in vain.
    due: Vec<Vec<u8>>,
    now: usize,
    factor: f64,
    rng: fastrand::Rng,
    past: Vec<Second>,
}

/// What happened in a second that has gone by.
#[derive(Clone, Copy)]
struct Second {
    served: usize,
    lost: usize,
    factor: f64,
}

/// What was seen in some time.
#[derive(Debug)]
struct Look {
    /// Announces, as a share of what there is room for.
    load: f64,
    lost_share: f64,
    factor: f64,
    factor_min: f64,
    factor_max: f64,
    /// The most announces in a second.
    peak: usize,
    per_second: f64,
}

impl World {
    fn new(capacity: usize, spread: u32, max: u32) -> Self {
        let config = IntervalConfig {
            announce_interval_spread: spread,
            announce_interval_max: max,
        };
        let stretch = Stretch::default();
        Self {
            capacity,
            intervals: AnnounceIntervals::new("udp", BASE, &config, &stretch, 0),
            config,
            stretch,
            controller: Controller::default(),
            due: vec![Vec::new(); 100_000],
            now: 0,
            factor: 1.0,
            rng: fastrand::Rng::with_seed(1),
            past: Vec::new(),
        }
    }

    /// Clients come, spread over some seconds.
    fn join(&mut self, clients: usize, seconds: usize) {
        (0..clients).for_each(|it| self.due[self.now + it % seconds].push(0));
    }

    fn second(&mut self) {
        let mut asking = std::mem::take(&mut self.due[self.now]);
        self.rng.shuffle(&mut asking);
        let served = asking.len().min(self.capacity);
        let lost = asking.len() - served;
        self.intervals.refresh();
        for _ in 0..served {
            let told = self.intervals.draw();
            assert!((BASE..=self.config.longest_seconds(BASE)).contains(&told));
            self.due[self.now + told as usize].push(0);
        }
        for tries in &asking[served..] {
            let tries = (*tries).min(RETRIES_MAX);
            self.due[self.now + (RETRY << tries)].push(tries + 1);
        }
        self.past.push(Second {
            served,
            lost,
            factor: self.factor,
        });
        let [(_, bounds)] = self.stretch.bounds()[..] else {
            panic!("one protocol");
        };
        self.factor = self.controller.step(Observation {
            seconds: 1.0,
            busy_share: share(served, self.capacity),
            lost_share: share(lost, asking.len()),
            clients: &[Clients {
                base_seconds: bounds.base_seconds_average(),
                factor_max: bounds.factor_max(),
                announces: number(served),
            }],
        });
        self.stretch.set(self.factor);
        self.now += 1;
    }

    /// Lets a base interval go by.
    fn interval(&mut self) -> Look {
        (0..BASE).for_each(|_| self.second());
        let past = &self.past[self.past.len() - BASE as usize..];
        let sum = |value: fn(&Second) -> usize| past.iter().map(value).sum::<usize>();
        let (served, lost) = (sum(|it| it.served), sum(|it| it.lost));
        let factors = || past.iter().map(|it| it.factor);
        Look {
            load: share(served, self.capacity.saturating_mul(past.len())),
            lost_share: share(lost, served + lost),
            factor: factors().sum::<f64>() / number(past.len()),
            factor_min: factors().fold(f64::MAX, f64::min),
            factor_max: factors().fold(0.0, f64::max),
            peak: past.iter().map(|it| it.served).max().unwrap_or_default(),
            per_second: number(served) / number(past.len()),
        }
    }
}

fn share(part: usize, all: usize) -> f64 {
    number(part) / number(all.max(1))
}

fn number(count: usize) -> f64 {
    approximate(u64::try_from(count).unwrap())
}

/// Twice as many clients as the tracker can serve, for 24 intervals.
fn twice_the_load(spread: u32, max: u32) -> Vec<Look> {
    let mut world = World::new(100, spread, max);
    world.join(2 * 100 * BASE as usize, BASE as usize);
    let looks: Vec<_> = (0..24).map(|_| world.interval()).collect();
    for number in [0, 1, 2, 3, 4, 5, 6, 8, 12, 16, 20, 23] {
        let it = &looks[number];
        println!(
            "| {max} | {spread} % | {} | {:.0} % | {:.1} % | {:.2} ({:.2} to {:.2}) |",
            number + 1,
            it.load * 100.0,
            it.lost_share * 100.0,
            it.factor,
            it.factor_min,
            it.factor_max
        );
    }
    looks
}

#[test]
fn twice_the_load_is_brought_down_and_stays_down() {
    println!("| longest | spread | interval | load | lost | factor |");
    println!("|---|---|---|---|---|---|");
    for look in &twice_the_load(0, 0)[16..] {
        assert!(look.lost_share > 0.3, "the clients are too few: {look:?}");
    }
    // Enough for 80 %, which is more than what is wanted.
    for look in &twice_the_load(0, 2_250)[12..] {
        assert!(look.lost_share < 0.01, "{look:?}");
        assert!((look.factor - 2.5).abs() < 0.05, "{look:?}");
    }
    for spread in [0, 10] {
        for look in &twice_the_load(spread, 3_600)[10..] {
            assert!(look.lost_share < 0.01, "{look:?}");
            assert!((look.load - BUSY_WANTED).abs() < 0.12, "{look:?}");
            let swing = look.factor_max / look.factor_min;
            assert!(swing < 1.15, "it swings: {look:?}");
        }
    }
}

#[test]
fn when_clients_leave_intervals_become_as_short_as_before() {
    let mut world = World::new(100, 10, 3_600);
    world.join(2 * 100 * BASE as usize, BASE as usize);
    (0..16).for_each(|_| {
        world.interval();
    });
    assert!(world.factor > 2.0, "{}", world.factor);
    // Three of four do not come back.
    let now = world.now;
    for due in &mut world.due[now..] {
        due.truncate(due.len() / 4);
    }
    let looks: Vec<_> = (0..16).map(|_| world.interval()).collect();
    let last = &looks[15];
    assert!(
        last.factor < 1.05 && last.lost_share < 0.001 && last.load > 0.4,
        "{last:?}"
    );
}

/// 90,000 clients come within a minute, as after a restart: by interval, the most announces in a
/// second, as a multiple of the average.
fn waves(spread: u32) -> Vec<f64> {
    let mut world = World::new(usize::MAX, spread, 0);
    world.join(90_000, 60);
    (0..32)
        .map(|_| {
            let look = world.interval();
            number(look.peak) / look.per_second
        })
        .collect()
}

#[test]
fn with_a_spread_clients_that_came_at_once_do_not_come_at_once_for_ever() {
    println!("| spread | interval 1 | 2 | 4 | 8 | 16 | 32 |");
    println!("|---|---|---|---|---|---|---|");
    let by_spread = [0, 5, 10, 20, 50].map(|spread| {
        let waves = waves(spread);
        let row = [1, 2, 4, 8, 16, 32].map(|it| format!("{:.1}", waves[it - 1]));
        println!("| {spread} % | {} |", row.join(" | "));
        waves
    });
    let [none, _, ten, twenty, _] = &by_spread;
    assert!(none.iter().all(|it| (14.9..15.1).contains(it)), "{none:?}");
    assert!(ten[7] < 7.5 && ten[31] < 4.0, "{ten:?}");
    assert!(twenty[31] < 2.0, "{twenty:?}");
}

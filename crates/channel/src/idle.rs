//! When to pause and when to sleep.

use std::mem;
use std::thread;
use std::time::Duration;

use crate::trial::{Mode, Trial};

/// What a worker that has nothing to do should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Pause for this short time, deaf to everything, and look again: work comes so fast that a
    /// batch of it will be there.
    Coalesce(Duration),
    /// Sleep until woken.
    Sleep,
}

impl Wait {
    /// Pauses, if that is to be done and nothing is pending: nothing ends a pause, and others would
    /// wait for this worker meanwhile. Returns for how long to sleep then, until woken: not at all,
    /// or `timeout`.
    #[must_use]
    pub fn coalesce(self, timeout: Duration, has_pending: impl FnOnce() -> bool) -> Duration {
        match self {
            Self::Sleep => return timeout,
            Self::Coalesce(_) if has_pending() => {}
            Self::Coalesce(time) => thread::sleep(time),
        }
        Duration::ZERO
    }
}

/// Decides how a worker waits, from how fast work has been coming.
///
/// A wake-up costs the gate more than a request does, so at a moderate load a tracker that
/// wakes for each packet spends most of its time on waking. Pausing for a short time costs one
/// timer, however many packets arrive meanwhile. It pays as soon as at least
/// [two](Self::WORTHWHILE) are to be expected; below that, and in an idle process, the worker
/// sleeps for real.
///
/// But a pause helps only if what arrives does not depend on it. Clients that send their next
/// request when they have been answered (a load tester, a proxy with few connections) wait for the
/// worker while it pauses, and all lose. The idle tells by trying: now and then it lets the worker
/// go without pausing for some milliseconds, and if clearly more arrives then, it stays with that,
/// and tries pausing from time to time.
///
/// Pure: the time comes in as microseconds of any monotonic clock.
#[derive(Clone, Debug)]
pub struct IdleStrategy {
    pause_micros_max: u64,
    /// Smoothed time between two arrivals, in 1/16 µs.
    gap_sixteenths: u64,
    last_micros: u64,
    /// Since then.
    arrivals: usize,
    trial: Trial,
}

impl IdleStrategy {
    /// A pause must promise this many arrivals.
    pub const WORTHWHILE: u64 = 2;

    /// No gap is taken to be longer than this, so that a busy spell is noticed soon after a lull.
    const GAP_MICROS_MAX: u64 = 10_000;

    /// A pause need not gather more than this many: it would save nothing worth mentioning.
    const ENOUGH: u64 = 16;

    /// But no pause is shorter than this, unless the caller allows no more.
    const PAUSE_MICROS_MIN: u64 = 200;

    /// `pause_max` is the time that a worker may be deaf: it is added to the latency of a request.
    #[must_use]
    pub fn new(pause_max: Duration) -> Self {
        Self {
            pause_micros_max: u64::try_from(pause_max.as_micros()).unwrap_or(u64::MAX),
            gap_sixteenths: Self::GAP_MICROS_MAX * 16,
            last_micros: 0,
            arrivals: 0,
            trial: Trial::new(),
        }
    }

    /// Whether the next [decision](Self::decide) may well be a pause. Before it the worker must
    /// have looked for work in vain: nothing may wait for a worker that pauses.
    #[must_use]
    pub fn coalesces(&self) -> bool {
        self.trial.mode() == Mode::Coalescing && self.is_worthwhile()
    }

    /// So many requests have come. All have to be noted, also those of full batches after which
    /// there is no reason to wait.
    pub fn note(&mut self, arrivals: usize) {
        self.arrivals = self.arrivals.saturating_add(arrivals);
    }

    /// To be called when there is nothing left to do: how to wait.
    pub fn decide(&mut self, now_micros: u64) -> Wait {
        let arrivals = mem::take(&mut self.arrivals);
        let elapsed = now_micros.saturating_sub(self.last_micros);
        self.last_micros = now_micros;
        let arrivals = u64::try_from(arrivals).unwrap_or(u64::MAX);
        let sample = (elapsed.saturating_mul(16) / arrivals.max(1)).min(Self::GAP_MICROS_MAX * 16);
        // An empty pause is believed at once; otherwise the newest sample weighs a quarter.
        self.gap_sixteenths = if arrivals == 0 && elapsed >= self.pause_micros(0) {
            let empty_pause = self.pause_micros_max.saturating_mul(16);
            self.gap_sixteenths.max(sample).max(empty_pause)
        } else if arrivals == 0 {
            self.gap_sixteenths.max(sample)
        } else {
            (self.gap_sixteenths * 3 + sample) / 4
        };
        self.trial.count(now_micros, arrivals);
        if self.coalesces() {
            let enough_micros = self.gap_sixteenths.saturating_mul(Self::ENOUGH) / 16;
            Wait::Coalesce(Duration::from_micros(self.pause_micros(enough_micros)))
        } else {
            Wait::Sleep
        }
    }

    /// A pause of about this length.
    fn pause_micros(&self, micros: u64) -> u64 {
        micros
            .max(Self::PAUSE_MICROS_MIN)
            .min(self.pause_micros_max)
    }

    fn is_worthwhile(&self) -> bool {
        self.pause_micros_max > 0
            && self.gap_sixteenths * Self::WORTHWHILE <= self.pause_micros_max.saturating_mul(16)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_micros(500);

    fn wait(idle: &mut IdleStrategy, now: u64, arrivals: usize) -> Wait {
        idle.note(arrivals);
        idle.decide(now)
    }

    /// Where requests come from.
    trait Clients {
        /// How many have come by `now` that had not been handed out.
        fn arrived(&mut self, now: u64) -> u64;
        /// When the next comes, if that is known.
        fn next(&self) -> u64;
        /// So many have been answered.
        fn answered(&mut self, now: u64, count: u64);
    }

    /// One every `gap_micros`, whatever the tracker does.
    struct Open {
        gap_micros: f64,
        handed_out: u64,
        /// The gaps vary: a seed for that.
        jitter: u64,
    }

    impl Open {
        fn every(gap_micros: f64) -> Self {
            Self {
                gap_micros,
                handed_out: 0,
                jitter: 0x9e37_79b9,
            }
        }
    }

    impl Clients for Open {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a model"
        )]
        #[expect(clippy::cast_precision_loss, reason = "a model")]
        fn arrived(&mut self, now: u64) -> u64 {
            // Up to three early or late.
            self.jitter = self
                .jitter
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let due = (now as f64 / self.gap_micros) as u64 + (self.jitter >> 62);
            let new = due.saturating_sub(self.handed_out);
            self.handed_out += new;
            new
        }

        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a model"
        )]
        #[expect(clippy::cast_precision_loss, reason = "a model")]
        fn next(&self) -> u64 {
            ((self.handed_out + 1) as f64 * self.gap_micros).ceil() as u64
        }

        fn answered(&mut self, _now: u64, _count: u64) {}
    }

    /// `window` clients, each of which asks again `trip_micros` after its answer.
    struct Closed {
        trip_micros: u64,
        coming: std::collections::VecDeque<(u64, u64)>,
    }

    impl Closed {
        fn new(window: u64, trip_micros: u64) -> Self {
            Self {
                trip_micros,
                coming: [(0, window)].into(),
            }
        }
    }

    impl Clients for Closed {
        fn arrived(&mut self, now: u64) -> u64 {
            let mut count = 0;
            while let Some((at, some)) = self.coming.front()
                && *at <= now
            {
                count += some;
                self.coming.pop_front();
            }
            count
        }

        fn next(&self) -> u64 {
            self.coming.front().map_or(u64::MAX, |(at, _)| *at)
        }

        fn answered(&mut self, now: u64, count: u64) {
            self.coming.push_back((now + self.trip_micros, count));
        }
    }

    /// A worker that takes `MICROS_PER_REQUEST` for each request.
    struct Worker {
        idle: IdleStrategy,
        now: u64,
    }

    /// What a worker did.
    #[derive(Default)]
    struct Done {
        answers: u64,
        /// Of these, to requests that a pause has gathered.
        after_pauses: u64,
    }

    impl Done {
        /// The share of requests that pauses have gathered, in per cent.
        fn pause_share(&self) -> u64 {
            self.after_pauses * 100 / self.answers.max(1)
        }
    }

    impl Worker {
        const MICROS_PER_REQUEST: u64 = 4;
        const BATCH: u64 = 64;

        fn new() -> Self {
            Self {
                idle: IdleStrategy::new(PAUSE),
                now: 0,
            }
        }

        fn run(&mut self, clients: &mut impl Clients, micros: u64) -> Done {
            let (until, mut done) = (self.now + micros, Done::default());
            let (mut arrivals, mut waiting, mut has_paused) = (0, 0, false);
            while self.now < until {
                waiting += clients.arrived(self.now);
                let batch = waiting.min(Self::BATCH);
                waiting -= batch;
                self.now += batch * Self::MICROS_PER_REQUEST;
                clients.answered(self.now, batch);
                arrivals += usize::try_from(batch).unwrap();
                done.answers += batch;
                done.after_pauses += if has_paused { batch } else { 0 };
                if batch == Self::BATCH || (self.idle.coalesces() && batch > 0) {
                    continue;
                }
                match wait(&mut self.idle, self.now, mem::take(&mut arrivals)) {
                    Wait::Coalesce(time) => {
                        assert_eq!(waiting, 0, "pauses while requests wait");
                        has_paused = true;
                        self.now += u64::try_from(time.as_micros()).unwrap();
                    }
                    Wait::Sleep => {
                        has_paused = false;
                        self.now = clients.next().max(self.now + 1).min(until);
                    }
                }
            }
            done
        }
    }

    const SECOND: u64 = 1_000_000;

    #[test]
    fn pauses_under_a_load_that_does_not_depend_on_it_and_sleeps_when_idle() {
        for (gap_micros, pause_share) in [
            (5.0, 90..=100),
            (16.7, 90..=100),
            (50.0, 90..=100),
            (100.0, 90..=100),
            (1_000.0, 0..=5),
            (100_000.0, 0..=1),
        ] {
            let done = Worker::new().run(&mut Open::every(gap_micros), 5 * SECOND);
            let share = done.pause_share();
            assert!(pause_share.contains(&share), "{gap_micros} µs: {share}");
        }
    }

    #[test]
    fn does_not_pause_while_clients_wait_for_answers() {
        for window in [1, 2, 8, 32, 64, 100, 256, 1_024] {
            for trip_micros in [5, 20, 50] {
                let mut clients = Closed::new(window, trip_micros);
                let with_strategy = Worker::new().run(&mut clients, 2 * SECOND).answers;
                let mut worker = Worker::new();
                worker.idle = IdleStrategy::new(Duration::ZERO);
                let mut clients = Closed::new(window, trip_micros);
                let never_pausing = worker.run(&mut clients, 2 * SECOND).answers;
                assert!(
                    with_strategy * 100 >= never_pausing * 97,
                    "window {window}, {trip_micros} µs: {with_strategy}, {never_pausing}"
                );
            }
        }
    }

    #[test]
    fn a_change_of_load_is_followed_within_some_milliseconds() {
        let mut worker = Worker::new();
        for _ in 0..3 {
            let start = worker.now;
            let mut open = Open::every(16.7);
            open.arrived(start);
            worker.run(&mut open, 60_000);
            let done = worker.run(&mut open, 200_000);
            assert!(done.pause_share() > 80, "open: {}", done.pause_share());

            worker.run(&mut Closed::new(256, 20), 25_000);
            let done = worker.run(&mut Closed::new(256, 20), 200_000);
            let busy = done.answers * Worker::MICROS_PER_REQUEST;
            assert!(busy > 170_000, "closed: {busy} µs of work in 200,000");

            let mut quiet = Open::every(20_000.0);
            quiet.arrived(worker.now);
            worker.run(&mut quiet, 60_000);
            let done = worker.run(&mut quiet, SECOND);
            assert!(done.pause_share() < 5, "idle: {}", done.pause_share());
        }
    }

    #[test]
    fn wakes_up_to_a_busy_spell_within_a_few_arrivals() {
        let mut idle = IdleStrategy::new(PAUSE);
        assert_eq!(wait(&mut idle, 60_000_000, 1), Wait::Sleep);
        let mut now = 60_000_000;
        let calls = (1..100)
            .find(|_| {
                now += 20;
                wait(&mut idle, now, 1) != Wait::Sleep
            })
            .unwrap();
        assert!(calls <= 20, "{calls}");
    }

    #[test]
    fn one_empty_pause_is_enough_to_sleep() {
        let mut idle = IdleStrategy::new(PAUSE);
        let mut now = 0;
        for _ in 0..100 {
            now += 200;
            wait(&mut idle, now, 50);
        }
        now += 200;
        while wait(&mut idle, now, 50) == Wait::Sleep {
            now += 200; // A trial.
        }
        assert_eq!(wait(&mut idle, now + 200, 0), Wait::Sleep);
    }

    #[test]
    fn pauses_for_longer_when_less_comes() {
        for (gap_micros, pause_micros) in [(1, 200), (12, 200), (20, 320), (100, 500), (240, 500)] {
            let mut idle = IdleStrategy::new(PAUSE);
            let (mut now, mut pause) = (0, None);
            for _ in 0..500 {
                now += 10 * gap_micros;
                if let Wait::Coalesce(time) = wait(&mut idle, now, 10) {
                    pause = Some(time);
                }
            }
            let micros = pause.expect("a pause").as_micros();
            // Within what is lost in rounding.
            assert!(micros.abs_diff(pause_micros) <= 5, "{gap_micros}: {micros}");
        }
    }

    #[test]
    fn sleeps_where_a_pause_would_gather_fewer_than_two() {
        for (pause_micros, gap_micros) in [(500, 260), (500, 499), (2_000, 1_500), (18_000, 9_500)]
        {
            let mut idle = IdleStrategy::new(Duration::from_micros(pause_micros));
            for call in 1..500 {
                let wait = wait(&mut idle, call * gap_micros, 1);
                assert_eq!(wait, Wait::Sleep, "{gap_micros} µs apart");
            }
        }
    }

    #[test]
    fn no_pause_is_an_option() {
        let mut idle = IdleStrategy::new(Duration::ZERO);
        for now in 0..100 {
            assert_eq!(wait(&mut idle, now, 1_000), Wait::Sleep);
        }
    }

    #[test]
    fn what_came_in_several_rounds_counts_together() {
        let (mut one, mut other) = (IdleStrategy::new(PAUSE), IdleStrategy::new(PAUSE));
        for round in 1..200 {
            one.note(3);
            one.note(4);
            other.note(7);
            assert_eq!(one.decide(round * 100), other.decide(round * 100));
        }
        assert!(one.coalesces(), "seven in 100 µs are worth a pause");
    }

    #[test]
    fn a_pause_is_not_made_while_something_waits() {
        const LONG: Duration = Duration::from_secs(60);
        let (pause, sleep) = (Wait::Coalesce(LONG), Wait::Sleep);
        assert_eq!(pause.coalesce(LONG, || true), Duration::ZERO);
        assert_eq!(
            sleep.coalesce(LONG, || true),
            LONG,
            "looked at again before that"
        );
        let short = Wait::Coalesce(Duration::from_micros(1));
        assert_eq!(short.coalesce(LONG, || false), Duration::ZERO);
    }
}

//! When to doze and when to sleep.

use std::time::Duration;

use crate::trial::{Mode, Trial};

/// What a worker that has nothing to do should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Sleep for this short time, deaf to everything, and look again: work comes so fast that a
    /// batch of it will be there.
    Doze(Duration),
    /// Sleep until woken.
    Sleep,
}

/// Decides how a worker waits, from how fast work has been coming.
///
/// A wake-up costs the sleeper more than a request does, so at a moderate load a tracker that
/// wakes for each packet spends most of its time on waking. Dozing for a short time costs one
/// timer, however many packets arrive meanwhile. It pays as soon as at least
/// [two](Self::WORTHWHILE) are to be expected; below that, and in an idle process, the worker
/// sleeps for real.
///
/// But a doze helps only if what arrives does not depend on it. Clients that send their next
/// request when they have been answered (a load tester, a proxy with few connections) wait for the
/// worker while it dozes, and all lose. The pacer tells by trying: now and then it lets the worker
/// go without dozing for some milliseconds, and if clearly more arrives then, it stays with that,
/// and tries dozing from time to time.
///
/// Pure: the time comes in as microseconds of any monotonic clock.
#[derive(Clone, Debug)]
pub struct Pacer {
    doze_micros_max: u64,
    /// Smoothed time between two arrivals, in 1/16 µs.
    gap_sixteenths: u64,
    last_micros: u64,
    trial: Trial,
}

impl Pacer {
    /// A doze must promise this many arrivals.
    pub const WORTHWHILE: u64 = 2;

    /// No gap is taken to be longer than this, so that a busy spell is noticed soon after a lull.
    const GAP_MICROS_MAX: u64 = 10_000;

    /// A doze need not gather more than this many: it would save nothing worth mentioning.
    const ENOUGH: u64 = 16;

    /// But no doze is shorter than this, unless the caller allows no more.
    const DOZE_MICROS_MIN: u64 = 200;

    /// `doze_max` is the time that a worker may be deaf: it is added to the latency of a request.
    #[must_use]
    pub fn new(doze_max: Duration) -> Self {
        Self {
            doze_micros_max: u64::try_from(doze_max.as_micros()).unwrap_or(u64::MAX),
            gap_sixteenths: Self::GAP_MICROS_MAX * 16,
            last_micros: 0,
            trial: Trial::new(),
        }
    }

    /// Whether the next [`wait`](Self::wait) may well be a doze. Before it the worker must have
    /// looked for work in vain: nothing may wait for a worker that dozes.
    #[must_use]
    pub fn dozes(&self) -> bool {
        self.trial.mode() == Mode::Dozing && self.is_worthwhile()
    }

    /// To be called when there is nothing left to do: how to wait, given that `arrivals` requests
    /// have come since the last call. All have to be counted, also those of full batches after
    /// which there was no reason to wait.
    pub fn wait(&mut self, now_micros: u64, arrivals: usize) -> Wait {
        let elapsed = now_micros.saturating_sub(self.last_micros);
        self.last_micros = now_micros;
        let arrivals = u64::try_from(arrivals).unwrap_or(u64::MAX);
        let sample = (elapsed.saturating_mul(16) / arrivals.max(1)).min(Self::GAP_MICROS_MAX * 16);
        // An empty doze is believed at once; otherwise the newest sample weighs a quarter.
        self.gap_sixteenths = if arrivals == 0 && elapsed >= self.doze_micros(0) {
            let empty_doze = self.doze_micros_max.saturating_mul(16);
            self.gap_sixteenths.max(sample).max(empty_doze)
        } else if arrivals == 0 {
            self.gap_sixteenths.max(sample)
        } else {
            (self.gap_sixteenths * 3 + sample) / 4
        };
        self.trial.count(now_micros, arrivals);
        if self.dozes() {
            let enough_micros = self.gap_sixteenths.saturating_mul(Self::ENOUGH) / 16;
            Wait::Doze(Duration::from_micros(self.doze_micros(enough_micros)))
        } else {
            Wait::Sleep
        }
    }

    /// A doze of about this length.
    fn doze_micros(&self, micros: u64) -> u64 {
        micros.max(Self::DOZE_MICROS_MIN).min(self.doze_micros_max)
    }

    fn is_worthwhile(&self) -> bool {
        self.doze_micros_max > 0
            && self.gap_sixteenths * Self::WORTHWHILE <= self.doze_micros_max.saturating_mul(16)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const DOZE: Duration = Duration::from_micros(500);

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
        pacer: Pacer,
        now: u64,
    }

    /// What a worker did.
    #[derive(Default)]
    struct Done {
        answers: u64,
        /// Of these, to requests that a doze has gathered.
        after_dozes: u64,
    }

    impl Done {
        /// The share of requests that dozes have gathered, in per cent.
        fn doze_share(&self) -> u64 {
            self.after_dozes * 100 / self.answers.max(1)
        }
    }

    impl Worker {
        const MICROS_PER_REQUEST: u64 = 4;
        const BATCH: u64 = 64;

        fn new() -> Self {
            Self {
                pacer: Pacer::new(DOZE),
                now: 0,
            }
        }

        fn run(&mut self, clients: &mut impl Clients, micros: u64) -> Done {
            let (until, mut done) = (self.now + micros, Done::default());
            let (mut arrivals, mut waiting, mut has_dozed) = (0, 0, false);
            while self.now < until {
                waiting += clients.arrived(self.now);
                let batch = waiting.min(Self::BATCH);
                waiting -= batch;
                self.now += batch * Self::MICROS_PER_REQUEST;
                clients.answered(self.now, batch);
                arrivals += usize::try_from(batch).unwrap();
                done.answers += batch;
                done.after_dozes += if has_dozed { batch } else { 0 };
                if batch == Self::BATCH || (self.pacer.dozes() && batch > 0) {
                    continue;
                }
                match self.pacer.wait(self.now, std::mem::take(&mut arrivals)) {
                    Wait::Doze(time) => {
                        assert_eq!(waiting, 0, "dozes while requests wait");
                        has_dozed = true;
                        self.now += u64::try_from(time.as_micros()).unwrap();
                    }
                    Wait::Sleep => {
                        has_dozed = false;
                        self.now = clients.next().max(self.now + 1).min(until);
                    }
                }
            }
            done
        }
    }

    const SECOND: u64 = 1_000_000;

    #[test]
    fn dozes_under_a_load_that_does_not_depend_on_it_and_sleeps_when_idle() {
        for (gap_micros, doze_share) in [
            (5.0, 90..=100),
            (16.7, 90..=100),
            (50.0, 90..=100),
            (100.0, 90..=100),
            (1_000.0, 0..=5),
            (100_000.0, 0..=1),
        ] {
            let done = Worker::new().run(&mut Open::every(gap_micros), 5 * SECOND);
            let share = done.doze_share();
            assert!(doze_share.contains(&share), "{gap_micros} µs: {share}");
        }
    }

    #[test]
    fn does_not_doze_while_clients_wait_for_answers() {
        for window in [1, 2, 8, 32, 64, 100, 256, 1_024] {
            for trip_micros in [5, 20, 50] {
                let mut clients = Closed::new(window, trip_micros);
                let with_pacer = Worker::new().run(&mut clients, 2 * SECOND).answers;
                let mut worker = Worker::new();
                worker.pacer = Pacer::new(Duration::ZERO);
                let mut clients = Closed::new(window, trip_micros);
                let never_dozing = worker.run(&mut clients, 2 * SECOND).answers;
                assert!(
                    with_pacer * 100 >= never_dozing * 97,
                    "window {window}, {trip_micros} µs: {with_pacer}, {never_dozing}"
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
            assert!(done.doze_share() > 80, "open: {}", done.doze_share());

            worker.run(&mut Closed::new(256, 20), 25_000);
            let done = worker.run(&mut Closed::new(256, 20), 200_000);
            let busy = done.answers * Worker::MICROS_PER_REQUEST;
            assert!(busy > 170_000, "closed: {busy} µs of work in 200,000");

            let mut idle = Open::every(20_000.0);
            idle.arrived(worker.now);
            worker.run(&mut idle, 60_000);
            let done = worker.run(&mut idle, SECOND);
            assert!(done.doze_share() < 5, "idle: {}", done.doze_share());
        }
    }

    #[test]
    fn wakes_up_to_a_busy_spell_within_a_few_arrivals() {
        let mut pacer = Pacer::new(DOZE);
        assert_eq!(pacer.wait(60_000_000, 1), Wait::Sleep);
        let mut now = 60_000_000;
        let calls = (1..100)
            .find(|_| {
                now += 20;
                pacer.wait(now, 1) != Wait::Sleep
            })
            .unwrap();
        assert!(calls <= 20, "{calls}");
    }

    #[test]
    fn one_empty_doze_is_enough_to_sleep() {
        let mut pacer = Pacer::new(DOZE);
        let mut now = 0;
        for _ in 0..100 {
            now += 200;
            pacer.wait(now, 50);
        }
        now += 200;
        while pacer.wait(now, 50) == Wait::Sleep {
            now += 200; // A trial.
        }
        assert_eq!(pacer.wait(now + 200, 0), Wait::Sleep);
    }

    #[test]
    fn dozes_for_longer_when_less_comes() {
        for (gap_micros, doze_micros) in [(1, 200), (12, 200), (20, 320), (100, 500), (240, 500)] {
            let mut pacer = Pacer::new(DOZE);
            let (mut now, mut doze) = (0, None);
            for _ in 0..500 {
                now += 10 * gap_micros;
                if let Wait::Doze(time) = pacer.wait(now, 10) {
                    doze = Some(time);
                }
            }
            let micros = doze.expect("a doze").as_micros();
            // Within what is lost in rounding.
            assert!(micros.abs_diff(doze_micros) <= 5, "{gap_micros}: {micros}");
        }
    }

    #[test]
    fn sleeps_where_a_doze_would_gather_fewer_than_two() {
        for (doze_micros, gap_micros) in [(500, 260), (500, 499), (2_000, 1_500), (18_000, 9_500)] {
            let mut pacer = Pacer::new(Duration::from_micros(doze_micros));
            for call in 1..500 {
                let wait = pacer.wait(call * gap_micros, 1);
                assert_eq!(wait, Wait::Sleep, "{gap_micros} µs apart");
            }
        }
    }

    #[test]
    fn no_doze_is_an_option() {
        let mut pacer = Pacer::new(Duration::ZERO);
        for now in 0..100 {
            assert_eq!(pacer.wait(now, 1_000), Wait::Sleep);
        }
    }
}

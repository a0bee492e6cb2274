//! Finding out whether others wait for this worker.

/// What a worker does when it has nothing to do, in one period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It pauses, to gather a batch.
    Coalescing,
    /// It can be woken at any time.
    Awake,
}

impl Mode {
    fn other(self) -> Self {
        match self {
            Self::Coalescing => Self::Awake,
            Self::Awake => Self::Coalescing,
        }
    }
}

/// Compares how much work comes while the worker pauses with how much comes while it does not.
///
/// Clients that ask when they want to (an *open loop*) ask as often in either case, and pausing
/// saves the worker a wake-up for each of them. Clients that ask again when they have been answered
/// (a *closed loop*) ask less often while the worker pauses: it is what they wait for, and it
/// loses. The two cannot be told apart by looking at a pause alone. So time is cut into periods,
/// and from time to time one is spent in the other mode. The more often that has confirmed the
/// choice, the longer it is relied upon; when the rate changes, the choice is looked at again at
/// once.
#[derive(Clone, Debug)]
pub(crate) struct Trial {
    /// What has been found to be better.
    chosen: Mode,
    /// Whether this period is spent in the other mode.
    on_trial: bool,
    started_micros: u64,
    arrivals: u64,
    /// Arrivals per second in the last period of the chosen mode.
    rate: Option<u64>,
    /// The same when the choice was last confirmed.
    confirmed_rate: u64,
    /// Periods until the next trial.
    rest: u32,
    /// How many they are in all.
    term: u32,
}

impl Trial {
    /// A period has at least so many arrivals that its rate can be compared, and lasts long enough
    /// to hold some pauses; but if little happens it ends nevertheless.
    const ARRIVALS_MIN: u64 = 512;
    const MICROS_MIN: u64 = 4_000;
    const MICROS_MAX: u64 = 25_000;

    /// With fewer arrivals than this, a period proves nothing.
    const ARRIVALS_TELLING: u64 = 16;

    const TERM_MIN: u32 = 8;
    const TERM_MAX: u32 = 128;

    /// Pausing is harmful if without it more arrives, by more than 1/8.
    const HARM_DIVISOR: u64 = 8;

    pub(crate) fn new() -> Self {
        Self {
            chosen: Mode::Coalescing,
            on_trial: false,
            started_micros: 0,
            arrivals: 0,
            rate: None,
            confirmed_rate: 0,
            rest: 0,
            term: Self::TERM_MIN,
        }
    }

    /// How to spend the present period.
    pub(crate) fn mode(&self) -> Mode {
        if self.on_trial {
            self.chosen.other()
        } else {
            self.chosen
        }
    }

    /// Takes note of what has arrived.
    pub(crate) fn count(&mut self, now_micros: u64, arrivals: u64) {
        self.arrivals = self.arrivals.saturating_add(arrivals);
        let elapsed = now_micros.saturating_sub(self.started_micros);
        let is_over = elapsed >= Self::MICROS_MAX
            || (elapsed >= Self::MICROS_MIN
                && (self.arrivals >= Self::ARRIVALS_MIN || self.is_hopeless(elapsed)));
        if !is_over {
            return;
        }
        if self.arrivals < Self::ARRIVALS_TELLING && !self.on_trial {
            *self = Self::new();
        } else {
            let rate = self.arrivals.saturating_mul(1_000_000) / elapsed.max(1);
            self.end_period(rate);
        }
        self.started_micros = now_micros;
        self.arrivals = 0;
    }

    /// Whether a trial of pausing brings less than half of what came before: it need not go on.
    fn is_hopeless(&self, elapsed_micros: u64) -> bool {
        let expected = self.rate.unwrap_or(0).saturating_mul(elapsed_micros) / 1_000_000;
        self.on_trial && self.chosen == Mode::Awake && self.arrivals < expected / 2
    }

    fn end_period(&mut self, rate: u64) {
        if self.on_trial {
            self.on_trial = false;
            self.judge(rate);
            return;
        }
        self.rate = Some(rate);
        let has_changed = rate > self.confirmed_rate.saturating_mul(3) / 2
            || rate < self.confirmed_rate.saturating_mul(2) / 3;
        if has_changed {
            self.term = Self::TERM_MIN;
        }
        if has_changed || self.rest == 0 {
            self.on_trial = true;
        } else {
            self.rest -= 1;
        }
    }

    /// Compares the rate of a trial with that of the period before.
    fn judge(&mut self, rate_of_other: u64) {
        let rate = self.rate.unwrap_or(0);
        let (pausing, awake) = match self.chosen {
            Mode::Coalescing => (rate, rate_of_other),
            Mode::Awake => (rate_of_other, rate),
        };
        let is_harmful = awake > pausing.saturating_add(pausing / Self::HARM_DIVISOR);
        let better = if is_harmful {
            Mode::Awake
        } else {
            Mode::Coalescing
        };
        if better == self.chosen {
            self.term = (self.term * 2).min(Self::TERM_MAX);
            self.confirmed_rate = rate;
        } else {
            self.chosen = better;
            self.term = Self::TERM_MIN;
            self.confirmed_rate = rate_of_other;
        }
        self.rest = self.term;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A trial whose first period begins.
    struct Periods {
        trial: Trial,
        now: u64,
    }

    impl Periods {
        fn new() -> Self {
            Self {
                trial: Trial::new(),
                now: 0,
            }
        }

        /// So many more arrive in so much more time. How the next moment is spent.
        fn pass(&mut self, micros: u64, arrivals: u64) -> Mode {
            self.now += micros;
            self.trial.count(self.now, arrivals);
            self.trial.mode()
        }

        /// Pausing has been found to do no harm, at 60,000 arrivals per second.
        fn pausing() -> Self {
            let mut periods = Self::new();
            assert_eq!(periods.pass(10_000, 600), Mode::Awake, "a trial");
            assert_eq!(periods.pass(10_000, 600), Mode::Coalescing);
            periods
        }

        /// Pausing has been found to be harmful; 100,000 per second arrive without it.
        fn awake() -> Self {
            let mut periods = Self::new();
            assert_eq!(periods.pass(10_000, 600), Mode::Awake, "a trial");
            assert_eq!(periods.pass(10_000, 1_000), Mode::Awake);
            assert!(!periods.trial.on_trial);
            periods
        }
    }

    #[test]
    fn a_period_ends_when_its_rate_can_be_compared() {
        let mut periods = Periods::new();
        assert_eq!(periods.pass(3_999, 100_000), Mode::Coalescing, "too short");
        assert_eq!(periods.pass(1, 0), Mode::Awake);

        let mut periods = Periods::new();
        assert_eq!(periods.pass(24_999, 511), Mode::Coalescing, "too few");
        assert_eq!(periods.pass(0, 1), Mode::Awake);
    }

    #[test]
    fn a_period_with_few_arrivals_ends_and_may_prove_nothing() {
        let mut periods = Periods::new();
        assert_eq!(periods.pass(24_999, 16), Mode::Coalescing);
        assert_eq!(periods.pass(1, 0), Mode::Awake);
        assert_eq!(Periods::new().pass(25_000, 15), Mode::Coalescing);
    }

    #[test]
    fn pausing_is_harmful_if_more_than_an_eighth_is_missing() {
        for (awake, better) in [(900, Mode::Coalescing), (901, Mode::Awake)] {
            let mut periods = Periods::new();
            periods.pass(10_000, 800);
            assert_eq!(periods.pass(10_000, awake), better, "{awake}");
            assert!(!periods.trial.on_trial);
        }
    }

    #[test]
    fn the_choice_is_looked_at_again_when_the_rate_changes() {
        for (micros, arrivals, changes) in [
            (10_000, 600, false),
            (10_000, 900, false),
            (10_000, 901, true),
            (25_000, 1_000, false),
            (25_000, 999, true),
        ] {
            let mut periods = Periods::pausing();
            periods.pass(micros, arrivals);
            assert_eq!(periods.trial.on_trial, changes, "{arrivals} in {micros} µs");
        }
    }

    #[test]
    fn what_has_been_confirmed_more_often_is_relied_upon_for_longer() {
        let mut periods = Periods::pausing();
        for term in [16, 32, 64, 128, 128] {
            let untried = (0..).find(|_| periods.pass(10_000, 600) == Mode::Awake);
            assert_eq!(untried, Some(term));
            assert_eq!(periods.pass(10_000, 600), Mode::Coalescing);
        }
    }

    #[test]
    fn a_trial_of_pausing_ends_early_if_less_than_half_arrives() {
        for (arrivals, goes_on) in [(199, false), (200, true)] {
            let mut periods = Periods::awake();
            while periods.pass(10_000, 1_000) == Mode::Awake {}
            periods.pass(4_000, arrivals);
            assert_eq!(periods.trial.on_trial, goes_on, "{arrivals}");
        }
    }

    #[test]
    fn nothing_else_ends_early() {
        let mut periods = Periods::awake();
        periods.pass(4_000, 16);
        assert_eq!(periods.trial.arrivals, 16, "of a period without a pause");

        let mut periods = Periods::new();
        assert_eq!(periods.pass(10_000, 1_000), Mode::Awake);
        assert_eq!(periods.pass(4_000, 16), Mode::Awake, "a trial of that");
    }
}

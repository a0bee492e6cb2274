//! Finding out whether others wait for this worker.

/// What a worker does when it has nothing to do, in one period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It dozes, to gather a batch.
    Dozing,
    /// It can be woken at any time.
    Awake,
}

impl Mode {
    fn other(self) -> Self {
        match self {
            Self::Dozing => Self::Awake,
            Self::Awake => Self::Dozing,
        }
    }
}

/// Compares how much work comes while the worker dozes with how much comes while it does not.
///
/// Clients that ask when they want to (an *open loop*) ask as often in either case, and dozing
/// saves the worker a wake-up for each of them. Clients that ask again when they have been answered
/// (a *closed loop*) ask less often while the worker dozes: it is what they wait for, and it loses.
/// The two cannot be told apart by looking at a doze alone. So time is cut into periods, and from
/// time to time one is spent in the other mode. The more often that has confirmed the choice, the
/// longer it is relied upon; when the rate changes, the choice is looked at again at once.
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
    /// to hold some dozes; but if little happens it ends nevertheless.
    const ARRIVALS_MIN: u64 = 512;
    const MICROS_MIN: u64 = 4_000;
    const MICROS_MAX: u64 = 25_000;

    /// With fewer arrivals than this, a period proves nothing.
    const ARRIVALS_TELLING: u64 = 16;

    const TERM_MIN: u32 = 8;
    const TERM_MAX: u32 = 128;

    /// Dozing is harmful if without it at least 1/8 more arrives.
    const HARM_DIVISOR: u64 = 8;

    pub(crate) fn new() -> Self {
        Self {
            chosen: Mode::Dozing,
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

    /// Whether a trial of dozing brings less than half of what came before: it need not go on.
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
        let (dozing, awake) = match self.chosen {
            Mode::Dozing => (rate, rate_of_other),
            Mode::Awake => (rate_of_other, rate),
        };
        let is_harmful = awake > dozing.saturating_add(dozing / Self::HARM_DIVISOR);
        let better = if is_harmful {
            Mode::Awake
        } else {
            Mode::Dozing
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

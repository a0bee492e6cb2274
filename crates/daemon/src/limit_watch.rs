//! Clients that are turned away at a limit, told in the log.
//!
//! Workers only count them. One thread looks at the counters every second, and warns of each limit
//! at most once a minute: so neither a busy worker nor the log is at the mercy of strangers.

use std::mem;
use std::time::Duration;

use crate::clock::Clock;
use crate::heartbeat;

/// How often counters are looked at: so late is the first warning.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Of each limit there is one warning in this time.
const QUIET: Duration = Duration::from_secs(60);

/// What an operator is told about a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitNote {
    /// What has been counted: `announces of new torrents refused`.
    pub what: String,
    /// Which key sets the limit, or what else can be done.
    pub advice: String,
}

impl LimitNote {
    /// Says so.
    pub fn new(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            advice: advice.into(),
        }
    }
}

/// The limits that are looked after.
#[derive(Default)]
pub struct LimitWatch {
    limits: Vec<Limit>,
    /// Others who look at counters, too.
    others: Vec<Box<dyn FnMut(Duration) + Send>>,
}

struct Limit {
    note: LimitNote,
    count: Box<dyn Fn() -> u64 + Send>,
    /// What was counted at the last warning.
    told: u64,
    quiet_until: Duration,
}

impl LimitWatch {
    /// Of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks after one more limit. `count` says how often it has been met since the start.
    pub fn add(&mut self, note: LimitNote, count: impl Fn() -> u64 + Send + 'static) {
        self.limits.push(Limit {
            note,
            count: Box::new(count),
            told: 0,
            quiet_until: Duration::ZERO,
        });
    }

    /// Has `look` called as often as limits are looked at, with the time since any beginning. It
    /// must not take long.
    pub fn also(&mut self, look: impl FnMut(Duration) + Send + 'static) {
        self.others.push(Box::new(look));
    }

    /// Warns of limits that have been met, for ever.
    pub fn run(mut self) -> ! {
        let clock = Clock::start();
        loop {
            heartbeat::sleep(LOOK_INTERVAL);
            let now = clock.elapsed();
            self.look(now, |warning| log::warn!("{warning}"));
            self.others.iter_mut().for_each(|look| look(now));
        }
    }

    /// Looks once. `now` is the time since any beginning.
    fn look(&mut self, now: Duration, mut warn: impl FnMut(String)) {
        for limit in &mut self.limits {
            let count = (limit.count)();
            if count == limit.told || now < limit.quiet_until {
                continue;
            }
            limit.quiet_until = now + QUIET;
            let before = mem::replace(&mut limit.told, count);
            let new = count.saturating_sub(before);
            let total = match before {
                0 => String::new(),
                _ => format!(" since the last warning, {count} since the start"),
            };
            let LimitNote { what, advice } = &limit.note;
            warn(format!("{what}: {new}{total}; {advice}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::counter::Counter;

    #[test]
    fn each_limit_is_told_once_a_minute_with_its_count() {
        let counters = [(); 2].map(|()| Arc::new(Counter::new()));
        let mut watch = LimitWatch::new();
        for (counter, what) in counters.iter().zip(["visitors", "guests"]) {
            let counter = Arc::clone(counter);
            let note = LimitNote::new(what, "see `house.size`");
            watch.add(note, move || counter.get());
        }
        let mut look = |seconds| {
            let mut warnings = Vec::new();
            let now = Duration::from_secs(seconds);
            watch.look(now, |warning| warnings.push(warning));
            warnings
        };
        let [visitors, guests] = &counters;
        assert!(look(1).is_empty());

        visitors.add(3);
        assert_eq!(look(2), ["visitors: 3; see `house.size`"]);
        visitors.add(4);
        guests.add(1);
        assert_eq!(look(3), ["guests: 1; see `house.size`"]);
        visitors.add(5);
        assert!(look(61).is_empty());
        let told = "visitors: 9 since the last warning, 12 since the start; see `house.size`";
        assert_eq!(look(62), [told]);
        assert!(look(1_000).is_empty(), "nothing has happened since");
    }
}

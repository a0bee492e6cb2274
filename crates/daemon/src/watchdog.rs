//! Notices threads that hang.
//!
//! A thread of its own looks at all [hearts](crate::heartbeat) about once a second. It tells
//! systemd that the daemon lives, as long as all beat (`WatchdogSec=`); and ends the process when
//! one has been silent for too long, so that the log has the name of that thread.
//!
//! What counts is the time in which the watchdog itself could run. A process that was stopped
//! (SIGSTOP), or a machine that was suspended or whose CPUs were taken away, has no thread that
//! hangs: whatever the time between two looks was, it counts as two intervals at most. The clock is
//! the monotonic one, so nobody can set it.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::clock::Clock;
use crate::heartbeat::{self, Heart, Sign};
use crate::systemd::Systemd;

/// Looks within the time after which a thread counts as hanging.
const LOOKS_PER_LIMIT: u32 = 8;

/// systemd is not told of life when a thread has been silent for this part of the limit. So its own
/// time begins before the limit is over, in case this thread cannot do what it should then.
const DOUBT_FRACTION: u32 = 4;

/// But a thread may always be silent for so long: some beat once in an [`heartbeat::INTERVAL`].
const SILENCE_MIN: Duration = Duration::from_secs(2);

/// What a look has found.
#[derive(Debug, Default, PartialEq, Eq)]
struct Findings {
    /// Threads that hang.
    hang: Vec<String>,
    /// Threads that have been waiting for something outside for a long time, each once.
    wait: Vec<String>,
    /// Some thread may hang.
    has_doubts: bool,
}

/// Looks after all threads for ever; calls `end` with the names of those that hang.
///
/// `limit` is how long a thread may be silent; zero: for ever. That is no concern of systemd then.
pub(crate) fn run(limit: Duration, systemd: &Systemd, mut end: impl FnMut(Vec<String>)) -> ! {
    let limit_or_max = match limit.is_zero() {
        true => Duration::MAX,
        false => limit,
    };
    let interval = [
        Some(heartbeat::INTERVAL),
        Some(limit_or_max / LOOKS_PER_LIMIT),
        systemd.watchdog().map(|time| time / 4),
    ];
    let interval = interval.into_iter().flatten().min().unwrap_or_default();
    let interval = interval.max(Duration::from_millis(10));
    let mut watch = Watch::new(limit_or_max, 2 * interval);
    let (clock, mut last) = (Clock::start(), Duration::ZERO);
    loop {
        heartbeat::beat();
        thread::sleep(interval);
        let now = clock.elapsed();
        let findings = watch.look(now.saturating_sub(last), &heartbeat::hearts());
        last = now;
        for name in findings.wait {
            log::warn!(
                "the thread {name} has been waiting for a file or a pipe for {limit:?}: it goes on \
                 when that does"
            );
        }
        if !findings.has_doubts {
            systemd.alive();
        }
        if !findings.hang.is_empty() {
            end(findings.hang);
        }
    }
}

/// What is remembered of hearts. Pure.
struct Watch {
    limit: Duration,
    doubt: Duration,
    /// The most that can pass between two looks.
    passed_max: Duration,
    /// By the name of the thread, which is unique.
    patients: HashMap<String, Patient>,
}

struct Patient {
    last: Sign,
    silent: Duration,
    is_told: bool,
}

impl Watch {
    fn new(limit: Duration, passed_max: Duration) -> Self {
        Self {
            limit,
            doubt: (limit / DOUBT_FRACTION).max(SILENCE_MIN),
            passed_max,
            patients: HashMap::new(),
        }
    }

    /// Looks at all hearts. `passed` is the time since the last look.
    fn look(&mut self, passed: Duration, hearts: &[Arc<Heart>]) -> Findings {
        let passed = passed.min(self.passed_max);
        let mut findings = Findings::default();
        for heart in hearts {
            let sign = heart.sign();
            let new = || Patient {
                last: sign,
                silent: Duration::ZERO,
                is_told: false,
            };
            // Since when a thread has been silent that is met for the first time, nobody knows.
            let Some(patient) = self.patients.get_mut(&heart.name) else {
                self.patients.insert(heart.name.clone(), new());
                continue;
            };
            if patient.last != sign {
                *patient = new();
                continue;
            }
            patient.silent = patient.silent.saturating_add(passed);
            let is_late = patient.silent >= self.limit;
            if !sign.is_outside {
                findings.has_doubts |= patient.silent >= self.doubt;
                if is_late {
                    findings.hang.push(heart.name.clone());
                }
            } else if is_late && !patient.is_told {
                patient.is_told = true;
                findings.wait.push(heart.name.clone());
            }
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn watch() -> Watch {
        Watch::new(12 * SECOND, 2 * SECOND)
    }

    #[test]
    fn who_is_silent_for_too_long_hangs() {
        let (lively, silent) = (Heart::new("lively".into()), Heart::new("silent".into()));
        let hearts = [Arc::clone(&lively), Arc::clone(&silent)];
        let mut watch = watch();
        for second in 0..12 {
            lively.beat();
            let findings = watch.look(SECOND, &hearts);
            assert_eq!(findings.hang, [""; 0], "{second}");
            assert_eq!(findings.has_doubts, second >= 3, "{second}");
        }
        lively.beat();
        assert_eq!(watch.look(SECOND, &hearts).hang, ["silent"]);
        lively.beat();
        silent.beat();
        assert_eq!(watch.look(SECOND, &hearts), Findings::default());
    }

    /// As after SIGSTOP and SIGCONT, or a night in which the machine was suspended.
    #[test]
    fn a_pause_of_the_whole_process_is_no_hang() {
        let heart = Heart::new("worker".into());
        let hearts = [Arc::clone(&heart)];
        let mut watch = watch();
        for _ in 0..100 {
            heart.beat();
            watch.look(SECOND, &hearts);
            let findings = watch.look(10_000 * SECOND, &hearts);
            assert_eq!(findings, Findings::default());
        }
    }

    #[test]
    fn who_waits_for_others_is_told_about_once_and_does_not_hang() {
        let heart = Heart::new("export".into());
        let hearts = [Arc::clone(&heart)];
        let mut watch = watch();
        heart.go_outside(true);
        let mut told = 0;
        for _ in 0..100 {
            let findings = watch.look(SECOND, &hearts);
            assert!(findings.hang.is_empty() && !findings.has_doubts);
            told += findings.wait.len();
        }
        assert_eq!(told, 1);
        heart.go_outside(false);
        for _ in 0..12 {
            watch.look(SECOND, &hearts);
        }
        assert_eq!(watch.look(SECOND, &hearts).hang, ["export"]);
    }
}

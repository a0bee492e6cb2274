//! What workers still do when the daemon has been told to stop.
//!
//! ```text
//!   SIGTERM ──▶ main thread: those that need longest begin ──▶ wakes them
//!                     │                              │ answers, last words
//!                     │ those that need less begin ◀─┘ finished
//!                     │
//!                     │ the longest time, or all have finished, or another SIGTERM
//!                     ▼
//!               those who have to write down what the others knew
//!                     │
//!                     │ LAST_MAX, or all have finished, or another SIGTERM
//!                     ▼
//!                  the end
//! ```
//!
//! A worker accepts nothing new once it has begun to finish. In a process that serves several
//! protocols, one that closes its connections over seconds begins first, so that the others serve
//! until it has finished.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long the end waits for those who have something to finish, if they do not ask for more.
/// Together with the time for the log ([`FLUSH_MAX`](crate::logging::FLUSH_MAX)), a stop takes less
/// than a second then, unless something is to be [written down](LAST_MAX).
pub const FINISH_MAX: Duration = Duration::from_millis(600);

/// How long the end waits for those who write down what must not be lost, and for all others before
/// them: less than the 90 seconds after which systemd kills.
pub const LAST_MAX: Duration = Duration::from_secs(80);

type Wake = Box<dyn Fn() + Send>;

/// What the main thread knows of those who have something to finish.
#[derive(Default)]
pub(crate) struct Finishing(Mutex<Vec<Member>>);

/// One of them.
struct Member {
    state: Arc<State>,
    time_max: Duration,
    wake: Wake,
}

#[derive(Debug, Default)]
struct State {
    is_stopping: AtomicBool,
    has_finished: AtomicBool,
}

impl State {
    fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    fn has_finished(&self) -> bool {
        self.has_finished.load(Ordering::Acquire)
    }
}

impl std::fmt::Debug for Finishing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Finishing").finish_non_exhaustive()
    }
}

impl Finishing {
    /// Tells those whose turn has come. To be called again and again from the beginning of the
    /// stop; `elapsed` is the time since then. Returns whether all have finished, or have had the
    /// time that they asked for.
    pub(crate) fn go_on(&self, elapsed: Duration) -> bool {
        let members = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let longest = |of: &dyn Fn(&&Member) -> bool| {
            let times = members.iter().filter(of).map(|member| member.time_max);
            times.max()
        };
        let all_max = longest(&|_| true).unwrap_or_default();
        let Some(unfinished_max) = longest(&|member| !member.state.has_finished()) else {
            return true;
        };
        for member in members.iter().filter(|it| !it.state.is_stopping()) {
            let is_first = member.time_max >= unfinished_max;
            if is_first || elapsed + member.time_max >= all_max {
                member.state.is_stopping.store(true, Ordering::Release);
                (member.wake)();
            }
        }
        elapsed >= all_max
    }

    /// Whether all have finished.
    pub(crate) fn is_over(&self) -> bool {
        let members = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        members.iter().all(|member| member.state.has_finished())
    }

    pub(crate) fn join(&self, time_max: Duration, wake: Wake) -> Finisher {
        let state = Arc::<State>::default();
        let mut members = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        members.push(Member {
            state: Arc::clone(&state),
            time_max,
            wake,
        });
        Finisher(state)
    }
}

/// Held by a worker that has something to finish before the process ends.
#[derive(Debug)]
pub struct Finisher(Arc<State>);

impl Finisher {
    /// Of a process that has been told to stop: for tests of workers.
    #[must_use]
    pub fn of_a_stop() -> Self {
        Self(Arc::new(State {
            is_stopping: AtomicBool::new(true),
            has_finished: AtomicBool::new(false),
        }))
    }

    /// Whether it is time. To be asked in each round of a loop: costs as much as reading a number.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.0.is_stopping()
    }

    /// There is nothing (more) to finish.
    pub fn finish(&mut self) {
        self.0.has_finished.store(true, Ordering::Release);
    }
}

impl Drop for Finisher {
    fn drop(&mut self) {
        self.finish();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    const SHORT: Duration = Duration::from_secs(1);
    const LONG: Duration = Duration::from_secs(5);

    #[test]
    fn all_are_woken_and_waited_for() {
        let finishing = Finishing::default();
        let woken = Arc::new(AtomicUsize::new(0));
        let join = || {
            let woken = Arc::clone(&woken);
            let wake = move || {
                woken.fetch_add(1, Ordering::Relaxed);
            };
            finishing.join(SHORT, Box::new(wake))
        };
        let (mut one, other) = (join(), join());
        assert!(!one.is_stopping());
        assert!(!finishing.go_on(Duration::ZERO));
        assert!(one.is_stopping() && other.is_stopping());
        one.finish();
        one.finish();
        assert!(!finishing.go_on(Duration::ZERO) && !finishing.is_over());
        assert_eq!(woken.load(Ordering::Relaxed), 2, "once each");
        drop(other);
        assert!(finishing.go_on(Duration::ZERO) && finishing.is_over());
    }

    #[test]
    fn nobody_gets_more_time_than_the_longest_that_was_asked_for() {
        let finishing = Finishing::default();
        let _short = finishing.join(SHORT, Box::new(|| ()));
        let _long = finishing.join(LONG, Box::new(|| ()));
        assert!(!finishing.go_on(LONG - Duration::from_millis(1)));
        assert!(finishing.go_on(LONG));
        assert!(!finishing.is_over());
    }

    #[test]
    fn whoever_needs_less_time_begins_when_the_others_have_finished() {
        let finishing = Finishing::default();
        let short = finishing.join(SHORT, Box::new(|| ()));
        let mut long = finishing.join(LONG, Box::new(|| ()));
        finishing.go_on(Duration::from_millis(3_999));
        assert!(long.is_stopping() && !short.is_stopping());
        long.finish();
        finishing.go_on(Duration::from_millis(3_999));
        assert!(short.is_stopping());
    }

    #[test]
    fn whoever_needs_less_time_begins_in_time() {
        let finishing = Finishing::default();
        let short = finishing.join(SHORT, Box::new(|| ()));
        let long = finishing.join(LONG, Box::new(|| ()));
        finishing.go_on(LONG - SHORT);
        assert!(long.is_stopping() && short.is_stopping());
    }
}

//! What workers still do when the daemon has been told to stop.
//!
//! ```text
//!   SIGTERM ──▶ main thread: is stopping ──▶ wakes those who have something to finish
//!                     │                              │ answers, last words
//!                     │ FINISH_MAX, or all have ◀────┘ finished
//!                     ▼
//!               those who have to write down what the others knew
//!                     │
//!                     │ LAST_MAX, or all have finished
//!                     ▼
//!                  the end
//! ```

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long the end waits for those who have something to finish. Together with the time for the
/// log ([`FLUSH_MAX`](crate::logging::FLUSH_MAX)), a stop takes less than a second, unless
/// something is to be [written down](LAST_MAX).
pub const FINISH_MAX: Duration = Duration::from_millis(600);

/// How long the end waits for those who write down what must not be lost: less than the 90 seconds
/// after which systemd kills.
pub const LAST_MAX: Duration = Duration::from_secs(80);

type Wake = Box<dyn Fn() + Send>;

/// What the main thread knows of those who have something to finish.
#[derive(Default)]
pub(crate) struct Finishing {
    is_stopping: AtomicBool,
    unfinished: AtomicUsize,
    wakes: Mutex<Vec<Wake>>,
}

impl std::fmt::Debug for Finishing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Finishing")
            .field("is_stopping", &self.is_stopping)
            .field("unfinished", &self.unfinished)
            .finish_non_exhaustive()
    }
}

impl Finishing {
    /// Says that it is time.
    pub(crate) fn begin(&self) {
        self.is_stopping.store(true, Ordering::Release);
        let wakes = self.wakes.lock().unwrap_or_else(PoisonError::into_inner);
        wakes.iter().for_each(|wake| wake());
    }

    /// Whether all have finished.
    pub(crate) fn is_over(&self) -> bool {
        self.unfinished.load(Ordering::Acquire) == 0
    }

    pub(crate) fn join(self: &Arc<Self>, wake: Wake) -> Finisher {
        self.unfinished.fetch_add(1, Ordering::AcqRel);
        let mut wakes = self.wakes.lock().unwrap_or_else(PoisonError::into_inner);
        wakes.push(wake);
        Finisher {
            finishing: Arc::clone(self),
            has_finished: false,
        }
    }
}

/// Held by a worker that has something to finish before the process ends.
#[derive(Debug)]
pub struct Finisher {
    finishing: Arc<Finishing>,
    has_finished: bool,
}

impl Finisher {
    /// Of a process that has been told to stop: for tests of workers.
    #[must_use]
    pub fn of_a_stop() -> Self {
        let finishing = Arc::new(Finishing::default());
        finishing.begin();
        finishing.join(Box::new(|| ()))
    }

    /// Whether it is time. To be asked in each round of a loop: costs as much as reading a number.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.finishing.is_stopping.load(Ordering::Acquire)
    }

    /// There is nothing (more) to finish.
    pub fn finish(&mut self) {
        if !std::mem::replace(&mut self.has_finished, true) {
            self.finishing.unfinished.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Drop for Finisher {
    fn drop(&mut self) {
        self.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_woken_and_waited_for() {
        let finishing = Arc::new(Finishing::default());
        let woken = Arc::new(AtomicUsize::new(0));
        let join = || {
            let woken = Arc::clone(&woken);
            finishing.join(Box::new(move || {
                woken.fetch_add(1, Ordering::Relaxed);
            }))
        };
        let (mut one, other) = (join(), join());
        assert!(!one.is_stopping());
        finishing.begin();
        assert!(one.is_stopping() && other.is_stopping());
        assert_eq!(woken.load(Ordering::Relaxed), 2);
        one.finish();
        one.finish();
        assert!(!finishing.is_over());
        drop(other);
        assert!(finishing.is_over());
    }
}

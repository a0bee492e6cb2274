//! Waking a worker that may be asleep, without a system call when it is not.

#[cfg(loom)]
use loom::sync::{
    Arc,
    atomic::{AtomicBool, Ordering, fence},
};
use std::fmt::{self, Debug, Formatter};
#[cfg(not(loom))]
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering, fence},
};
use std::time::Duration;

struct Shared {
    /// Set by the gate before it looks at its queues for the last time; taken back by whoever
    /// comes first: a ringer, or the gate itself when it is awake again.
    asleep: AtomicBool,
    wake: Box<dyn Fn() + Send + Sync>,
}

/// Makes a waker, and the gate before the sleep that it ends. `wake` must end the sleep of the
/// worker that holds the [`SleepGate`], also when it is called just before that sleep begins:
/// unparking a thread and writing to an eventfd are both of this kind.
pub fn waker_pair(wake: impl Fn() + Send + Sync + 'static) -> (SleepGate, Waker) {
    let shared = Arc::new(Shared {
        asleep: AtomicBool::new(false),
        wake: Box::new(wake),
    });
    (
        SleepGate {
            shared: Arc::clone(&shared),
        },
        Waker { shared },
    )
}

/// What a worker passes on its way to sleep, so that its [`Waker`] knows.
pub struct SleepGate {
    shared: Arc<Shared>,
}

impl SleepGate {
    /// Says that this worker is about to sleep; until what is returned is dropped, [`Waker::wake`]
    /// wakes it.
    ///
    /// **After** this call, and before it sleeps, the worker must look at its queues once more.
    /// Whoever puts something into a queue and rings is then either seen by that look, or sees that
    /// this worker sleeps.
    #[must_use]
    pub fn prepare_to_sleep(&self) -> SleepGuard<'_> {
        // A swap, not a store: it orders this word after that of a late ringer of the last sleep.
        self.shared.asleep.swap(true, Ordering::AcqRel);
        // Pairs with the fence in `ring`: of the two sides at least one sees what the other wrote.
        fence(Ordering::SeqCst);
        SleepGuard(self)
    }

    /// Sleeps by `block` for no longer than `timeout`, or until woken. Not at all if something is
    /// pending already; then `block` is given no time.
    pub fn sleep<R>(
        &self,
        timeout: Duration,
        has_pending: impl FnOnce() -> bool,
        block: impl FnOnce(Duration) -> R,
    ) -> R {
        if timeout.is_zero() {
            return block(timeout);
        }
        let _guard = self.prepare_to_sleep();
        // Whoever has put something into a queue before that has woken nobody.
        block(match has_pending() {
            true => Duration::ZERO,
            false => timeout,
        })
    }
}

/// The time in which a worker is, or may be, asleep.
#[derive(Debug)]
pub struct SleepGuard<'a>(&'a SleepGate);

impl Drop for SleepGuard<'_> {
    fn drop(&mut self) {
        self.0.shared.asleep.store(false, Ordering::Relaxed);
    }
}

impl Debug for SleepGate {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("SleepGate")
    }
}

/// What others wake a worker with.
#[derive(Clone)]
pub struct Waker {
    shared: Arc<Shared>,
}

impl Waker {
    /// Wakes the worker if it sleeps. To be called after something has been put into its queues,
    /// once for many things.
    pub fn wake(&self) {
        fence(Ordering::SeqCst);
        // The swap lets one of several ringers pay for the wake-up. While the worker is awake the
        // plain load keeps the cache line shared.
        if self.shared.asleep.load(Ordering::Relaxed)
            && self.shared.asleep.swap(false, Ordering::AcqRel)
        {
            (self.shared.wake)();
        }
    }
}

impl Debug for Waker {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("Waker")
    }
}

/// Where a worker will wait; made before its thread, so that others know how to wake it.
#[derive(Debug)]
pub struct WaitHandle<W> {
    /// What it waits at.
    pub source: W,
    /// What it passes before.
    pub gate: SleepGate,
    /// What others wake it with.
    pub waker: Waker,
}

impl<W> WaitHandle<W> {
    /// `wake` ends a wait at `source`, as for [`waker_pair`].
    pub fn new(source: W, wake: impl Fn() + Send + Sync + 'static) -> Self {
        let (gate, waker) = waker_pair(wake);
        Self {
            source,
            gate,
            waker,
        }
    }

    /// The same, with what is made of its source.
    pub fn map<V>(self, make: impl FnOnce(W) -> V) -> WaitHandle<V> {
        WaitHandle {
            source: make(self.source),
            gate: self.gate,
            waker: self.waker,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn ringing_an_awake_worker_costs_no_wake_up() {
        let wakes = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&wakes);
        let (gate, waker) = waker_pair(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        waker.wake();
        assert_eq!(wakes.load(Ordering::Relaxed), 0);

        let guard = gate.prepare_to_sleep();
        waker.wake();
        waker.wake();
        drop(guard);
        assert_eq!(wakes.load(Ordering::Relaxed), 1, "one sleep, one wake-up");

        waker.wake();
        assert_eq!(wakes.load(Ordering::Relaxed), 1);

        drop(gate.prepare_to_sleep());
        waker.wake();
        assert_eq!(wakes.load(Ordering::Relaxed), 1, "it has woken by itself");
    }

    #[test]
    fn nobody_sleeps_while_something_is_pending() {
        let (gate, waker) = waker_pair(|| ());
        let time = Duration::from_secs(1);
        assert_eq!(gate.sleep(time, || true, |time| time), Duration::ZERO);
        assert_eq!(gate.sleep(time, || false, |time| time), time);
        let not_asked = || -> bool { unreachable!("there is no time to sleep") };
        assert_eq!(
            gate.sleep(Duration::ZERO, not_asked, |time| time),
            Duration::ZERO
        );
        // The gate is open before the last look.
        let mut woken = false;
        gate.sleep(
            time,
            || true,
            |_| {
                woken = waker.shared.asleep.load(Ordering::Relaxed);
            },
        );
        assert!(woken && !waker.shared.asleep.load(Ordering::Relaxed));
    }
}

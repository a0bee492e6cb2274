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

struct Shared {
    /// Set by the sleeper before it looks at its queues for the last time; taken back by whoever
    /// comes first: a ringer, or the sleeper itself when it is awake again.
    asleep: AtomicBool,
    wake: Box<dyn Fn() + Send + Sync>,
}

/// Makes the two ends of a bell. `wake` must end the sleep that is given to
/// [`Sleeper::sleep_unless`], also when it is called just before that sleep begins:
/// [`std::thread::Thread::unpark`] and writing to an eventfd are both of this kind.
pub fn bell(wake: impl Fn() + Send + Sync + 'static) -> (Sleeper, Bell) {
    let shared = Arc::new(Shared {
        asleep: AtomicBool::new(false),
        wake: Box::new(wake),
    });
    (
        Sleeper {
            shared: Arc::clone(&shared),
        },
        Bell { shared },
    )
}

/// The sleeping worker's end of a bell.
pub struct Sleeper {
    shared: Arc<Shared>,
}

impl Sleeper {
    /// Calls `sleep`, unless `has_work` says that something has arrived.
    ///
    /// `has_work` is asked after the intention to sleep has become visible to everyone who might
    /// ring. So whoever puts something into a queue and rings afterwards is either seen here, or
    /// sees that this worker sleeps and wakes it.
    pub fn sleep_unless(&self, has_work: impl FnOnce() -> bool, sleep: impl FnOnce()) {
        self.shared.asleep.store(true, Ordering::Relaxed);
        // Pairs with the fence in `ring`: of the two sides at least one sees what the other wrote.
        fence(Ordering::SeqCst);
        if !has_work() {
            sleep();
        }
        self.shared.asleep.store(false, Ordering::Relaxed);
    }
}

impl Debug for Sleeper {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("Sleeper")
    }
}

/// The end of a bell that the others hold.
#[derive(Clone)]
pub struct Bell {
    shared: Arc<Shared>,
}

impl Bell {
    /// Wakes the worker if it sleeps. To be called after something has been put into its queues,
    /// once for many things.
    pub fn ring(&self) {
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

impl Debug for Bell {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("Bell")
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
        let (sleeper, bell) = bell(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        bell.ring();
        assert_eq!(wakes.load(Ordering::Relaxed), 0);

        sleeper.sleep_unless(
            || false,
            || {
                bell.ring();
                bell.ring();
            },
        );
        assert_eq!(wakes.load(Ordering::Relaxed), 1, "one sleep, one wake-up");

        bell.ring();
        assert_eq!(wakes.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn work_that_is_there_prevents_sleep() {
        let (sleeper, _bell) = bell(|| ());
        sleeper.sleep_unless(|| true, || panic!("slept although there was work"));
    }
}

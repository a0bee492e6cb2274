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

/// Makes the two ends of a bell. `wake` must end the sleep of the worker that holds the
/// [`Sleeper`], also when it is called just before that sleep begins: unparking a thread and
/// writing to an eventfd are both of this kind.
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
    /// Says that this worker is about to sleep; until what is returned is dropped, [`Bell::ring`]
    /// wakes it.
    ///
    /// **After** this call, and before it sleeps, the worker must look at its queues once more.
    /// Whoever puts something into a queue and rings is then either seen by that look, or sees that
    /// this worker sleeps.
    #[must_use]
    pub fn drowse(&self) -> Drowse<'_> {
        // A swap, not a store: it orders this word after that of a late ringer of the last sleep.
        self.shared.asleep.swap(true, Ordering::AcqRel);
        // Pairs with the fence in `ring`: of the two sides at least one sees what the other wrote.
        fence(Ordering::SeqCst);
        Drowse(self)
    }
}

/// The time in which a worker is, or may be, asleep.
#[derive(Debug)]
pub struct Drowse<'a>(&'a Sleeper);

impl Drop for Drowse<'_> {
    fn drop(&mut self) {
        self.0.shared.asleep.store(false, Ordering::Relaxed);
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

        let drowse = sleeper.drowse();
        bell.ring();
        bell.ring();
        drop(drowse);
        assert_eq!(wakes.load(Ordering::Relaxed), 1, "one sleep, one wake-up");

        bell.ring();
        assert_eq!(wakes.load(Ordering::Relaxed), 1);

        drop(sleeper.drowse());
        bell.ring();
        assert_eq!(wakes.load(Ordering::Relaxed), 1, "it has woken by itself");
    }
}

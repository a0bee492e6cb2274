//! Settings that change while workers work.
//!
//! Whoever changes them replaces the whole value. Each worker has a [`SettingsReader`], and looks
//! once per round or batch whether there is another value: that is a read of a number which hardly
//! ever changes, and writes nothing to memory that others read. Only when there is one does it take
//! a lock, to copy the value.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Clock;
use crate::heartbeat;

/// Settings that others follow. Clones share them.
#[derive(Debug)]
pub struct LiveSettings<T>(Arc<Shared<T>>);

#[derive(Debug)]
struct Shared<T> {
    value: Mutex<T>,
    /// How often the value has been replaced.
    version: AtomicU64,
}

impl<T> Clone for LiveSettings<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Clone> LiveSettings<T> {
    /// At first, they are these.
    #[must_use]
    pub fn new(value: T) -> Self {
        Self(Arc::new(Shared {
            value: Mutex::new(value),
            version: AtomicU64::new(0),
        }))
    }

    /// What they are now.
    #[must_use]
    pub fn get(&self) -> T {
        let value = self.0.value.lock();
        value.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces them.
    pub fn set(&self, value: T) {
        let mut present = self.0.value.lock().unwrap_or_else(PoisonError::into_inner);
        *present = value;
        // Within the lock: who sees the number finds this value, or a later one.
        self.0.version.fetch_add(1, Ordering::Release);
    }

    /// For a worker that has been made with what they are now.
    #[must_use]
    pub fn reader(&self) -> SettingsReader<T> {
        SettingsReader {
            version: self.0.version.load(Ordering::Acquire),
            settings: self.clone(),
        }
    }
}

impl LiveSettings<Duration> {
    /// Sleeps for as long as they say, also if that changes meanwhile, and shows signs of life.
    pub fn sleep(&self) {
        let clock = Clock::start();
        loop {
            let rest = self.get().saturating_sub(clock.elapsed());
            heartbeat::sleep(rest.min(heartbeat::INTERVAL));
            if rest <= heartbeat::INTERVAL {
                break;
            }
        }
    }
}

/// A worker's way to learn of changes.
#[derive(Clone, Debug)]
pub struct SettingsReader<T> {
    settings: LiveSettings<T>,
    version: u64,
}

impl<T: Clone> SettingsReader<T> {
    /// The settings, if they have been replaced since this was called last.
    #[inline]
    #[must_use]
    pub fn changed(&mut self) -> Option<T> {
        let version = self.settings.0.version.load(Ordering::Acquire);
        if version == self.version {
            return None;
        }
        self.version = version;
        Some(self.settings.get())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn each_reader_learns_of_a_change_once() {
        let settings = LiveSettings::new(1);
        let (mut first, mut second) = (settings.reader(), settings.reader());
        assert_eq!(first.changed(), None);
        settings.set(2);
        assert_eq!(first.changed(), Some(2));
        assert_eq!(first.changed(), None);
        settings.set(3);
        settings.set(4);
        assert_eq!(first.changed(), Some(4));
        assert_eq!(second.changed(), Some(4));
        assert_eq!(second.changed(), None);
        assert_eq!(settings.reader().changed(), None, "made with what they are");
    }

    #[test]
    fn a_sleep_ends_when_its_time_is_shortened() {
        let interval = LiveSettings::new(Duration::from_secs(3_600));
        thread::scope(|scope| {
            let (begin, begun) = mpsc::channel();
            let interval = &interval;
            let sleeping = scope.spawn(move || {
                begin.send(()).unwrap();
                interval.sleep();
            });
            begun.recv().unwrap();
            // It may be asleep by now, and is most of the time.
            heartbeat::sleep(Duration::from_millis(50));
            interval.set(Duration::ZERO);
            sleeping.join().unwrap();
        });
    }
}

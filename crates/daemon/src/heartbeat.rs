//! Signs of life of threads.
//!
//! A thread that hangs, in an endless loop or a lock that nobody gives back, leaves a tracker of
//! which a part is missing. So every thread of a daemon has a heart: its loop [beats](beat) at
//! least every [`INTERVAL`], and the [watchdog](crate::watchdog) ends the process if one does not.
//!
//! A thread that waits for the world [outside], such as a disk or a pipe that nobody
//! reads, does not hang: the tracker serves without it. It is only told about.
//!
//! The heart belongs to the thread, not to an argument: loops of several crates beat, and a test
//! that runs one of them in a thread without a heart notices nothing.

use std::cell::OnceCell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use crate::cpu_clock::CpuClock;

/// A loop beats at least so often, also if it has nothing to do.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// What is known of a thread.
#[derive(Debug)]
pub(crate) struct Heart {
    pub(crate) name: String,
    /// Written by the thread itself only.
    beats: AtomicU64,
    is_outside: AtomicBool,
    /// Set when the thread begins, where the system has such a clock.
    cpu_clock: OnceLock<CpuClock>,
}

/// What a heart shows at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sign {
    pub(crate) beats: u64,
    pub(crate) is_outside: bool,
}

impl Heart {
    pub(crate) fn new(name: String) -> Arc<Self> {
        Arc::new(Self {
            name,
            beats: AtomicU64::new(0),
            is_outside: AtomicBool::new(false),
            cpu_clock: OnceLock::new(),
        })
    }

    pub(crate) fn beat(&self) {
        let beats = self.beats.load(Ordering::Relaxed);
        self.beats.store(beats.wrapping_add(1), Ordering::Relaxed);
    }

    pub(crate) fn go_outside(&self, is_outside: bool) {
        self.is_outside.store(is_outside, Ordering::Relaxed);
        self.beat();
    }

    pub(crate) fn sign(&self) -> Sign {
        Sign {
            beats: self.beats.load(Ordering::Relaxed),
            is_outside: self.is_outside.load(Ordering::Relaxed),
        }
    }
}

thread_local! {
    static OWN: OnceCell<Arc<Heart>> = const { OnceCell::new() };
}

/// Of all threads that live. (Those that end are noticed by the supervisor.)
static HEARTS: Mutex<Vec<Weak<Heart>>> = Mutex::new(Vec::new());

/// The heart of a thread that is about to start.
///
/// It is there, and silent, before its thread is: a thread that never gets to its first line hangs,
/// too.
#[derive(Debug)]
pub(crate) struct Unborn(Arc<Heart>);

impl Unborn {
    pub(crate) fn new(name: &str) -> Self {
        let heart = Heart::new(name.to_owned());
        let mut hearts = HEARTS.lock().unwrap_or_else(PoisonError::into_inner);
        hearts.push(Arc::downgrade(&heart));
        Self(heart)
    }

    /// The heart, for whoever watches this thread in particular.
    pub(crate) fn heart(&self) -> Arc<Heart> {
        Arc::clone(&self.0)
    }

    /// Gives this thread the heart until it ends. It has to beat from now on.
    pub(crate) fn begin(self) {
        if let Some(clock) = CpuClock::of_this_thread() {
            let _ = self.0.cpu_clock.set(clock);
        }
        OWN.with(|own| {
            // A thread has one heart: that of the first name.
            let _ = own.set(self.0);
        });
    }
}

/// Of all threads that have one.
pub(crate) fn hearts() -> Vec<Arc<Heart>> {
    let mut hearts = HEARTS.lock().unwrap_or_else(PoisonError::into_inner);
    hearts.retain(|heart| heart.strong_count() > 0);
    hearts.iter().filter_map(Weak::upgrade).collect()
}

/// The threads that live, by their names, and the CPU time that each has used since it began. In
/// the order in which they were started. Empty where the system does not tell.
#[must_use]
pub fn cpu_times() -> Vec<(String, Duration)> {
    let hearts = hearts();
    let times = hearts.iter().filter_map(|heart| {
        let time = heart.cpu_clock.get()?.read()?;
        Some((heart.name.clone(), time))
    });
    times.collect()
}

fn with_own(act: impl FnOnce(&Heart)) {
    // There is none in a thread that is about to end.
    let _ = OWN.try_with(|own| own.get().map(|heart| act(heart)));
}

/// This thread lives. Costs a nanosecond or two.
pub fn beat() {
    with_own(Heart::beat);
}

/// Sleeps as [`thread::sleep`] does, and beats meanwhile.
pub fn sleep(duration: Duration) {
    let mut rest = duration;
    loop {
        beat();
        let slice = rest.min(INTERVAL);
        thread::sleep(slice);
        rest = rest.saturating_sub(slice);
        if rest.is_zero() {
            break;
        }
    }
    beat();
}

/// Does what may take as long as others want: reading and writing files and pipes.
pub fn outside<R>(work: impl FnOnce() -> R) -> R {
    with_own(|heart| heart.go_outside(true));
    let result = work();
    with_own(|heart| heart.go_outside(false));
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn the_cpu_time_of_a_thread_grows_with_its_work_only() {
        const NAME: &str = "heartbeat-test-cpu";
        let time = || {
            let times = cpu_times();
            let own = times.into_iter().find(|(name, _)| name == NAME);
            own.map(|(_, time)| time)
        };
        let unborn = Unborn::new(NAME);
        assert_eq!(time(), None, "it has not begun");
        thread::scope(|scope| {
            let worker = scope.spawn(|| {
                unborn.begin();
                while time().unwrap() < Duration::from_millis(20) {}
                thread::park();
            });
            while time().is_none_or(|time| time < Duration::from_millis(20)) {
                thread::yield_now();
            }
            let asleep = time().unwrap();
            thread::sleep(Duration::from_millis(40));
            assert!(time().unwrap() < asleep + Duration::from_millis(20));
            worker.thread().unpark();
        });
        // What belongs to a thread goes a little later than its last line.
        while time().is_some() {
            thread::yield_now();
        }
    }

    fn own_sign(name: &str) -> Option<Sign> {
        let hearts = hearts();
        let own = hearts.iter().find(|heart| heart.name == name);
        own.map(|heart| heart.sign())
    }

    #[test]
    fn a_thread_that_does_not_begin_has_a_silent_heart() {
        const NAME: &str = "heartbeat-test-unborn";
        let unborn = Unborn::new(NAME);
        let sign = own_sign(NAME).unwrap();
        assert_eq!(own_sign(NAME), Some(sign));
        drop(unborn);
        assert_eq!(own_sign(NAME), None, "there was no such thread");
    }

    #[test]
    fn a_thread_has_a_heart_as_long_as_it_lives() {
        const NAME: &str = "heartbeat-test";
        thread::spawn(|| {
            beat();
            assert_eq!(own_sign(NAME), None);
            Unborn::new(NAME).begin();
            let before = own_sign(NAME).unwrap();
            beat();
            let after = own_sign(NAME).unwrap();
            assert_eq!(after.beats, before.beats + 1);
            outside(|| assert!(own_sign(NAME).unwrap().is_outside));
            assert!(!own_sign(NAME).unwrap().is_outside);
            let before = own_sign(NAME).unwrap();
            sleep(Duration::from_millis(1));
            assert!(own_sign(NAME).unwrap().beats > before.beats);
        })
        .join()
        .unwrap();
        assert_eq!(own_sign(NAME), None);
    }
}

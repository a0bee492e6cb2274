//! What programs and this process share: `bpf/ids.h` has the same in C.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::map::Shared;
use crate::told::{Row, Times};

/// `struct state`.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct State {
    is_active: AtomicU64,
    key: [AtomicU64; 2],
    unix_nanos: AtomicU64,
    replaced_unix_nanos: AtomicU64,
    replaced_until: AtomicU64,
    wrong_per_second: AtomicU64,
    second: AtomicU64,
    let_through: AtomicU64,
}

// SAFETY: atomic numbers, and nothing else.
unsafe impl Shared for State {}

impl State {
    /// The program checks ids that were issued with this key from now on, and lets so many wrong
    /// ones through in a second.
    pub(crate) fn activate(&self, key: [u64; 2], times: Times, wrong_per_second: u64) {
        for (place, word) in self.key.iter().zip(key) {
            place.store(word, Ordering::Relaxed);
        }
        self.wrong_per_second
            .store(wrong_per_second, Ordering::Relaxed);
        self.set_times(times);
        self.is_active.store(1, Ordering::Release);
    }

    /// The order is one in which the program never lacks a time that is good.
    pub(crate) fn set_times(&self, times: Times) {
        let (replaced, until) = times.replaced.unwrap_or_default();
        self.replaced_unix_nanos.store(replaced, Ordering::Release);
        self.replaced_until.store(until, Ordering::Release);
        self.unix_nanos.store(times.unix_nanos, Ordering::Release);
    }
}

// SAFETY: atomic numbers, and nothing else.
unsafe impl Shared for Row {}

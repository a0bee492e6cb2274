//! For how long what is shared lives, which a reload may change.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// For how many seconds peers are remembered here after they have announced, wherever that was.
///
/// In a process of several protocols that may depend on the protocol. What is heard is newer than
/// all that is known, so it counts by the longest of these times; what comes out of the log, or
/// late, may not be, and counts by the shortest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerAges {
    /// The shortest.
    pub min_seconds: u32,
    /// The longest.
    pub max_seconds: u32,
}

/// All times, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// Of peers that are addresses.
    pub ages: PeerAges,
    /// Nothing is remembered for longer.
    pub life: u32,
    /// Within this time, others are told again of every peer that is an address; 0 if there are
    /// none.
    pub peers_told_within: u32,
    /// Within this time, others have told again of everything.
    pub told_within: u32,
}

/// The same for all threads.
#[derive(Clone, Debug, Default)]
pub struct SharedTimes(Arc<[AtomicU32; 5]>);

impl SharedTimes {
    /// These.
    #[must_use]
    pub fn new(times: Times) -> Self {
        let shared = Self::default();
        shared.set(times);
        shared
    }

    /// These from now on.
    pub fn set(&self, times: Times) {
        let PeerAges {
            min_seconds,
            max_seconds,
        } = times.ages;
        for (cell, seconds) in self.0.iter().zip([
            min_seconds,
            max_seconds,
            times.life,
            times.peers_told_within,
            times.told_within,
        ]) {
            cell.store(seconds, Relaxed);
        }
    }

    /// What they are now.
    #[must_use]
    pub fn get(&self) -> Times {
        let [
            min_seconds,
            max_seconds,
            life,
            peers_told_within,
            told_within,
        ] = std::array::from_fn(|place| self.0.get(place).map_or(0, |cell| cell.load(Relaxed)));
        Times {
            ages: PeerAges {
                min_seconds,
                max_seconds,
            },
            life,
            peers_told_within,
            told_within,
        }
    }
}

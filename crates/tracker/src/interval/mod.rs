//! When clients are told to announce again.
//!
//! The base is what the operator has set, `peer_announce_interval`. Two things lengthen it, if the
//! operator wants that:
//!
//! - a random *spread*, so that clients that came at once do not come at once for ever;
//! - the *load* of the process: the more there is to do, the later clients are told to come, up to
//!   `announce_interval_max`. A thread looks at the load each second and publishes one factor; the
//!   workers read it once per batch.
//!
//! | module | contents |
//! |---|---|
//! | `announce_intervals` | what a worker tells: [`AnnounceIntervals`] |
//! | `stretch` | the factor that all workers share: [`Stretch`] |
//! | `controller` | from the load to the factor, pure: [`Controller`] |
//! | `load` | the load of the process, from what is counted anyway |

mod announce_intervals;
mod controller;
mod load;
#[cfg(test)]
mod simulation;
mod stretch;

pub use announce_intervals::AnnounceIntervals;
pub use controller::{Clients, Controller, Observation};
pub(crate) use load::{LoadSource, control};
pub use stretch::Stretch;

use aquatic_config::{Checks, section};

use crate::config::ANNOUNCE_DELAY_SECONDS;

section! {
    /// How announce intervals vary.
    pub struct IntervalConfig {
        /// Percent by which an announce interval is longer at random, 0 to 100: with 10, clients
        /// are told 1 to 1.1 times `peer_announce_interval`. Many clients that came at once, after
        /// a restart say, spread out by and by.
        pub announce_interval_spread: u32 = 0,
        /// Seconds of the longest announce interval while the tracker is under load. 0 = load
        /// lengthens no interval.
        ///
        /// When the workers have little CPU time left, or requests are lost, clients are told to
        /// come later, up to this, each after a time of its own.
        pub announce_interval_max: u32 = 0,
    }
}

/// The largest `announce_interval_spread`.
const SPREAD_PERCENT_MAX: u32 = 100;

/// The longest interval that these keys may lead to. Browsers wait by timers that count 31 bits of
/// milliseconds; a timer that is set for longer fires at once.
const INTERVAL_SECONDS_MAX: u32 = i32::MAX.unsigned_abs() / 1_000;

impl IntervalConfig {
    /// The longest interval that a client may be told, in seconds. `base_seconds` is
    /// `peer_announce_interval`.
    #[must_use]
    pub fn longest_seconds(&self, base_seconds: u32) -> u32 {
        let stretched = base_seconds.max(self.announce_interval_max);
        let spread = u64::from(self.announce_interval_spread);
        let longest = u64::from(stretched) * (100 + spread) / 100;
        u32::try_from(longest).unwrap_or(u32::MAX)
    }

    /// Checks the keys. `base_seconds` is `peer_announce_interval`.
    pub fn check(&self, base_seconds: u32, checks: &mut Checks) {
        checks.require(
            self.announce_interval_spread <= SPREAD_PERCENT_MAX,
            "protocol.announce_interval_spread",
            "must be 0 to 100: it is a percentage of the interval",
        );
        let max = self.announce_interval_max;
        checks.require(
            max == 0 || max >= base_seconds,
            "protocol.announce_interval_max",
            format!(
                "must be 0, or at least `protocol.peer_announce_interval` = {base_seconds}: load \
                 makes intervals longer only"
            ),
        );
        checks.advise(
            max <= base_seconds || self.announce_interval_spread > 0,
            "protocol.announce_interval_max",
            "makes clients come in waves when it is reached, unless \
             `protocol.announce_interval_spread` is more than 0; 10 will do",
        );
        let longest = self.longest_seconds(base_seconds);
        checks.require(
            longest <= base_seconds.max(INTERVAL_SECONDS_MAX),
            "protocol.announce_interval_max",
            format!(
                "allows, with `protocol.announce_interval_spread`, an interval of {longest} s, but \
                 timers of browsers count no further than {INTERVAL_SECONDS_MAX}: write less"
            ),
        );
    }

    /// Checks that peers live until they announce again, for trackers that know nothing of a peer
    /// but its announces. `max_peer_age` is the key of this name.
    pub fn check_peer_lives(&self, base_seconds: u32, max_peer_age: u32, checks: &mut Checks) {
        let longest = self.longest_seconds(base_seconds);
        // What is wrong without these keys has been told.
        let are_used = longest > base_seconds;
        let needed = longest.saturating_add(ANNOUNCE_DELAY_SECONDS);
        checks.require(
            !are_used || max_peer_age >= needed,
            "cleaning.max_peer_age",
            format!(
                "is {max_peer_age}, must be at least {needed}: `protocol.announce_interval_max` \
                 and `protocol.announce_interval_spread` allow an interval of {longest} s, and \
                 clients are up to {ANNOUNCE_DELAY_SECONDS} s late, so that peers would be \
                 forgotten between two announces; twice as much lets them miss one"
            ),
        );
    }
}

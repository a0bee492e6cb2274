//! When connections are looked at: those that have been silent are asked whether somebody is there,
//! and the peers of those that stay silent leave. Pure.
//!
//! A browser that has gone without a word (a laptop that was closed) leaves an open connection
//! behind. Its page cannot send pings, but answers ours. Proxies close connections over which
//! nothing goes for a while (nginx after 60 s, Cloudflare after 100 s), so a ping goes over each
//! that has been silent for `ping_interval`.
//!
//! When a connection is due depends on when something last came over it, which it says itself
//! ([`Session::look`](crate::session::Session::look)) each time that it is looked at.

use std::collections::VecDeque;

use aquatic_daemon::clock::Now;
use aquatic_types::Seconds;

/// Connections that are looked at in one round.
pub const LOOKS_PER_ROUND_MAX: usize = 1_024;

/// Seconds until a connection is looked at again at the latest. One that is looked at too early
/// says so.
const PAUSE_SECONDS_MAX: u32 = 3_600;

/// What happens to a connection over which nothing comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Seconds of silence after which it gets a ping.
    pub ping_seconds: u32,
    /// Seconds of silence after which its peers leave.
    pub peer_age_seconds_max: u32,
}

/// All connections of a worker, named by an `Id`, by the second in which each is due.
#[derive(Debug)]
pub struct Liveness<Id> {
    /// One list per second, from `first` on.
    due: VecDeque<Vec<Id>>,
    first: Seconds,
}

impl<Id> Default for Liveness<Id> {
    fn default() -> Self {
        Self {
            due: VecDeque::new(),
            first: Seconds(0),
        }
    }
}

impl<Id: Copy> Liveness<Id> {
    /// A connection is to be looked at in this second, or an hour from now if that is earlier.
    pub fn look_at(&mut self, at: Seconds, connection: Id) {
        let pause = at.0.saturating_sub(self.first.0).min(PAUSE_SECONDS_MAX);
        let place = usize::try_from(pause).unwrap_or_default();
        if self.due.len() <= place {
            self.due.resize_with(place + 1, Vec::new);
        }
        if let Some(list) = self.due.get_mut(place) {
            list.push(connection);
        }
    }

    /// The next connection that is due, if there is one. It is forgotten here.
    pub fn take_due(&mut self, now: Now) -> Option<Id> {
        while self.first <= now.seconds {
            if let Some(connection) = self.due.front_mut().and_then(Vec::pop) {
                return Some(connection);
            }
            self.first = match self.due.pop_front() {
                Some(_) => self.first + 1,
                None => now.seconds + 1,
            };
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u32) -> Now {
        Now::from_micros(u64::from(seconds) * 1_000_000)
    }

    fn due(liveness: &mut Liveness<&'static str>, seconds: u32) -> Vec<&'static str> {
        let mut due: Vec<_> = std::iter::from_fn(|| liveness.take_due(at(seconds))).collect();
        due.sort_unstable();
        due
    }

    #[test]
    fn each_is_due_in_its_second() {
        let mut liveness = Liveness::default();
        assert_eq!(due(&mut liveness, 100), [""; 0]);
        for (seconds, name) in [(145, "a"), (101, "b"), (145, "c"), (146, "d")] {
            liveness.look_at(Seconds(seconds), name);
        }
        assert_eq!(due(&mut liveness, 100), [""; 0]);
        assert_eq!(due(&mut liveness, 101), ["b"]);
        // What is due already is due at once.
        liveness.look_at(Seconds(7), "e");
        assert_eq!(due(&mut liveness, 102), ["e"]);
        assert_eq!(due(&mut liveness, 144), [""; 0]);
        assert_eq!(due(&mut liveness, 145), ["a", "c"]);
        assert_eq!(due(&mut liveness, 10_000), ["d"]);
        assert_eq!(due(&mut liveness, 20_000), [""; 0]);
        assert!(liveness.due.is_empty());
    }

    #[test]
    fn a_far_day_takes_no_memory() {
        let mut liveness = Liveness::default();
        assert_eq!(due(&mut liveness, 10), [""; 0]);
        liveness.look_at(Seconds(u32::MAX), "far");
        assert!(liveness.due.len() <= 3_601);
        assert_eq!(due(&mut liveness, 3_610), [""; 0]);
        assert_eq!(due(&mut liveness, 3_611), ["far"], "an hour from then");
    }
}

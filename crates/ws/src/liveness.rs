//! When clients are asked whether they are still there. Pure.
//!
//! A browser that has gone without a word (a laptop that was closed) leaves an open connection
//! behind. Its page cannot send pings, but answers ours. So a connection that has been silent for
//! a third to two thirds of `max_connection_idle` gets a ping, and if nothing comes in the rest of
//! the time either, its deadline closes it.

use std::collections::VecDeque;

use aquatic_daemon::clock::Now;
use aquatic_types::Seconds;

/// Connections that are looked at in one round.
const ROUND_MAX: usize = 1_024;

/// All connections of a worker, named by an `Id`, by when each is to be looked at: since all wait
/// equally long, a queue is in that order by itself.
#[derive(Debug)]
pub struct Liveness<Id> {
    queue: VecDeque<(Seconds, Id)>,
    interval_seconds: u32,
}

impl<Id: Copy> Liveness<Id> {
    /// For connections that are closed after so much silence.
    #[must_use]
    pub fn new(idle_seconds_max: u32) -> Self {
        Self {
            queue: VecDeque::new(),
            interval_seconds: idle_seconds_max / 3,
        }
    }

    /// A connection begins.
    pub fn begin(&mut self, now: Now, connection: Id) {
        let at = now.seconds + self.interval_seconds;
        self.queue.push_back((at, connection));
    }

    /// Looks at connections that may have been silent for too long. `heard` says when something
    /// last came over one, `None` if it has ended; `ping` sends a ping over it.
    pub fn look<C>(
        &mut self,
        now: Now,
        connections: &mut C,
        heard: impl Fn(&mut C, Id) -> Option<Seconds>,
        ping: impl Fn(&mut C, Id),
    ) {
        for _ in 0..ROUND_MAX {
            let Some((_, connection)) = self.take_due(now) else {
                return;
            };
            let Some(heard) = heard(connections, connection) else {
                continue;
            };
            if now.seconds >= heard + self.interval_seconds {
                ping(connections, connection);
            }
            self.begin(now, connection);
        }
    }

    fn take_due(&mut self, now: Now) -> Option<(Seconds, Id)> {
        let (at, _) = self.queue.front()?;
        if *at > now.seconds {
            return None;
        }
        self.queue.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn silent_connections_are_pinged_in_time_and_others_left_alone() {
        let idle_seconds_max = 180;
        let mut liveness = Liveness::new(idle_seconds_max);
        let mut heard = HashMap::from([("silent", Seconds(1)), ("busy", Seconds(1))]);
        for name in ["silent", "busy", "gone"] {
            liveness.begin(Now::from_micros(1_000_000), name);
        }
        let mut pings = 0;
        for second in 1..1_000_u32 {
            if second % 50 == 0 {
                heard.insert("busy", Seconds(second));
            }
            let now = Now::from_micros(u64::from(second) * 1_000_000);
            let mut pinged = Vec::new();
            let heard_of = |_: &mut Vec<_>, name| heard.get(name).copied();
            liveness.look(now, &mut pinged, heard_of, |pinged, name| pinged.push(name));
            if !pinged.is_empty() {
                assert_eq!(pinged, ["silent"]);
                let silence = second - heard["silent"].0;
                let thirds = idle_seconds_max / 3..=2 * idle_seconds_max / 3;
                assert!(thirds.contains(&silence), "{silence}");
                // It answers.
                heard.insert("silent", Seconds(second));
                pings += 1;
            }
        }
        assert!((8..=16).contains(&pings), "{pings}");
        assert_eq!(liveness.queue.len(), 2, "who has gone is forgotten");
    }
}

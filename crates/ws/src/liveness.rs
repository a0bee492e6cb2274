//! When clients are asked whether they are still there. Pure.
//!
//! A browser that has gone without a word (a laptop that was closed) leaves an open connection
//! behind. Its page cannot send pings, but answers ours. So a connection that has been silent for a
//! third to two thirds of `max_connection_idle` gets a ping, and if nothing comes in the rest of the
//! time either, its deadline closes it.

use std::collections::VecDeque;

use aquatic_daemon::clock::Now;
use aquatic_stream::ConnectionId;
use aquatic_types::Seconds;

/// Connections that are looked at in one round.
const ROUND_MAX: usize = 1_024;

/// All connections of a worker, by when each is to be looked at: since all wait equally long, a
/// queue is in that order by itself.
#[derive(Debug)]
pub struct Liveness {
    queue: VecDeque<(Seconds, ConnectionId)>,
    interval_seconds: u32,
}

impl Liveness {
    /// For connections that are closed after so much silence.
    #[must_use]
    pub fn new(idle_seconds_max: u32) -> Self {
        Self {
            queue: VecDeque::new(),
            interval_seconds: idle_seconds_max / 3,
        }
    }

    /// A connection begins.
    pub fn begin(&mut self, now: Now, connection: ConnectionId) {
        let at = now.seconds + self.interval_seconds;
        self.queue.push_back((at, connection));
    }

    /// Looks at connections that may have been silent for too long. `heard` says when something
    /// last came over one, `None` if it has ended; `ping` sends a ping over it.
    pub fn look<C>(
        &mut self,
        now: Now,
        connections: &mut C,
        heard: impl Fn(&mut C, ConnectionId) -> Option<Seconds>,
        ping: impl Fn(&mut C, ConnectionId),
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

    fn take_due(&mut self, now: Now) -> Option<(Seconds, ConnectionId)> {
        let (at, _) = self.queue.front()?;
        if *at > now.seconds {
            return None;
        }
        self.queue.pop_front()
    }
}

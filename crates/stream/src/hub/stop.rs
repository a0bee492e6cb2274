//! The end of all connections, when the process is about to stop.

use aquatic_daemon::clock::Now;

use super::Hub;
use crate::counters::Closed;
use crate::handler::{ConnectionKey, Handler};

/// Over this time connections are closed, one after the other: their clients would all come back at
/// the same moment otherwise. It is less than what a stop may take
/// ([`FINISH_MAX`](aquatic_daemon::supervisor::FINISH_MAX)), so that the last ones have time to
/// read.
const STOP_SPREAD_MICROS: usize = 400_000;

/// How far the end has come.
#[derive(Debug)]
pub(super) struct Stop {
    /// When it began, in microseconds.
    since: u64,
    /// Connections in so many places have had their turn.
    places: usize,
    /// Those of them whose clients still wait for an answer.
    busy: Vec<ConnectionKey>,
}

impl<H: Handler> Hub<H> {
    /// Goes on with the end of all connections; the first call begins it. To be called in each
    /// round then, before [`Self::finish`]. No more are to be [accepted](Self::accept).
    ///
    /// Returns whether there are none left.
    pub fn stop(&mut self, now: Now) -> bool {
        let mut stop = self.stop.take().unwrap_or_else(|| {
            self.layers.handler.begin_stop();
            Stop {
                since: now.micros,
                places: 0,
                busy: Vec::new(),
            }
        });
        stop.busy.retain(|key| self.stop_one(now, *key));
        let passed = usize::try_from(now.micros.saturating_sub(stop.since));
        let passed = passed.unwrap_or(usize::MAX).min(STOP_SPREAD_MICROS);
        let due = self.table.places().saturating_mul(passed) / STOP_SPREAD_MICROS;
        for key in self.table.keys(stop.places..due) {
            if self.stop_one(now, key) {
                stop.busy.push(key);
            }
        }
        stop.places = stop.places.max(due);
        self.stop = Some(stop);
        self.check_all();
        self.table.len() == 0
    }

    /// Returns whether it is to be told again.
    fn stop_one(&mut self, now: Now, key: ConnectionKey) -> bool {
        let handler = &mut self.layers.handler;
        self.table.with(now, key, Closed::BySession, |session, io| {
            handler.stop(now, key, session, io);
        });
        let Some((connection, mut cx)) = self.table.enter(now, key) else {
            return false;
        };
        if connection.is_beginning() {
            connection.end(&mut cx, Closed::BySession);
        }
        connection.is_open()
    }
}

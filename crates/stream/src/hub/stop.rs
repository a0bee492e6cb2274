//! The end of all connections, when the process is about to stop.

use aquatic_daemon::clock::Now;

use super::Hub;
use crate::connection::Stage;
use crate::{Closed, ConnectionId, Handler};

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
    busy: Vec<ConnectionId>,
}

impl<H: Handler> Hub<H> {
    /// Goes on with the end of all connections; the first call begins it. To be called in each
    /// round then, before [`Self::finish`]. No more are to be [accepted](Self::accept).
    ///
    /// Returns whether there are none left.
    pub fn stop(&mut self, now: Now) -> bool {
        self.connections.now = now;
        let mut stop = self.stop.take().unwrap_or_else(|| {
            self.handler.begin_stop();
            Stop {
                since: now.micros,
                places: 0,
                busy: Vec::new(),
            }
        });
        stop.busy.retain(|id| self.stop_one(now, *id));
        let passed = usize::try_from(now.micros.saturating_sub(stop.since));
        let passed = passed.unwrap_or(usize::MAX).min(STOP_SPREAD_MICROS);
        let due = self.connections.places().saturating_mul(passed) / STOP_SPREAD_MICROS;
        for id in self.connections.ids(stop.places..due) {
            if self.stop_one(now, id) {
                stop.busy.push(id);
            }
        }
        stop.places = stop.places.max(due);
        self.stop = Some(stop);
        self.connections.is_empty()
    }

    /// Returns whether it is to be told again.
    fn stop_one(&mut self, now: Now, id: ConnectionId) -> bool {
        let handler = &mut self.handler;
        self.connections
            .with(id, |session, io| handler.stop(now, id, session, io));
        let is_beginning =
            |stage: &Stage<H::Session>| matches!(stage, Stage::Header(_) | Stage::Handshake(_));
        let connection = self.connections.get(id);
        if connection.is_some_and(|it| is_beginning(&it.stage)) {
            self.connections.end(id, Closed::BySession);
        }
        self.connections.is_open(id)
    }
}

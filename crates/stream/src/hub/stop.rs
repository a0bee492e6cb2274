//! The end of all connections, when the process is about to stop.

use aquatic_daemon::clock::Now;

use super::Hub;
use crate::connection::Stage;
use crate::{Closed, ConnectionId, Handler};

/// Over this time connections are closed, one after the other: their clients would all come back at
/// the same moment otherwise. It is less than what a stop may take
/// ([`FINISH_MAX`](aquatic_daemon::supervisor::FINISH_MAX)), so that the last ones have time to
/// read.
const STOP_SPREAD_MICROS: u64 = 400_000;

impl<H: Handler> Hub<H> {
    /// Goes on with the end of all connections; the first call begins it. To be called in each
    /// round then, before [`Self::finish`]. No more are to be [accepted](Self::accept).
    ///
    /// Returns whether there are none left.
    pub fn stop(&mut self, now: Now) -> bool {
        self.connections.now = now;
        if self.stopping_since.is_none() {
            self.handler.begin_stop();
        }
        let since = *self.stopping_since.get_or_insert(now.micros);
        let passed = now.micros.saturating_sub(since).min(STOP_SPREAD_MICROS);
        let places = self.connections.places();
        let share = |part, whole| usize::try_from(part / whole).unwrap_or(places);
        let due = share(
            u64::try_from(places)
                .unwrap_or(u64::MAX)
                .saturating_mul(passed),
            STOP_SPREAD_MICROS,
        );
        for id in self.connections.ids(0..due) {
            self.stop_one(now, id);
        }
        self.connections.is_empty()
    }

    fn stop_one(&mut self, now: Now, id: ConnectionId) {
        let handler = &mut self.handler;
        let told = self
            .connections
            .with(id, |session, io| handler.stop(now, id, session, io));
        let is_beginning =
            |stage: &Stage<H::Session>| matches!(stage, Stage::Header(_) | Stage::Handshake(_));
        if told.is_none()
            && self
                .connections
                .get(id)
                .is_some_and(|it| is_beginning(&it.stage))
        {
            self.connections.end(id, Closed::BySession);
        }
    }
}

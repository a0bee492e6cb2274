//! The end of all connections, when the process is about to stop.
//!
//! Their clients would all come back at the same moment if they were closed in the same one. So
//! each connection has its turn within the time that the operator gives for that
//! ([`HubOptions::drain`](super::HubOptions::drain)), and works as before until then.

use std::time::Duration;

use aquatic_daemon::clock::Now;

use super::Hub;
use crate::counters::Closed;
use crate::handler::{ConnectionKey, Handler};

/// So long after the last connection has had its turn, clients have time to read, and to close
/// their side. A client that is further away than that loses nothing: everything has been sent to
/// it. With the time that HTTP takes for all turns, no more than
/// [`FINISH_MAX`](aquatic_daemon::supervisor::FINISH_MAX).
pub(crate) const DRAIN_GRACE: Duration = Duration::from_millis(300);

/// So long from the beginning of a stop, a client that has just connected may take to send its
/// first request. Unlike one that has sent some, it would not try again.
const FIRST_REQUEST_MICROS: u64 = 1_000_000;

/// How far the end has come.
#[derive(Debug)]
pub(super) struct Stop {
    /// When it began, in microseconds.
    since: u64,
    /// All connections that there were then, in the order of their turns.
    queue: Vec<ConnectionKey>,
    /// So many of them have had their turn.
    turns: usize,
    /// Those of them that go on: their clients wait for an answer, have not read it, or may be
    /// about to ask.
    busy: Vec<ConnectionKey>,
    /// When one last had its turn, or went on, in microseconds.
    last_turn: u64,
}

impl Stop {
    /// How many are to have had their turn: the first one at once, and the others one after the
    /// other, so that a tracker with few clients has soon stopped.
    fn due(&self, passed_micros: u64, drain_micros: u64) -> usize {
        let all = self.queue.len();
        let share = (all as u64)
            .saturating_mul(passed_micros)
            .checked_div(drain_micros);
        let due = share.and_then(|share| usize::try_from(share).ok());
        due.map_or(all, |due| (due + 1).min(all))
    }

    /// Whether nobody is left but clients that have been told and do not close their side.
    fn is_over(&self, now: Now) -> bool {
        let passed = Duration::from_micros(now.micros.saturating_sub(self.last_turn));
        self.turns == self.queue.len() && passed >= DRAIN_GRACE
    }
}

impl<H: Handler> Hub<H> {
    /// Goes on with the end of all connections; the first call begins it. To be called in each
    /// round then, before [`Self::finish`]. No more are to be [accepted](Self::accept).
    ///
    /// Returns whether there are none left for which it is worth to wait.
    pub fn stop(&mut self, now: Now) -> bool {
        let mut stop = self.stop.take().unwrap_or_else(|| {
            self.layers.handler.begin_stop();
            Stop {
                since: now.micros,
                queue: self.table.keys(0..self.table.places()),
                turns: 0,
                busy: Vec::new(),
                last_turn: now.micros,
            }
        });
        let turns = stop.turns;
        let was_busy = !stop.busy.is_empty();
        let passed_micros = now.micros.saturating_sub(stop.since);
        let spares_new = passed_micros < FIRST_REQUEST_MICROS.min(self.drain_micros);
        stop.busy.retain(|key| self.stop_one(now, *key, spares_new));
        let due = stop.due(passed_micros, self.drain_micros);
        for key in stop.queue.get(stop.turns..due).unwrap_or_default() {
            if self.stop_one(now, *key, spares_new) {
                stop.busy.push(*key);
            }
        }
        stop.turns = stop.turns.max(due);
        if was_busy || stop.turns > turns {
            stop.last_turn = now.micros;
        }
        let is_over = self.table.len() == 0 || stop.is_over(now);
        self.stop = Some(stop);
        self.check_all();
        is_over
    }

    /// Returns whether it is to be told again.
    fn stop_one(&mut self, now: Now, key: ConnectionKey, spares_new: bool) -> bool {
        let connection = self.table.get(key);
        if spares_new && connection.is_some_and(|it| it.is_new && !it.has_ended()) {
            return true;
        }
        let handler = &mut self.layers.handler;
        self.table.with(now, key, Closed::Restart, |session, io| {
            handler.stop(now, key, session, io);
        });
        let Some((connection, mut cx)) = self.table.enter(now, key) else {
            return false;
        };
        if connection.is_beginning() {
            connection.end(&mut cx, Closed::Restart);
        }
        connection.is_open() || connection.pending() > 0
    }
}

//! What happens to a connection that has been looked up: what its session says, what is sent, and
//! the end.

use std::mem;

use super::{Connection, Ending, Phase, Turn};
use crate::connections::Cx;
use crate::counters::Closed;
use crate::handler::{Io, WaitingFor};
use crate::kept::Kept;
use crate::memory::{Counted, SessionState};

impl<S: SessionState> Connection<S> {
    /// Calls the session of an open connection, which can send and close. What the connection holds
    /// then is not [counted](Self::recount).
    pub(crate) fn call<R>(
        &mut self,
        cx: &mut Cx<'_>,
        call: impl FnOnce(&mut S, &mut Io<'_>) -> R,
    ) -> Option<R> {
        self.call_because(cx, Closed::BySession, call)
    }

    /// The same. If the session closes the connection, that is for the reason given.
    pub(crate) fn call_because<R>(
        &mut self,
        cx: &mut Cx<'_>,
        why: Closed,
        call: impl FnOnce(&mut S, &mut Io<'_>) -> R,
    ) -> Option<R> {
        let waiting_bytes = self.pending();
        let Phase::Open { session, waits_for } = &mut self.phase else {
            return None;
        };
        // Plain output is written where it is sent from; what is to be encrypted, is encrypted
        // from one buffer for all.
        let pool = &mut cx.shared.pool;
        let out = match self.tls {
            None => &mut self.output,
            Some(_) => &mut cx.shared.plain,
        };
        if out.capacity() == 0 {
            *out = pool.lend(&mut cx.shared.memory);
        }
        let behind = self.input.bytes();
        let mut io = Io::of(behind, waiting_bytes, cx.shared.memory.is_tight(), out);
        let result = call(session, &mut io);
        let (closes, why) = (io.closes(), io.why_closes().unwrap_or(why));
        // The time for a request goes on if it is asked for again.
        let restarts_deadline = io.waits_for().is_some_and(|next| {
            io.waits_anew() || next != WaitingFor::Request || *waits_for != WaitingFor::Request
        });
        *waits_for = io.waits_for().unwrap_or(*waits_for);
        self.is_new &= *waits_for == WaitingFor::Request;
        if closes {
            self.drain(why);
        }
        if self.encrypt(cx, closes) {
            self.after_output(cx, restarts_deadline);
        }
        Some(result)
    }

    /// Encrypts what the session has sent, if need be. Returns whether that has not failed.
    fn encrypt(&mut self, cx: &mut Cx<'_>, is_last: bool) -> bool {
        let shared = &mut *cx.shared;
        let Some(tls) = &mut self.tls else {
            return true;
        };
        if shared.plain.is_empty() && !is_last {
            return true;
        }
        if self.output.capacity() == 0 {
            self.output = shared.pool.lend(&mut shared.memory);
        }
        let sent = tls.send(&shared.plain, is_last, &mut self.output);
        shared.plain.clear();
        if sent.is_err() {
            self.end(cx, Closed::Tls);
        }
        sent.is_ok()
    }

    /// Sees to it that output is sent, and to the deadline.
    pub(crate) fn after_output(&mut self, cx: &mut Cx<'_>, restarts_deadline: bool) {
        match self.pending() {
            0 => {
                let closes = matches!(self.phase, Phase::Draining { .. });
                self.all_sent(cx, restarts_deadline);
                if closes {
                    self.enqueue(cx);
                }
            }
            pending => {
                self.add_output(restarts_deadline);
                if pending > cx.shared.bounds.output_bytes_max {
                    self.end(cx, Closed::OutputFull);
                } else {
                    self.enqueue(cx);
                }
            }
        }
    }

    /// There is nothing to send, or nothing any more.
    fn all_sent(&mut self, cx: &mut Cx<'_>, restarts_deadline: bool) {
        let restarts_deadline = self.unblock() || restarts_deadline;
        self.sent = 0;
        let output = mem::take(&mut self.output);
        cx.shared.keep_buffer(output);
        if let Phase::Draining { why, .. } = self.phase {
            self.finish(why, Ending::Orderly);
            return;
        }
        if restarts_deadline {
            self.restart_deadline(cx);
        }
        if self.turn == Turn::AfterOutput {
            self.list(cx);
        }
    }

    /// The loop, which asks for the next action then, has sent this much of the output; less than
    /// there is if the client does not read.
    pub(crate) fn sent(&mut self, cx: &mut Cx<'_>, bytes: usize) {
        let sent_bytes = &cx.shared.counters.sent_bytes;
        sent_bytes.get(self.family).add(bytes);
        self.sent = (self.sent + bytes).min(self.output.len());
        self.write(bytes);
        let written = self.counted_written();
        let memory = &mut cx.shared.memory;
        memory.recount_written(&mut self.counted, written);
        if self.pending() > 0 {
            let has_begun = self.block();
            self.forget_sent(super::BUFFER_BYTES_KEPT);
            if has_begun || bytes > 0 {
                cx.set_deadline(Some(cx.shared.bounds.idle_seconds));
            }
            // Whoever sends to a slow reader must not keep it from being heard.
            if self.turn == Turn::AfterOutput
                && self.pending() <= cx.shared.bounds.output_bytes_reading_max()
            {
                self.list(cx);
            }
        } else {
            self.all_sent(cx, false);
        }
        self.recount(cx);
    }

    /// Something has happened to a connection: counts what it holds now. If that is too much with
    /// all that others hold, those that hold most give way next.
    ///
    /// One that holds next to nothing is left out as long as there is plenty of room. It has no
    /// output when the round is over: or it has, and is blocked, and then it is counted.
    pub(crate) fn recount(&mut self, cx: &mut Cx<'_>) {
        if !(cx.shared.has_plenty && self.is_light()) {
            self.recount_always(cx);
        }
    }

    /// Counts what it holds now.
    pub(crate) fn recount_always(&mut self, cx: &mut Cx<'_>) {
        let now = self.count(&cx.shared.bounds);
        cx.shared.memory.recount(&mut self.counted, now);
    }

    /// Leaves its input with the kernel if it holds more than its share of too much. It is [read
    /// from again](crate::connections::Table::read_on) when it does not any more.
    pub(crate) fn hold_back(&mut self, cx: &mut Cx<'_>) {
        let shared = &mut *cx.shared;
        if self.may_be_read(&shared.bounds)
            && self.is_over(shared.memory.share())
            && !self.is_held_back
        {
            self.is_held_back = true;
            shared.held_back.push((cx.key, cx.now.seconds));
            self.recount_always(cx);
        }
    }
}

impl<S> Connection<S> {
    /// Begins another phase, with the time for it.
    pub(crate) fn set_phase(&mut self, cx: &mut Cx<'_>, phase: Phase<S>) {
        self.phase = phase;
        self.restart_deadline(cx);
    }

    /// Lets the time of the present phase begin.
    pub(crate) fn restart_deadline(&mut self, cx: &mut Cx<'_>) {
        cx.set_deadline(self.deadline_seconds(&cx.shared.bounds));
    }

    /// The session has closed it.
    fn drain(&mut self, why: Closed) {
        self.phase = match mem::replace(&mut self.phase, Phase::Gone) {
            Phase::Open { session, waits_for } => Phase::Draining {
                session,
                waits_for,
                why,
                has_unread: false,
            },
            other => other,
        };
    }

    /// Ends it at once: its session is not called again.
    pub(crate) fn end(&mut self, cx: &mut Cx<'_>, why: Closed) {
        let ending = match self.phase {
            Phase::Draining { .. } => Ending::CutShort,
            Phase::ProxyHeader(_) | Phase::Handshake(_)
                if matches!(why, Closed::BySession | Closed::Restart) =>
            {
                Ending::Orderly
            }
            _ => Ending::Abandoned { takes_rest: false },
        };
        self.finish(why, ending);
        if self.is_dismissed() {
            self.input = Kept::default();
            (self.output, self.sent) = (Vec::new(), 0);
            self.writing = super::Writing::Idle;
            let memory = &mut cx.shared.memory;
            memory.recount(&mut self.counted, Counted::default());
        }
        if self.pending() > 0 {
            // An alert, say. It is written once.
            self.add_output(false);
        }
        self.enqueue(cx);
    }

    fn finish(&mut self, why: Closed, ending: Ending) {
        let (session, has_unread) = match mem::replace(&mut self.phase, Phase::Gone) {
            Phase::ProxyHeader(_) | Phase::Handshake(_) => (None, false),
            Phase::Open { session, .. } => (Some(session), false),
            Phase::Draining {
                session,
                has_unread,
                ..
            } => (Some(session), has_unread),
            Phase::Lingering { .. } | Phase::Gone => return,
            ended @ Phase::Ended { .. } => {
                self.phase = ended;
                return;
            }
        };
        self.phase = Phase::Ended {
            session,
            why,
            ending,
            has_unread,
        };
    }

    /// The client is to be able to read everything: no more is to be sent.
    pub(crate) fn linger(&mut self, cx: &mut Cx<'_>)
    where
        S: SessionState,
    {
        self.tls = None;
        self.sent = 0;
        self.writing = super::Writing::Idle;
        let output = mem::take(&mut self.output);
        cx.shared.keep_buffer(output);
        self.set_phase(cx, Phase::Lingering { read_bytes: 0 });
        self.recount(cx);
    }

    /// Tells the loop to flush it.
    pub(crate) fn enqueue(&mut self, cx: &mut Cx<'_>) {
        if !mem::replace(&mut self.is_queued, true) {
            cx.shared.queue.push(cx.key);
        }
    }

    /// Puts it on the list of those whose kept bytes are offered again.
    pub(crate) fn list(&mut self, cx: &mut Cx<'_>) {
        self.turn = Turn::Listed;
        cx.shared.resumed.push(cx.key);
    }
}

//! One connection: how far it has come, and what it holds.
//!
//! What happens to it moves it on from one [`Phase`] to another:
//!
//! | phase | bytes | input ends | session closes | all sent | time is over | fails, gives way |
//! |---|---|---|---|---|---|---|
//! | `ProxyHeader` | `Handshake`, `Open`, `Ended` | `Ended` | – | – | `Ended` | `Ended` |
//! | `Handshake` | `Open`, `Ended` | `Ended` | – | stays | `Ended` | `Ended` |
//! | `Open` | to the session | told, once | `Draining`, `Ended` | stays | told, `Ended` | `Ended` |
//! | `Draining` | unread | noted | – | `Ended`, orderly | `Ended`, cut short | the same |
//! | `Ended` | unread | noted | – | stays | stays | stays |
//! | `Lingering` | thrown away; too many: `Gone` | `Gone` | – | – | `Gone` | `Gone` |
//! | `Gone` | thrown away | – | – | – | – | stays |
//!
//! - A session that closes with nothing left to send goes straight on to `Ended`.
//! - A session is told when a client's time is over, if the client reads (`Handler::timed_out`). If
//!   it has last words, it is `Draining` then, for that reason.
//! - TLS can fail in any phase that has a session, and too much output ends a connection that is
//!   `Open`, or closes with that.
//! - `Ended` and `Gone` are seen by the loop only (`Hub::next_action`). There, an end is counted
//!   and the handler is told, so that both happen once; then the connection is `Lingering`, if it
//!   ended orderly and the client may not have read everything (or the process stops, which its
//!   client cannot expect), or removed. What is `Gone` was
//!   counted when it began to linger.
//! - The first reason to end stays. Who has `Ended` for another than the tracker's sake may be
//!   read from once more: what the client has sent before is shown to the handler
//!   ([`Ending::Abandoned`]).

mod operations;

use std::mem;

use aquatic_types::{IpFamily, client_network};

use crate::bounds::Bounds;
use crate::counters::Closed;
use crate::handler::{Client, WaitingFor};
use crate::kept::Kept;
use crate::memory::{Counted, KERNEL_BYTES_FULL, LIGHT_BYTES_MAX, SessionState, written_bytes};
use crate::tls::TlsStream;

pub(crate) struct Connection<S> {
    pub(crate) phase: Phase<S>,
    pub(crate) writing: Writing,
    /// Whether its input waits for us, rather than for more to come.
    pub(crate) turn: Turn,
    pub(crate) input_end: InputEnd,
    pub(crate) tls: Option<Box<TlsStream>>,
    /// Bytes that nobody has taken: of the PROXY header, or plain ones of a request.
    pub(crate) input: Kept,
    /// What is to be sent, as it goes over the wire.
    pub(crate) output: Vec<u8>,
    /// How much of the output has been sent.
    pub(crate) sent: usize,
    /// What the kernel keeps of what has been sent, as far as that is known. What it keeps of the
    /// input is in the account only.
    pub(crate) unsent_bytes: u32,
    /// Bytes that have been written since that was known: the kernel may keep them, too.
    pub(crate) written_bytes: u32,
    /// What it counts for in the account of all.
    pub(crate) counted: Counted,
    pub(crate) family: IpFamily,
    /// The client's [`client_network`]; the proxy's, until its header has come.
    pub(crate) client: u64,
    /// Connections per address are counted, and this one has been.
    pub(crate) is_counted: bool,
    /// It is in the queue of those that the loop is to flush.
    pub(crate) is_queued: bool,
    /// Its input is left with the kernel, because it holds more than its share of too much.
    pub(crate) is_held_back: bool,
    /// Its client has not finished a first request.
    pub(crate) is_new: bool,
}

/// Buffers larger than this are given back to the system when they are empty.
pub(crate) const BUFFER_BYTES_KEPT: usize = 64 * 1024;

/// Room that a buffer may have besides, if its client does not read it at once.
const OUTPUT_SLACK_BYTES: usize = 4 * 1024;

/// How far a connection has come: see the table [above](self).
pub(crate) enum Phase<S> {
    /// The PROXY header of this proxy's connection is not complete.
    ProxyHeader(Client),
    /// The TLS handshake is not complete.
    Handshake(Client),
    Open {
        session: S,
        waits_for: WaitingFor,
    },
    /// The session has closed it: it ends, for this reason, when the output has been sent.
    Draining {
        session: S,
        waits_for: WaitingFor,
        why: Closed,
        /// The client has sent more than was taken before.
        has_unread: bool,
    },
    /// The loop has to close it.
    Ended {
        session: Option<S>,
        why: Closed,
        ending: Ending,
        has_unread: bool,
    },
    /// We have ended, and wait for the client to do the same, so that it can read everything.
    Lingering {
        /// What it has sent since.
        read_bytes: usize,
    },
    /// It has lingered enough, or was [dismissed](Connection::is_dismissed) then.
    Gone,
}

/// In what way a connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Everything was sent that was to be sent.
    Orderly,
    /// The session had closed it, but that could not be sent in full.
    CutShort,
    /// The session had not closed it.
    Abandoned {
        /// It is shown what the client has sent before.
        takes_rest: bool,
    },
}

/// What becomes of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writing {
    /// There is none.
    Idle,
    /// The loop is to write it.
    Pending {
        /// The deadline of what the connection waits for begins when it has been sent.
        then_restart_deadline: bool,
    },
    /// The client does not read as fast as we write. When it has read everything, that deadline
    /// begins in any case.
    Blocked,
}

/// When the session is offered again what is kept of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// When more has come.
    None,
    /// When the output has been sent.
    AfterOutput,
    /// In this batch or the next: it is on the list of those.
    Listed,
}

/// How far the end of the client's sending has come. It must not overtake what was sent before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InputEnd {
    /// The client may send more.
    Open,
    /// It has ended; the session has not yet been offered everything that came before.
    Reached,
    /// The session knows.
    Told,
}

impl<S> Connection<S> {
    /// Of a client, or of the proxy that will say who the client is.
    pub(crate) fn new(client: Client) -> Self {
        Self {
            phase: Phase::ProxyHeader(client),
            writing: Writing::Idle,
            turn: Turn::None,
            input_end: InputEnd::Open,
            tls: None,
            input: Kept::default(),
            output: Vec::new(),
            sent: 0,
            unsent_bytes: 0,
            written_bytes: 0,
            counted: Counted::default(),
            family: client.peer.family(),
            client: client_network(client.peer.ip()),
            is_counted: false,
            is_queued: false,
            is_held_back: false,
            is_new: true,
        }
    }

    /// Bytes that wait to be sent.
    pub(crate) fn pending(&self) -> usize {
        self.output.len() - self.sent
    }

    /// Gives room back that sent bytes take, if there are so many and no less than of those that
    /// wait. The output of a client that reads slowly is never empty.
    pub(crate) fn forget_sent(&mut self, bytes_min: usize) {
        if self.sent >= self.pending().max(bytes_min) {
            self.output.drain(..self.sent);
            self.sent = 0;
        }
        // A buffer that was lent for more.
        if self.output.capacity() > 2 * self.output.len() + OUTPUT_SLACK_BYTES {
            self.output.shrink_to_fit();
        }
    }

    /// Whether it has so much to do that nothing more is to come.
    pub(crate) fn has_enough(&self, bounds: &Bounds) -> bool {
        self.input.len() >= bounds.input_bytes_max
            || self.pending() > bounds.output_bytes_reading_max()
    }

    /// Whether it holds more than such a share. What has come, and is thrown away, does not count.
    pub(crate) fn is_over(&self, share: usize) -> bool {
        self.counted.own_bytes as usize > share && !matches!(self.phase, Phase::Lingering { .. })
    }

    /// Whether it is to be read from if there is memory enough.
    pub(crate) fn may_be_read(&self, bounds: &Bounds) -> bool {
        let is_heard = match self.phase {
            Phase::ProxyHeader(_) | Phase::Handshake(_) | Phase::Open { .. } => true,
            Phase::Ended { why, ending, .. } => {
                matches!(ending, Ending::Abandoned { .. }) && why != Closed::Memory
            }
            Phase::Lingering { .. } => return true,
            Phase::Draining { .. } | Phase::Gone => false,
        };
        is_heard && !self.input_ended() && !self.has_enough(bounds)
    }

    /// How long what it waits for now may take; `None` if it waits for us.
    pub(crate) fn deadline_seconds(&self, bounds: &Bounds) -> Option<u32> {
        match self.phase {
            Phase::ProxyHeader(_) | Phase::Handshake(_) => Some(bounds.handshake_seconds),
            Phase::Lingering { .. } => Some(Bounds::LINGER_SECONDS),
            Phase::Open { waits_for, .. } | Phase::Draining { waits_for, .. } => match waits_for {
                WaitingFor::Request => Some(bounds.request_seconds),
                WaitingFor::Idle => Some(bounds.idle_seconds),
                WaitingFor::Tracker => None,
            },
            Phase::Ended { .. } | Phase::Gone => None,
        }
    }

    /// Why it ends if its time is over.
    pub(crate) fn overdue(&self) -> Closed {
        match self.phase {
            Phase::ProxyHeader(_) | Phase::Handshake(_) => Closed::HandshakeDeadline,
            _ if self.is_blocked() => Closed::SendDeadline,
            Phase::Open { waits_for, .. } | Phase::Draining { waits_for, .. }
                if waits_for == WaitingFor::Request =>
            {
                Closed::RequestDeadline
            }
            _ => Closed::IdleDeadline,
        }
    }

    /// Whether the client will send nothing more.
    pub(crate) fn input_ended(&self) -> bool {
        self.input_end != InputEnd::Open
    }

    /// Whether the client does not read as fast as we write.
    pub(crate) fn is_blocked(&self) -> bool {
        self.writing == Writing::Blocked
    }

    /// Whether its session may be called.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open { .. })
    }

    /// Whether it is not yet known who its client is, or whether that can read.
    pub(crate) fn is_beginning(&self) -> bool {
        matches!(self.phase, Phase::ProxyHeader(_) | Phase::Handshake(_))
    }

    /// Whether only the loop has something to do about it.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended { .. } | Phase::Gone)
    }

    /// Whether it counts for nothing any more: it is about to go.
    pub(crate) fn is_dismissed(&self) -> bool {
        matches!(
            self.phase,
            Phase::Gone
                | Phase::Ended {
                    why: Closed::Memory,
                    ..
                }
        )
    }

    /// What its client has sent before it ended is to be kept from now on. Returns whether there is
    /// anybody to whom it matters; once.
    pub(crate) fn begin_rest(&mut self) -> bool {
        let input_ended = self.input_ended();
        match &mut self.phase {
            Phase::Ended {
                session: Some(_),
                why,
                ending: Ending::Abandoned { takes_rest },
                ..
            } if !matches!(why, Closed::Tls | Closed::Memory) && !input_ended => {
                !mem::replace(takes_rest, true)
            }
            _ => false,
        }
    }

    /// Keeps what the session has not taken, for the next time; or not, if there is none.
    pub(crate) fn keep(&mut self, input: Vec<u8>) {
        if self.is_open() {
            if !input.is_empty() {
                self.input.replace(input);
            }
        } else if !input.is_empty() {
            self.note_unread();
        }
    }

    /// Something has come, or is there, that the session is not to see any more.
    pub(crate) fn keep_unheard(&mut self, bytes: &[u8]) {
        match self.phase {
            // Its client has gone: this is shown to the handler at the end.
            Phase::Ended {
                ending: Ending::Abandoned { takes_rest },
                ..
            } => {
                if takes_rest {
                    self.input.extend(bytes);
                }
            }
            _ if bytes.is_empty() && self.input.is_empty() => {}
            _ => {
                self.input = Kept::default();
                self.note_unread();
            }
        }
    }

    /// Something of what the client has sent is not taken, because it ends.
    pub(crate) fn note_unread(&mut self) {
        if let Phase::Draining { has_unread, .. } | Phase::Ended { has_unread, .. } =
            &mut self.phase
        {
            *has_unread = true;
        }
    }

    /// There is output, after which a deadline may have to begin.
    fn add_output(&mut self, restarts_deadline: bool) {
        match &mut self.writing {
            Writing::Blocked => {}
            Writing::Pending {
                then_restart_deadline,
            } => *then_restart_deadline |= restarts_deadline,
            Writing::Idle => {
                self.writing = Writing::Pending {
                    then_restart_deadline: restarts_deadline,
                };
            }
        }
    }
}

impl<S: SessionState> Connection<S> {
    /// What it counts for.
    pub(crate) fn count(&self, bounds: &Bounds) -> Counted {
        if self.is_dismissed() {
            return Counted::default();
        }
        let session = self.session_bytes();
        let tls = self.tls.as_ref().map_or(0, |tls| tls.held_bytes());
        let allocated = self.input.held_bytes() + self.output.capacity() + session + tls;
        Counted {
            own_bytes: saturated(allocated).saturating_add(self.unsent_bytes),
            unread_bytes: self.counted.unread_bytes,
            written_bytes: self.counted_written(),
            is_left_unread: self.leaves_unread(bounds),
        }
    }

    /// For how much of what has been written it counts.
    pub(crate) fn counted_written(&self) -> u32 {
        written_bytes(self.written_bytes, self.unsent_bytes)
    }

    /// Whether it counts for nothing but what has been written, and all that it holds is an answer
    /// that is sent in this round.
    pub(crate) fn is_light(&self) -> bool {
        self.counted.own_bytes == 0
            && !self.counted.is_left_unread
            && !self.is_blocked()
            && self.output.capacity() <= LIGHT_BYTES_MAX
            && self.input.held_bytes() == 0
            && self.tls.is_none()
            && !self.is_dismissed()
            && self.session_bytes() == 0
    }

    fn session_bytes(&self) -> usize {
        match &self.phase {
            Phase::Open { session, .. }
            | Phase::Draining { session, .. }
            | Phase::Ended {
                session: Some(session),
                ..
            } => session.held_bytes(),
            _ => 0,
        }
    }

    /// Whether its client may send what nobody reads.
    fn leaves_unread(&self, bounds: &Bounds) -> bool {
        let has_closed = matches!(
            self.phase,
            Phase::Draining { .. }
                | Phase::Ended {
                    ending: Ending::CutShort,
                    ..
                }
        );
        let is_full = self.is_held_back || self.has_enough(bounds);
        !self.input_ended() && (is_full || has_closed && self.is_blocked())
    }
}

/// A connection holds no such amount of memory.
fn saturated(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

impl<S> Connection<S> {
    /// The kernel has taken so many bytes more.
    fn write(&mut self, bytes: usize) {
        self.written_bytes = self.written_bytes.saturating_add(saturated(bytes));
    }

    /// The kernel does not take more: it is full. Returns whether it was not before.
    fn block(&mut self) -> bool {
        let was_blocked = self.is_blocked();
        self.writing = Writing::Blocked;
        (self.unsent_bytes, self.written_bytes) = (KERNEL_BYTES_FULL, 0);
        !was_blocked
    }

    /// The kernel has taken everything, or there was nothing. Returns whether a deadline begins.
    fn unblock(&mut self) -> bool {
        match mem::replace(&mut self.writing, Writing::Idle) {
            Writing::Idle => false,
            Writing::Pending {
                then_restart_deadline,
            } => then_restart_deadline,
            Writing::Blocked => {
                // It is no longer known what it keeps.
                (self.unsent_bytes, self.written_bytes) = (0, KERNEL_BYTES_FULL);
                true
            }
        }
    }

    /// The kernel has been asked what it keeps of what has been sent.
    pub(crate) fn know_unsent(&mut self, bytes: u32) {
        (self.unsent_bytes, self.written_bytes) = (bytes, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a client that always reads a little less than is written.
    #[test]
    fn what_has_been_sent_takes_no_room_for_long() {
        let address: std::net::SocketAddr = ([192, 0, 2, 1], 1).into();
        let mut connection = Connection::<()>::new(Client {
            peer: address.into(),
            local: address,
            is_tls: false,
        });
        let mut next = (0..=u8::MAX).cycle();
        let mut expected = (0..=u8::MAX).cycle();
        for _ in 0..10_000 {
            connection.output.extend(next.by_ref().take(1_000));
            let read = if connection.pending() > 3_000 {
                1_000
            } else {
                500
            };
            let sent = &connection.output[connection.sent..connection.sent + read];
            assert!(expected.by_ref().take(read).eq(sent.iter().copied()));
            connection.sent += read;
            connection.forget_sent(10_000);
            assert!(
                connection.output.len() <= 14_500,
                "{}",
                connection.output.len()
            );
        }
    }
}

//! What is kept about one connection.

use aquatic_types::{IpFamily, client_network};

use crate::kept::Kept;
use crate::memory::{Counted, KERNEL_BYTES_FULL, LIGHT_BYTES_MAX, written_bytes};
use crate::tls::TlsStream;
use crate::{Bounds, Client, Closed, Deadline, SessionState};

pub(crate) struct Connection<S> {
    pub(crate) stage: Stage<S>,
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
    pub(crate) waits_for: Deadline,
    pub(crate) family: IpFamily,
    /// The client's [`client_network`]; the proxy's, until its header has come.
    pub(crate) client: u64,
    /// Connections per address are counted, and this one has been.
    pub(crate) is_counted: bool,
    /// The loop has been told to look after it.
    pub(crate) is_dirty: bool,
    /// The client does not read as fast as we write.
    pub(crate) is_blocked: bool,
    /// Its input is left with the kernel, because it holds more than its share of too much.
    pub(crate) is_held_back: bool,
    /// Its client has not finished a first request.
    pub(crate) is_new: bool,
    /// The deadline of what it waits for begins when the output has been sent.
    pub(crate) is_deadline_due: bool,
    /// Whether its input waits for us, rather than for more to come.
    pub(crate) turn: Turn,
    /// Its session has closed it: it ends when the output has been sent.
    pub(crate) closes: bool,
    /// Why it does so.
    pub(crate) closes_for: Closed,
    /// It has ended without its session, which is shown what the client has sent before.
    pub(crate) takes_rest: bool,
    /// The client has sent more than was taken before the session closed.
    pub(crate) has_unread: bool,
    pub(crate) input_end: InputEnd,
    pub(crate) ended: Option<Closed>,
}

/// Room that a buffer may have besides, if its client does not read it at once.
const OUTPUT_SLACK_BYTES: usize = 4 * 1024;

pub(crate) enum Stage<S> {
    /// The PROXY header is not complete.
    Header(Client),
    /// The TLS handshake is not complete.
    Handshake(Client),
    Open(S),
    /// We have ended, and wait for the client to do the same, so that it can read everything.
    Lingering {
        /// What it has sent since.
        read_bytes: usize,
    },
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
            stage: Stage::Header(client),
            tls: None,
            input: Kept::default(),
            output: Vec::new(),
            sent: 0,
            unsent_bytes: 0,
            written_bytes: 0,
            counted: Counted::default(),
            waits_for: Deadline::Request,
            family: client.peer.family(),
            client: client_network(client.peer.ip()),
            is_counted: false,
            is_dirty: false,
            is_blocked: false,
            is_held_back: false,
            is_new: true,
            is_deadline_due: false,
            turn: Turn::None,
            closes: false,
            closes_for: Closed::BySession,
            takes_rest: false,
            has_unread: false,
            input_end: InputEnd::Open,
            ended: None,
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
        self.counted.own_bytes as usize > share && !matches!(self.stage, Stage::Lingering { .. })
    }

    /// Whether it is to be read from if there is memory enough.
    pub(crate) fn may_be_read(&self, bounds: &Bounds) -> bool {
        match self.stage {
            Stage::Lingering { .. } => self.ended.is_none(),
            _ => {
                !self.input_ended()
                    && !self.closes
                    && self.ended != Some(Closed::Memory)
                    && !self.has_enough(bounds)
            }
        }
    }

    /// How long what it waits for now may take; `None` if it waits for us.
    pub(crate) fn deadline_seconds(&self, bounds: &Bounds) -> Option<u32> {
        match (&self.stage, self.waits_for) {
            (Stage::Header(_) | Stage::Handshake(_), _) => Some(bounds.handshake_seconds),
            (Stage::Lingering { .. }, _) => Some(Bounds::LINGER_SECONDS),
            (Stage::Open(_), Deadline::Request) => Some(bounds.request_seconds),
            (Stage::Open(_), Deadline::Idle) => Some(bounds.idle_seconds),
            (Stage::Open(_), Deadline::None) => None,
        }
    }

    /// Whether the client will send nothing more.
    pub(crate) fn input_ended(&self) -> bool {
        self.input_end != InputEnd::Open
    }

    /// Whether what was sent was the end of it, if this is why it has ended.
    pub(crate) fn is_orderly(&self, why: Closed) -> bool {
        why == Closed::BySession || self.closes && why == self.closes_for
    }

    /// Whether its session may be called.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open(_)) && !self.closes && self.ended.is_none()
    }
}

impl<S: SessionState> Connection<S> {
    /// What it counts for.
    pub(crate) fn count(&self, bounds: &Bounds) -> Counted {
        if self.ended == Some(Closed::Memory) {
            // It is about to go.
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
            && !self.is_blocked
            && self.output.capacity() <= LIGHT_BYTES_MAX
            && self.input.held_bytes() == 0
            && self.tls.is_none()
            && self.ended != Some(Closed::Memory)
            && self.session_bytes() == 0
    }

    fn session_bytes(&self) -> usize {
        match &self.stage {
            Stage::Open(session) => session.held_bytes(),
            _ => 0,
        }
    }

    /// Whether its client may send what nobody reads.
    fn leaves_unread(&self, bounds: &Bounds) -> bool {
        let is_full = self.is_held_back || self.has_enough(bounds);
        !self.input_ended() && (is_full || self.closes && self.is_blocked)
    }
}

/// A connection holds no such amount of memory.
fn saturated(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

impl<S> Connection<S> {
    /// The kernel has taken so many bytes more.
    pub(crate) fn write(&mut self, bytes: usize) {
        self.written_bytes = self.written_bytes.saturating_add(saturated(bytes));
    }

    /// The kernel does not take more: it is full.
    pub(crate) fn block(&mut self) {
        self.is_blocked = true;
        (self.unsent_bytes, self.written_bytes) = (KERNEL_BYTES_FULL, 0);
    }

    /// The kernel has taken everything. Returns whether it had not before.
    pub(crate) fn unblock(&mut self) -> bool {
        if !self.is_blocked {
            return false;
        }
        self.is_blocked = false;
        // It is no longer known what it keeps.
        (self.unsent_bytes, self.written_bytes) = (0, KERNEL_BYTES_FULL);
        true
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

//! What is kept about one connection.

use std::net::IpAddr;

use aquatic_types::IpFamily;

use crate::memory::{KERNEL_BYTES_MAX, unheard_bytes};
use crate::tls::TlsStream;
use crate::{Bounds, Client, Closed, Deadline, SessionMemory};

pub(crate) struct Connection<S> {
    pub(crate) stage: Stage<S>,
    pub(crate) tls: Option<Box<TlsStream>>,
    /// Bytes that nobody has taken: of the PROXY header, or plain ones of a request.
    pub(crate) input: Vec<u8>,
    /// What is to be sent, as it goes over the wire.
    pub(crate) output: Vec<u8>,
    /// How much of the output has been sent.
    pub(crate) sent: usize,
    /// Bytes that have been written since something last came from the client.
    pub(crate) unheard_bytes: usize,
    /// What it counts for in the account of all.
    pub(crate) counted_bytes: usize,
    pub(crate) waits_for: Deadline,
    pub(crate) family: IpFamily,
    /// The client's address; the proxy's, until its header has come.
    pub(crate) ip: IpAddr,
    /// Connections per address are counted, and this one has been.
    pub(crate) is_counted: bool,
    /// The loop has been told to look after it.
    pub(crate) is_dirty: bool,
    /// The client does not read as fast as we write.
    pub(crate) is_blocked: bool,
    /// It is not read from, because it holds more than its share of too much.
    pub(crate) is_held_back: bool,
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
            input: Vec::new(),
            output: Vec::new(),
            sent: 0,
            unheard_bytes: 0,
            counted_bytes: 0,
            waits_for: Deadline::Request,
            family: client.peer.family(),
            ip: client.peer.ip(),
            is_counted: false,
            is_dirty: false,
            is_blocked: false,
            is_held_back: false,
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

    /// Whether the client will send nothing more.
    pub(crate) fn input_ended(&self) -> bool {
        self.input_end != InputEnd::Open
    }

    /// Whether its session may be called.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open(_)) && !self.closes && self.ended.is_none()
    }
}

impl<S: SessionMemory> Connection<S> {
    /// What it counts for: what is allocated for it, and what the kernel may keep.
    pub(crate) fn held_bytes(&self, bounds: &Bounds) -> usize {
        if self.ended == Some(Closed::Memory) {
            // It is about to go.
            return 0;
        }
        let session = match &self.stage {
            Stage::Open(session) => session.held_bytes(),
            _ => 0,
        };
        let tls = self.tls.as_ref().map_or(0, |tls| tls.held_bytes());
        let unsent = match self.is_blocked {
            true => KERNEL_BYTES_MAX,
            false => unheard_bytes(self.unheard_bytes),
        };
        let unread = match self.is_blocked && self.has_enough(bounds) {
            true => KERNEL_BYTES_MAX,
            false => 0,
        };
        self.input.capacity() + self.output.capacity() + session + tls + unsent + unread
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

//! What is kept about one connection.

use std::net::IpAddr;

use aquatic_types::IpFamily;

use crate::tls::TlsStream;
use crate::{Client, Closed, Deadline};

pub(crate) struct Connection<S> {
    pub(crate) stage: Stage<S>,
    pub(crate) tls: Option<Box<TlsStream>>,
    /// Bytes that nobody has taken: of the PROXY header, or plain ones of a request.
    pub(crate) input: Vec<u8>,
    /// What is to be sent, as it goes over the wire.
    pub(crate) output: Vec<u8>,
    /// How much of the output has been sent.
    pub(crate) sent: usize,
    pub(crate) waits_for: Deadline,
    pub(crate) family: IpFamily,
    /// The address for which it is counted, if connections per address are.
    pub(crate) counted: Option<IpAddr>,
    /// The loop has been told to look after it.
    pub(crate) is_dirty: bool,
    /// The client does not read as fast as we write.
    pub(crate) is_blocked: bool,
    /// The deadline of what it waits for begins when the output has been sent.
    pub(crate) is_deadline_due: bool,
    /// It has input that is offered to the session when the output has been sent.
    pub(crate) is_held: bool,
    /// Its session has closed it: it ends when the output has been sent.
    pub(crate) closes: bool,
    /// The client has sent more than was taken before the session closed.
    pub(crate) has_unread: bool,
    pub(crate) input_ended: bool,
    pub(crate) ended: Option<Closed>,
}

pub(crate) enum Stage<S> {
    /// The PROXY header is not complete.
    Header(Client),
    /// The TLS handshake is not complete.
    Handshake(Client),
    Open(S),
    /// We have ended, and wait for the client to do the same, so that it can read everything.
    Lingering,
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
            waits_for: Deadline::Request,
            family: client.peer.family(),
            counted: None,
            is_dirty: false,
            is_blocked: false,
            is_deadline_due: false,
            is_held: false,
            closes: false,
            has_unread: false,
            input_ended: false,
            ended: None,
        }
    }

    /// Bytes that wait to be sent.
    pub(crate) fn pending(&self) -> usize {
        self.output.len() - self.sent
    }

    /// Whether its session may be called.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open(_)) && !self.closes && self.ended.is_none()
    }
}

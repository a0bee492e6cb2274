//! A client: one connection after the other, from one address, for some peers.

use std::io;
use std::net::IpAddr;

use mio::{Interest, Registry, Token};
use rustls::HandshakeKind;

use crate::core::kind::Fault;
use crate::stream::client_options::ClientOptions;
use crate::stream::dialogue::{Dialogue, Shared};
use crate::stream::tls::TlsClient;
use crate::stream::transport::{Reading, Scratch, Transport};

/// What stays from connection to connection, and the present one.
pub(crate) struct Client<D> {
    pub(crate) dialogue: D,
    ip: Option<IpAddr>,
    tls: Option<TlsClient>,
    connection: Option<Connection>,
}

struct Connection {
    transport: Transport,
    /// TCP and TLS are established, and the greeting is sent.
    is_established: bool,
    /// The greeting was answered.
    is_open: bool,
    answers: usize,
    /// When something last came of it, at first: when it was begun.
    heard_micros: u64,
}

/// What has become of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It goes on.
    Goes,
    /// It has ended, as it should or after some service.
    Ended,
    /// It has ended without having been of use: better not to try again at once.
    Failed,
}

impl<D: Dialogue> Client<D> {
    pub(crate) fn new(dialogue: D, ip: Option<IpAddr>, tls: Option<TlsClient>) -> Self {
        Self {
            dialogue,
            ip,
            tls,
            connection: None,
        }
    }

    pub(crate) fn has_connection(&self) -> bool {
        self.connection.is_some()
    }

    /// Whether requests may be sent.
    pub(crate) fn is_open(&self) -> bool {
        let connection = self.connection.as_ref();
        connection.is_some_and(|connection| connection.is_open)
    }

    /// Begins to connect.
    pub(crate) fn open(
        &mut self,
        options: &ClientOptions,
        now_micros: u64,
        token: Token,
        registry: &Registry,
    ) -> io::Result<()> {
        let mut transport = Transport::open(options.server, self.ip, self.tls.as_ref())?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(transport.stream_mut(), token, interest)?;
        self.connection = Some(Connection {
            transport,
            is_established: false,
            is_open: false,
            answers: 0,
            heard_micros: now_micros,
        });
        Ok(())
    }

    /// Sends requests that have been noted as sent.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.connection {
            Some(connection) => connection.transport.write(bytes),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Sends and reads what can be.
    pub(crate) fn exchange(
        &mut self,
        now_micros: u64,
        has_ended: bool,
        scratch: &mut Scratch,
        shared: &mut Shared<D>,
    ) -> io::Result<Reading> {
        let (dialogue, Some(connection)) = (&mut self.dialogue, &mut self.connection) else {
            return Ok(Reading::Paused);
        };
        let transport = &mut connection.transport;
        transport.flush()?;
        let reading = transport.read(has_ended, scratch, |bytes| {
            let answers = dialogue.receive(shared, now_micros, bytes);
            connection.answers += answers.map_err(|_| io::ErrorKind::InvalidData)?;
            connection.heard_micros = now_micros;
            Ok(())
        });
        if !connection.is_established && transport.is_ready() {
            connection.is_established = true;
            dialogue.greet(shared);
        }
        if !shared.out.is_empty() {
            transport.write(&shared.out)?;
            shared.out.clear();
        }
        if !connection.is_open && connection.is_established && dialogue.is_greeted() {
            connection.is_open = true;
            let counts = &mut shared.tally.connections;
            counts.opened += 1;
            match transport.handshake() {
                Some(HandshakeKind::Resumed) => counts.resumed_handshakes += 1,
                Some(_) => counts.full_handshakes += 1,
                None => {}
            }
        }
        reading
    }

    /// The connection has ended, be it by an error.
    pub(crate) fn end(
        &mut self,
        now_micros: u64,
        error: Option<&io::Error>,
        shared: &mut Shared<D>,
    ) -> Outcome {
        let is_protocol_error =
            error.is_some_and(|error| error.kind() == io::ErrorKind::InvalidData);
        if !is_protocol_error {
            self.dialogue.ended(shared, now_micros);
        }
        let may_end = is_protocol_error || self.dialogue.is_settled();
        self.dialogue.give_up(shared);
        if let Some(error) = error {
            log::debug!("a connection has ended: {error}");
        }
        match self.connection.take() {
            Some(connection) if connection.is_open => {
                if !may_end {
                    shared.tally.error(Fault::ClosedEarly, now_micros);
                }
                if connection.answers > 0 && !is_protocol_error {
                    return Outcome::Ended;
                }
            }
            _ => shared.tally.error(Fault::ConnectFailed, now_micros),
        }
        Outcome::Failed
    }

    /// Gives up what takes too long.
    pub(crate) fn expire(
        &mut self,
        options: &ClientOptions,
        now_micros: u64,
        shared: &mut Shared<D>,
    ) -> Outcome {
        let Some(connection) = &self.connection else {
            return Outcome::Goes;
        };
        let is_over = |since_micros: u64, limit_micros| {
            now_micros.saturating_sub(since_micros) > limit_micros
        };
        let is_kept = options.keep_alive && self.dialogue.stays_open();
        let heard_micros = connection.heard_micros;
        let fault = match self.dialogue.oldest_micros() {
            Some(due_micros) if is_over(due_micros, options.lost_after_micros) => {
                (!connection.is_open).then_some(Fault::ConnectFailed)
            }
            None if !connection.is_open && is_over(heard_micros, options.lost_after_micros) => {
                Some(Fault::ConnectFailed)
            }
            None if connection.answers > 0
                && !is_kept
                && is_over(heard_micros, options.late_after_micros) =>
            {
                Some(Fault::NotClosed)
            }
            _ => return Outcome::Goes,
        };
        if let Some(fault) = fault {
            shared.tally.error(fault, now_micros);
        }
        self.dialogue.give_up(shared);
        self.connection = None;
        Outcome::Failed
    }
}

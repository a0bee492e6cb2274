//! A client: one connection after the other, from one address, for some peers.

use std::io;
use std::net::IpAddr;
use std::ops::Range;

use mio::{Interest, Registry, Token};
use rustls::HandshakeKind;

use crate::exchange::Exchange;
use crate::kinds::{Asked, ConnectionCounts, Fault, Tally};
use crate::tls::TlsClient;
use crate::transport::{Reading, Scratch, Transport};
use crate::worker::Rules;

/// What stays from connection to connection, and the present one.
pub(crate) struct Client {
    pub(crate) exchange: Exchange,
    /// Numbers of the peers that it speaks for: a peer's address must not change.
    pub(crate) peers: Range<u32>,
    ip: Option<IpAddr>,
    tls: Option<TlsClient>,
    connection: Option<Connection>,
}

struct Connection {
    transport: Transport,
    /// TCP and TLS are established.
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

impl Client {
    pub(crate) fn new(
        ip: Option<IpAddr>,
        peers: Range<u32>,
        tls: Option<TlsClient>,
        rules: &Rules,
    ) -> Self {
        Self {
            exchange: Exchange::new(rules.late_after_micros),
            peers,
            ip,
            tls,
            connection: None,
        }
    }

    pub(crate) fn has_connection(&self) -> bool {
        self.connection.is_some()
    }

    /// Whether the connection is established.
    pub(crate) fn is_open(&self) -> bool {
        let connection = self.connection.as_ref();
        connection.is_some_and(|connection| connection.is_open)
    }

    /// Begins to connect.
    pub(crate) fn open(
        &mut self,
        rules: &Rules,
        now_micros: u64,
        token: Token,
        registry: &Registry,
    ) -> io::Result<()> {
        let mut transport = Transport::open(rules.server, self.ip, self.tls.as_ref())?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(transport.stream_mut(), token, interest)?;
        self.connection = Some(Connection {
            transport,
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
        tally: &mut Tally,
        counts: &mut ConnectionCounts,
    ) -> io::Result<Reading> {
        let (exchange, Some(connection)) = (&mut self.exchange, &mut self.connection) else {
            return Ok(Reading::Paused);
        };
        let transport = &mut connection.transport;
        transport.flush()?;
        let reading = transport.read(has_ended, scratch, |bytes| {
            let answers = exchange.receive(now_micros, bytes, tally);
            connection.answers += answers.map_err(|_| io::ErrorKind::InvalidData)?;
            connection.heard_micros = now_micros;
            Ok(())
        });
        if !connection.is_open && transport.is_ready() {
            connection.is_open = true;
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
        tally: &mut Tally,
    ) -> Outcome {
        let is_garbled = error.is_some_and(|error| error.kind() == io::ErrorKind::InvalidData);
        let lost = if is_garbled {
            self.exchange.give_up(tally)
        } else {
            self.exchange.ended(now_micros, tally)
        };
        if let Some(error) = error {
            log::debug!("a connection has ended: {error}");
        }
        match self.connection.take() {
            Some(connection) if connection.is_open => {
                if lost > 0 && !is_garbled {
                    tally.error(Fault::ClosedEarly, now_micros);
                }
                if connection.answers > 0 && !is_garbled {
                    return Outcome::Ended;
                }
            }
            _ => tally.error(Fault::ConnectFailed, now_micros),
        }
        Outcome::Failed
    }

    /// Gives up what takes too long.
    pub(crate) fn expire(&mut self, rules: &Rules, now_micros: u64, tally: &mut Tally) -> Outcome {
        let Some(connection) = &self.connection else {
            return Outcome::Goes;
        };
        let is_over = |since_micros: u64, limit_micros| {
            now_micros.saturating_sub(since_micros) > limit_micros
        };
        let is_kept = rules.keep_alive && self.exchange.stays_open();
        let heard_micros = connection.heard_micros;
        let fault = match self.exchange.oldest_micros() {
            Some(due_micros) if is_over(due_micros, rules.lost_after_micros) => {
                (!connection.is_open).then_some(Fault::ConnectFailed)
            }
            None if !connection.is_open && is_over(heard_micros, rules.lost_after_micros) => {
                Some(Fault::ConnectFailed)
            }
            None if connection.answers > 0
                && !is_kept
                && is_over(heard_micros, rules.late_after_micros) =>
            {
                Some(Fault::NotClosed)
            }
            _ => return Outcome::Goes,
        };
        if let Some(fault) = fault {
            tally.error(fault, now_micros);
        }
        self.exchange.give_up(tally);
        self.connection = None;
        Outcome::Failed
    }

    /// Notes a request that is about to be written.
    pub(crate) fn sent(&mut self, asked: Asked, tally: &mut Tally) {
        self.exchange.sent(asked, tally);
    }
}

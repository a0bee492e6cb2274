//! The way of bytes from the socket to the session.
//!
//! Socket → PROXY header → TLS → session; the first two only if they are configured. Each takes
//! what it can use, and the rest goes on or is kept.

use std::mem;

use aquatic_daemon::clock::Now;
use rustls::HandshakeKind;

use super::Hub;
use crate::connection::{InputEnd, Stage, Turn};
use crate::{
    Bounds, Client, Closed, ConnectionId, Handler, Handshake, READ_BYTES_MAX, proxy_header,
};

/// Decrypted bytes that the scratch buffer keeps room for.
const PLAIN_BYTES_KEPT: usize = 64 * 1024;

impl<H: Handler> Hub<H> {
    /// Takes bytes that have come, and changes them if they are encrypted.
    pub fn receive(&mut self, now: Now, id: ConnectionId, bytes: &mut [u8]) {
        self.connections.now = now;
        if let Some(connection) = self.connections.get(id) {
            let received = self.counters.received_bytes.get(connection.family);
            received.add(bytes.len());
            self.take(id, bytes);
            self.connections.recount(id);
        }
    }

    fn take(&mut self, id: ConnectionId, bytes: &mut [u8]) {
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        if let Stage::Lingering { read_bytes } = &mut connection.stage {
            *read_bytes += bytes.len();
            // The next ones might be too many.
            if *read_bytes + READ_BYTES_MAX > Bounds::LINGER_BYTES_MAX {
                self.connections.end(id, Closed::BySession);
            }
            return;
        }
        if connection.closes || connection.ended.is_some() && !connection.takes_rest {
            connection.has_unread = true;
            return;
        }
        match connection.stage {
            Stage::Header(client) => {
                connection.input.extend(bytes);
                self.take_header(id, client);
            }
            Stage::Handshake(_) => self.take_encrypted(id, bytes),
            Stage::Open(_) if connection.tls.is_some() => self.take_encrypted(id, bytes),
            Stage::Open(_) => self.offer(id, bytes),
            Stage::Lingering { .. } => {}
        }
    }

    fn take_header(&mut self, id: ConnectionId, proxy: Client) {
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        let header = match proxy_header::parse(connection.input.bytes()) {
            Ok(None) => return,
            Ok(Some(header)) => header,
            Err(error) => {
                log::debug!("{}: {error}", proxy.peer);
                self.connections.end(id, Closed::ProxyHeader);
                return;
            }
        };
        let mut input = connection.input.take();
        let client = header.addresses.map_or(proxy, |addresses| Client {
            peer: addresses.source,
            local: addresses.destination.get(),
            ..proxy
        });
        connection.family = client.peer.family();
        self.count_active(proxy.peer.family(), false);
        self.count_active(client.peer.family(), true);
        match self.count_client(client.peer.ip()) {
            Ok(is_counted) => self.begin(id, client, is_counted),
            Err(why) => {
                self.counters.refused.of(why).add(1);
                self.connections.end(id, Closed::Refused);
                return;
            }
        }
        match input.get_mut(header.size..) {
            Some(rest) if !rest.is_empty() => self.take(id, rest),
            _ => {}
        }
    }

    fn take_encrypted(&mut self, id: ConnectionId, bytes: &mut [u8]) {
        let now = self.connections.now;
        let (Some(connection), Some(acceptor)) = (self.connections.get(id), &mut self.tls) else {
            return;
        };
        if let (Stage::Handshake(client), None) = (&connection.stage, &connection.tls)
            && let Err(why) = self.admission.charge(now, client.peer.ip())
        {
            self.counters.refused.of(why).add(1);
            self.connections.end(id, Closed::Refused);
            return;
        }
        // Not before the first bytes: a connection that sends nothing costs little.
        let tls = match &mut connection.tls {
            Some(tls) => tls,
            tls @ None => match acceptor.accept() {
                Ok(new) => tls.insert(Box::new(new)),
                Err(error) => return self.fail_encrypted(id, &error),
            },
        };
        let mut plain = mem::take(&mut self.plain);
        let received = match tls.receive(bytes, &mut plain, &mut connection.output) {
            Ok(received) => received,
            Err(error) => {
                plain.clear();
                self.plain = plain;
                return self.fail_encrypted(id, &error);
            }
        };
        self.connections.after_output(id, None);
        if let Some(kind) = received.established {
            self.establish(id, kind);
        }
        if !plain.is_empty() {
            self.offer(id, &plain);
        }
        if plain.capacity() <= PLAIN_BYTES_KEPT {
            plain.clear();
            self.plain = plain;
        }
        if received.ended {
            self.end_input(id);
        }
    }

    fn establish(&mut self, id: ConnectionId, kind: HandshakeKind) {
        self.counters.handshakes.of(kind.into()).add(1);
        if let Some(connection) = self.connections.get(id)
            && let Stage::Handshake(client) = connection.stage
        {
            self.open(id, client);
        }
    }

    fn fail_encrypted(&mut self, id: ConnectionId, error: &rustls::Error) {
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        if let Stage::Handshake(client) = connection.stage {
            self.counters.handshakes.of(Handshake::Failed).add(1);
            log::debug!("{}: TLS handshake failed: {error}", client.peer);
        }
        self.connections.end(id, Closed::Tls);
    }

    /// Offers the session what it has not taken so far and what has come now. What the connection
    /// holds then is not [counted](crate::Connections).
    pub(super) fn offer(&mut self, id: ConnectionId, bytes: &[u8]) {
        let reading_max = self.connections.bounds.output_bytes_reading_max();
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        if connection.ended.is_some_and(|why| why != Closed::BySession) {
            // The client has gone: what is kept of it is shown to the handler at the end.
            if connection.takes_rest {
                connection.input.extend(bytes);
            }
            return;
        }
        if connection.pending() > reading_max {
            connection.input.extend(bytes);
            connection.turn = Turn::AfterOutput;
            return;
        }
        connection.turn = Turn::None;
        if connection.input.is_empty() {
            let taken = self.call(id, bytes);
            self.keep(id, bytes.get(taken..).unwrap_or_default().to_vec());
        } else {
            let mut input = connection.input.take();
            input.extend_from_slice(bytes);
            let taken = self.call(id, &input);
            input.drain(..taken.min(input.len()));
            if input.capacity() > 2 * input.len() + READ_BYTES_MAX {
                input.shrink_to_fit();
            }
            self.keep(id, input);
        }
    }

    fn call(&mut self, id: ConnectionId, bytes: &[u8]) -> usize {
        let (handler, now) = (&mut self.handler, self.connections.now);
        let taken = self.connections.call(id, |session, io| {
            handler.receive(now, id, session, bytes, io)
        });
        taken.unwrap_or(0)
    }

    fn keep(&mut self, id: ConnectionId, input: Vec<u8>) {
        if input.is_empty() {
            return;
        }
        if let Some(connection) = self.connections.get(id) {
            if connection.is_open() {
                connection.input.replace(input);
            } else {
                connection.has_unread = true;
            }
        }
    }

    /// The client has closed its sending half.
    pub fn read_ended(&mut self, now: Now, id: ConnectionId) {
        self.connections.now = now;
        self.end_input(id);
    }

    fn end_input(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        if connection.input_ended() {
            return;
        }
        connection.input_end = InputEnd::Reached;
        if let Stage::Open(_) = connection.stage {
            self.tell_end(id);
        } else {
            self.connections.end(id, Closed::ByClient);
        }
        self.connections.recount(id);
    }

    /// Tells the session of the end of the input, if it has been reached and nothing that came
    /// before still waits for us. What the connection holds then is not counted.
    pub(super) fn tell_end(&mut self, id: ConnectionId) {
        let (handler, now) = (&mut self.handler, self.connections.now);
        if let Some(connection) = self.connections.get(id)
            && connection.input_end == InputEnd::Reached
            && connection.turn == Turn::None
        {
            connection.input_end = InputEnd::Told;
            self.connections
                .call(id, |session, io| handler.input_ended(now, id, session, io));
        }
    }
}

impl From<HandshakeKind> for Handshake {
    fn from(kind: HandshakeKind) -> Self {
        match kind {
            HandshakeKind::Resumed => Self::Resumed,
            HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest => Self::Full,
        }
    }
}

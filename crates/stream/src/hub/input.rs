//! The way of bytes from the socket to the session.
//!
//! Socket → PROXY header → TLS → session; the first two only if they are configured. Each takes
//! what it can use, and the rest goes on or is kept.

use std::mem;

use aquatic_daemon::clock::Now;
use rustls::HandshakeKind;

use super::{Hub, Layers};
use crate::bounds::{Bounds, READ_CHUNK_BYTES};
use crate::connection::{Connection, Ending, InputEnd, Phase, Turn};
use crate::connections::Cx;
use crate::counters::{Closed, Handshake};
use crate::handler::{Client, ConnectionKey, Handler};
use crate::proxy_header;

/// Decrypted bytes that the scratch buffer keeps room for.
const PLAIN_BYTES_KEPT: usize = 64 * 1024;

impl<H: Handler> Hub<H> {
    /// Takes bytes that have come, and changes them if they are encrypted.
    pub fn receive(&mut self, now: Now, key: ConnectionKey, bytes: &mut [u8]) {
        if let Some((connection, mut cx)) = self.table.enter(now, key) {
            let received = self.layers.counters.received_bytes.get(connection.family);
            received.add(bytes.len());
            self.layers.take(connection, &mut cx, bytes);
            connection.recount(&mut cx);
            self.table.keep_in_bounds(now);
        }
        self.check(key);
    }

    /// The client has closed its sending half.
    pub fn read_ended(&mut self, now: Now, key: ConnectionKey) {
        if let Some((connection, mut cx)) = self.table.enter(now, key) {
            self.layers.end_input(connection, &mut cx);
            connection.recount(&mut cx);
            self.table.keep_in_bounds(now);
        }
        self.check(key);
    }
}

impl<H: Handler> Layers<H> {
    fn take(&mut self, connection: &mut Connection<H::Session>, cx: &mut Cx<'_>, bytes: &mut [u8]) {
        match &mut connection.phase {
            Phase::ProxyHeader(client) => {
                let client = *client;
                connection.input.extend(bytes);
                self.take_header(connection, cx, client);
            }
            Phase::Lingering { read_bytes } => {
                *read_bytes += bytes.len();
                // The next ones might be too many.
                if *read_bytes + READ_CHUNK_BYTES > Bounds::LINGER_BYTES_MAX {
                    connection.end(cx, Closed::BySession);
                }
            }
            Phase::Handshake(_) => self.take_encrypted(connection, cx, bytes),
            Phase::Open { .. }
            | Phase::Ended {
                ending: Ending::Abandoned { takes_rest: true },
                ..
            } => {
                if connection.tls.is_some() {
                    self.take_encrypted(connection, cx, bytes);
                } else {
                    self.offer(connection, cx, bytes);
                }
            }
            Phase::Draining { has_unread, .. } | Phase::Ended { has_unread, .. } => {
                *has_unread = true;
            }
            Phase::Gone => {}
        }
    }

    fn take_header(
        &mut self,
        connection: &mut Connection<H::Session>,
        cx: &mut Cx<'_>,
        proxy: Client,
    ) {
        let header = match proxy_header::parse(connection.input.bytes()) {
            Ok(None) => return,
            Ok(Some(header)) => header,
            Err(error) => {
                log::debug!("{}: {error}", proxy.peer);
                return connection.end(cx, Closed::ProxyHeader);
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
        match self.count_client(cx.now, client.peer.ip()) {
            Ok(is_counted) => self.begin(connection, cx, client, is_counted),
            Err(why) => {
                self.counters.refused.of(why).add(1);
                return connection.end(cx, Closed::Refused);
            }
        }
        match input.get_mut(header.size..) {
            Some(rest) if !rest.is_empty() => self.take(connection, cx, rest),
            _ => {}
        }
    }

    fn take_encrypted(
        &mut self,
        connection: &mut Connection<H::Session>,
        cx: &mut Cx<'_>,
        bytes: &mut [u8],
    ) {
        let Some(acceptor) = &mut self.tls else {
            return;
        };
        if let (Phase::Handshake(client), None) = (&connection.phase, &connection.tls)
            && let Err(why) = self.admission.charge(cx.now, client.peer.ip())
        {
            self.counters.refused.of(why).add(1);
            return connection.end(cx, Closed::Refused);
        }
        // Not before the first bytes: a connection that sends nothing costs little.
        let tls = match &mut connection.tls {
            Some(tls) => tls,
            tls @ None => match acceptor.accept() {
                Ok(new) => tls.insert(Box::new(new)),
                Err(error) => return self.fail_encrypted(connection, cx, &error),
            },
        };
        let mut plain = mem::take(&mut self.plain);
        let received = match tls.receive(bytes, &mut plain, &mut connection.output) {
            Ok(received) => received,
            Err(error) => {
                plain.clear();
                self.plain = plain;
                return self.fail_encrypted(connection, cx, &error);
            }
        };
        connection.after_output(cx, false);
        if let Some(kind) = received.established {
            self.establish(connection, cx, kind);
        }
        if !plain.is_empty() {
            self.offer(connection, cx, &plain);
        }
        if plain.capacity() <= PLAIN_BYTES_KEPT {
            plain.clear();
            self.plain = plain;
        }
        if received.ended {
            self.end_input(connection, cx);
        }
    }

    fn establish(
        &mut self,
        connection: &mut Connection<H::Session>,
        cx: &mut Cx<'_>,
        kind: HandshakeKind,
    ) {
        self.counters.handshakes.of(kind.into()).add(1);
        if let Phase::Handshake(client) = connection.phase {
            self.open(connection, cx, client);
        }
    }

    fn fail_encrypted(
        &mut self,
        connection: &mut Connection<H::Session>,
        cx: &mut Cx<'_>,
        error: &rustls::Error,
    ) {
        if let Phase::Handshake(client) = &connection.phase {
            self.counters.handshakes.of(Handshake::Failed).add(1);
            log::debug!("{}: TLS handshake failed: {error}", client.peer);
        }
        connection.end(cx, Closed::Tls);
    }

    /// Offers the session what it has not taken so far and what has come now. What the connection
    /// holds then is not [counted](Connection::recount).
    pub(super) fn offer(
        &mut self,
        connection: &mut Connection<H::Session>,
        cx: &mut Cx<'_>,
        bytes: &[u8],
    ) {
        if !connection.is_open() {
            connection.keep_unheard(bytes);
            return;
        }
        if connection.pending() > cx.shared.bounds.output_bytes_reading_max() {
            connection.input.extend(bytes);
            connection.turn = Turn::AfterOutput;
            return;
        }
        connection.turn = Turn::None;
        if connection.input.is_empty() {
            let taken = self.call(connection, cx, bytes);
            connection.keep(bytes.get(taken..).unwrap_or_default().to_vec());
        } else {
            let mut input = connection.input.take();
            input.extend_from_slice(bytes);
            let taken = self.call(connection, cx, &input);
            input.drain(..taken.min(input.len()));
            if input.capacity() > 2 * input.len() + READ_CHUNK_BYTES {
                input.shrink_to_fit();
            }
            connection.keep(input);
        }
    }

    fn call(
        &mut self,
        connection: &mut Connection<H::Session>,
        cx: &mut Cx<'_>,
        bytes: &[u8],
    ) -> usize {
        let (handler, now, key) = (&mut self.handler, cx.now, cx.key);
        let taken = connection.call(cx, |session, io| {
            handler.receive(now, key, session, bytes, io)
        });
        taken.unwrap_or(0)
    }

    fn end_input(&mut self, connection: &mut Connection<H::Session>, cx: &mut Cx<'_>) {
        if connection.input_ended() {
            return;
        }
        connection.input_end = InputEnd::Reached;
        match connection.phase {
            Phase::Open { .. } => self.tell_end(connection, cx),
            Phase::Draining { .. } | Phase::Ended { .. } | Phase::Gone => {}
            Phase::ProxyHeader(_) | Phase::Handshake(_) | Phase::Lingering { .. } => {
                connection.end(cx, Closed::ByClient);
            }
        }
    }

    /// Tells the session of the end of the input, if it has been reached and nothing that came
    /// before still waits for us. What the connection holds then is not counted.
    pub(super) fn tell_end(&mut self, connection: &mut Connection<H::Session>, cx: &mut Cx<'_>) {
        if connection.input_end == InputEnd::Reached && connection.turn == Turn::None {
            connection.input_end = InputEnd::Told;
            let (handler, now, key) = (&mut self.handler, cx.now, cx.key);
            connection.call(cx, |session, io| handler.input_ended(now, key, session, io));
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

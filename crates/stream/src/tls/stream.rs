//! One encrypted connection. Bytes in, bytes out; nothing is kept but incomplete records.

use std::mem;

use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{Error, HandshakeKind, InvalidMessage};

/// Plain bytes in one record at most.
const RECORD_PLAIN_BYTES_MAX: usize = 16 * 1024;

/// What a record adds to them at most: header 5, explicit nonce 8, content type 1, tag 16.
const RECORD_OVERHEAD_BYTES: usize = 32;

/// Plain bytes of an alert.
const ALERT_BYTES: usize = 2;

/// Bytes that wait for the rest of a record or of a message of the handshake, at most. Clients have
/// no reason to send handshake messages of more than a few KiB, and records have less than 17;
/// rustls would wait for 64 KiB, with six times as many bytes around them if that is what comes.
const KEPT_BYTES_MAX: usize = 32 * 1024;

/// The encrypted side of a connection.
pub(crate) struct TlsStream {
    session: UnbufferedServerConnection,
    /// A record that is not complete yet.
    kept: Vec<u8>,
    /// Which certificate it uses: see [`TlsConfig`](super::TlsConfig).
    pub(crate) generation: u32,
    is_established: bool,
}

/// What has been learned from the bytes received.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Received {
    /// The handshake has been completed by them.
    pub(crate) established: Option<HandshakeKind>,
    /// The client has said that it will send nothing more.
    pub(crate) ended: bool,
}

impl TlsStream {
    pub(crate) fn new(session: UnbufferedServerConnection, generation: u32) -> Self {
        Self {
            session,
            kept: Vec::new(),
            generation,
            is_established: false,
        }
    }

    /// Bytes that are allocated for a record or a handshake message that is not complete. rustls'
    /// own state comes on top, some 4 KiB.
    pub(crate) fn held_bytes(&self) -> usize {
        self.kept.capacity()
    }

    /// Takes bytes from the wire, which are changed. Appends what they say to `plain`, and what is
    /// to be answered to `out`: after an error that is the alert, and the connection is done.
    pub(crate) fn receive(
        &mut self,
        bytes: &mut [u8],
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<Received, Error> {
        let mut received = Received::default();
        if self.kept.len() > KEPT_BYTES_MAX {
            return Err(Error::InvalidMessage(
                InvalidMessage::HandshakePayloadTooLarge,
            ));
        }
        if self.kept.is_empty() {
            let used = self.process(bytes, plain, out, &mut received)?;
            self.kept = bytes.get(used..).unwrap_or_default().to_vec();
        } else {
            let mut kept = mem::take(&mut self.kept);
            kept.extend_from_slice(bytes);
            let used = self.process(&mut kept, plain, out, &mut received)?;
            if used < kept.len() {
                kept.drain(..used);
                self.kept = kept;
            }
        }
        Ok(received)
    }

    /// Processes what is complete in `bytes`, and returns how many that were.
    fn process(
        &mut self,
        bytes: &mut [u8],
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
        received: &mut Received,
    ) -> Result<usize, Error> {
        let mut used = 0;
        let result = loop {
            let rest = bytes.get_mut(used..).unwrap_or_default();
            let UnbufferedStatus { discard, state } = self.session.process_tls_records(rest);
            used += discard;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        used += record.discard;
                        plain.extend_from_slice(record.payload);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => encode(out, |to| data.encode(to)),
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => received.ended = true,
                // The rest of a record or of the handshake, or all that there was.
                Ok(_) => break Ok(used),
                Err(error) => break Err(error),
            }
        };
        if result.is_err() {
            self.write_last_words(out);
        }
        if !self.is_established && !self.session.is_handshaking() {
            self.is_established = true;
            received.established = self.session.handshake_kind();
        }
        result
    }

    /// Appends the alert after an error, behind what was to be sent before it: without that, the
    /// client could not decrypt the alert.
    fn write_last_words(&mut self, out: &mut Vec<u8>) {
        // What waits to be sent comes out before any input is looked at. Without input, rustls must
        // not get further than that: it would look for the part of a handshake message that it has
        // seen before, and panic.
        while self.session.wants_write() {
            match self.session.process_tls_records(&mut []).state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => encode(out, |to| data.encode(to)),
                _ => break,
            }
        }
    }

    /// Appends `plain` to `out`, encrypted, and if it is the last, the message that says so.
    pub(crate) fn send(
        &mut self,
        plain: &[u8],
        is_last: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        if !plain.is_empty() {
            let records = plain.len() / RECORD_PLAIN_BYTES_MAX + 1;
            let bytes_max = plain.len() + records * RECORD_OVERHEAD_BYTES;
            self.write(out, bytes_max, |session, to| session.encrypt(plain, to))?;
        }
        if is_last {
            let bytes_max = ALERT_BYTES + RECORD_OVERHEAD_BYTES;
            self.write(out, bytes_max, |session, to| session.queue_close_notify(to))?;
        }
        Ok(())
    }

    /// Appends what `encrypt` writes, for which this many bytes are enough as a rule.
    fn write(
        &mut self,
        out: &mut Vec<u8>,
        mut bytes_max: usize,
        mut encrypt: impl FnMut(&mut WriteTraffic<'_>, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> Result<(), Error> {
        loop {
            // What is kept must be shown again, although nothing in it is complete.
            match self.session.process_tls_records(&mut self.kept).state? {
                ConnectionState::EncodeTlsData(mut data) => encode(out, |to| data.encode(to)),
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::PeerClosed => {}
                ConnectionState::WriteTraffic(mut traffic) => {
                    let start = out.len();
                    out.resize(start + bytes_max, 0);
                    let to = out.get_mut(start..).unwrap_or_default();
                    let written = encrypt(&mut traffic, to);
                    out.truncate(start + *written.as_ref().unwrap_or(&0));
                    match written {
                        Ok(_) => return Ok(()),
                        // New keys have to be announced first.
                        Err(EncryptError::InsufficientSize(more))
                            if more.required_size > bytes_max =>
                        {
                            bytes_max = more.required_size;
                        }
                        Err(_) => return Err(Error::EncryptError),
                    }
                }
                // Closed on both sides: there is no one to send to.
                _ => return Ok(()),
            }
        }
    }
}

type WriteTraffic<'a> = rustls::unbuffered::WriteTraffic<'a, rustls::server::ServerConnectionData>;

/// Appends a message of the handshake.
fn encode(out: &mut Vec<u8>, mut write: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>) {
    if let Err(EncodeError::InsufficientSize(needed)) = write(&mut []) {
        let start = out.len();
        out.resize(start + needed.required_size, 0);
        if let Some(to) = out.get_mut(start..) {
            // There is room now, and each message is written once.
            let written = write(to);
            debug_assert!(written.is_ok(), "{written:?}");
        }
    }
}

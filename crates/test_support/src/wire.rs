//! What a simulated client sends, as it goes over a wire that cuts it into pieces: plain, or
//! encrypted by a real client of TLS.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind};

/// The name in every certificate of simulations.
pub const NAME: &str = "tracker.example";

/// Plain bytes of a record: so few that several records come together, and that a request can be
/// spread over several.
const RECORD_BYTES_MAX: usize = 700;

/// A client's end of a connection.
pub struct Wire {
    /// Bytes that have not been delivered, or with TLS not been encrypted.
    unsent: VecDeque<u8>,
    /// Plain bytes that have been delivered.
    delivered: usize,
    tls: Option<Box<Tls>>,
}

struct Tls {
    session: ClientConnection,
    /// Encrypted bytes that have not been delivered.
    bytes: VecDeque<u8>,
    /// How many there have been, and how many of them have been delivered.
    made: usize,
    taken: usize,
    /// Where records end that have not been delivered: in encrypted and in plain bytes.
    records: VecDeque<(usize, usize)>,
    /// Plain bytes that have been encrypted.
    encrypted: usize,
    /// Which certificate was in force when the first byte was delivered.
    began: Option<usize>,
    is_established: bool,
}

/// A handshake that is complete.
#[derive(Clone, Debug)]
pub struct Handshake {
    /// Which certificate was in force when its first byte was delivered.
    pub began: usize,
    /// The certificate that the client was shown; if it resumes a session, in that.
    pub shown: CertificateDer<'static>,
    /// Whether it resumes a session.
    pub kind: HandshakeKind,
}

impl Default for Wire {
    fn default() -> Self {
        Self::plain()
    }
}

impl Wire {
    /// Without encryption.
    #[must_use]
    pub fn plain() -> Self {
        Self {
            unsent: VecDeque::new(),
            delivered: 0,
            tls: None,
        }
    }

    /// With TLS. The handshake begins when the first bytes are [delivered](Self::take).
    #[must_use]
    pub fn encrypted(config: &Arc<ClientConfig>) -> Self {
        let name = ServerName::try_from(NAME).unwrap();
        let mut tls = Tls {
            session: ClientConnection::new(Arc::clone(config), name).unwrap(),
            bytes: VecDeque::new(),
            made: 0,
            taken: 0,
            records: VecDeque::new(),
            encrypted: 0,
            began: None,
            is_established: false,
        };
        tls.write();
        Self {
            tls: Some(Box::new(tls)),
            ..Self::plain()
        }
    }

    /// Sends bytes: they are delivered when they are [taken](Self::take).
    pub fn send(&mut self, bytes: &[u8]) {
        self.unsent.extend(bytes);
        if let Some(tls) = &mut self.tls {
            tls.encrypt(&mut self.unsent);
        }
    }

    /// Takes the next bytes to deliver. `certificate` is the one that is in force.
    pub fn take(&mut self, bytes_max: usize, certificate: usize) -> Vec<u8> {
        let Some(tls) = &mut self.tls else {
            let size = self.unsent.len().min(bytes_max);
            self.delivered += size;
            return self.unsent.drain(..size).collect();
        };
        let size = tls.bytes.len().min(bytes_max);
        if size > 0 {
            tls.began.get_or_insert(certificate);
        }
        tls.taken += size;
        while let Some((end, plain)) = tls.records.front()
            && *end <= tls.taken
        {
            self.delivered = *plain;
            tls.records.pop_front();
        }
        tls.bytes.drain(..size).collect()
    }

    /// Whether there is something to deliver.
    #[must_use]
    pub fn has_next(&self) -> bool {
        let tls = self.tls.as_ref();
        !tls.map_or(&self.unsent, |tls| &tls.bytes).is_empty()
    }

    /// Whether there is something to deliver, now or when the handshake has gone on.
    #[must_use]
    pub fn has_unsent(&self) -> bool {
        let is_established = self.tls.as_ref().is_none_or(|tls| tls.is_established);
        self.has_next() || !self.unsent.is_empty() || !is_established
    }

    /// Plain bytes that have been delivered.
    #[must_use]
    pub fn delivered(&self) -> usize {
        self.delivered
    }

    /// The client falls silent.
    pub fn clear(&mut self) {
        self.unsent.clear();
        if let Some(tls) = &mut self.tls {
            tls.bytes.clear();
        }
    }

    /// The client says that it will send nothing more, if there is a way to say so.
    pub fn end(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.session.send_close_notify();
            tls.write();
        }
    }

    /// Whether there is encryption.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// Which certificate was in force when the handshake began.
    #[must_use]
    pub fn began(&self) -> Option<usize> {
        self.tls.as_ref()?.began
    }

    /// Takes bytes of the tracker. Returns those that are plain, and the handshake that is complete
    /// now.
    ///
    /// # Panics
    /// If a client would not accept them.
    pub fn receive(&mut self, bytes: &[u8]) -> (Vec<u8>, Option<Handshake>) {
        let Some(tls) = &mut self.tls else {
            return (bytes.to_vec(), None);
        };
        let plain = tls.receive(bytes);
        let handshake = tls.take_handshake();
        tls.encrypt(&mut self.unsent);
        (plain, handshake)
    }
}

impl Tls {
    /// Encrypts bytes, unless the handshake is not complete.
    fn encrypt(&mut self, unsent: &mut VecDeque<u8>) {
        if !self.is_established {
            return;
        }
        while !unsent.is_empty() {
            let size = unsent.len().min(RECORD_BYTES_MAX);
            let record: Vec<_> = unsent.drain(..size).collect();
            self.session.writer().write_all(&record).unwrap();
            self.write();
            self.encrypted += size;
            self.records.push_back((self.made, self.encrypted));
        }
    }

    fn write(&mut self) {
        let mut bytes = Vec::new();
        while self.session.wants_write() {
            self.session.write_tls(&mut bytes).unwrap();
        }
        self.made += bytes.len();
        self.bytes.extend(bytes);
    }

    fn receive(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        while !bytes.is_empty() {
            self.session.read_tls(&mut bytes).unwrap();
            let processed = self.session.process_new_packets();
            processed.unwrap_or_else(|error| panic!("what the tracker sends is no TLS: {error}"));
            match self.session.reader().read_to_end(&mut plain) {
                Ok(_) => assert!(bytes.is_empty(), "sent after the end"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        self.write();
        plain
    }

    fn take_handshake(&mut self) -> Option<Handshake> {
        if self.is_established || self.session.is_handshaking() {
            return None;
        }
        self.is_established = true;
        let shown = self.session.peer_certificates()?.first()?;
        Some(Handshake {
            began: self.began?,
            shown: shown.clone().into_owned(),
            kind: self.session.handshake_kind()?,
        })
    }
}

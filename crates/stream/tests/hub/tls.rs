//! Encrypted connections: a real client (rustls) at the other end.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::num::NonZeroU32;
use std::sync::{Arc, LazyLock};

use aquatic_daemon::request_rate::RequestRate;
use aquatic_stream::{Admission, Closed, Handshake, IoAction, Refused, TlsConfig};
use proptest::prelude::*;
use rcgen::{
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256,
    SignatureAlgorithm,
};
use rustls::crypto::cipher::{MessageEncrypter, OutboundChunks, OutboundPlainMessage};
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, ConnectionTrafficSecrets, ContentType, HandshakeKind,
    ProtocolVersion, SupportedCipherSuite,
};

use crate::pki::{Form, KeyForm, Pki, pem, pkcs1, pkcs8, sec1};
use crate::world::{BOUNDS, World, options};

pub(crate) fn world(tls: &TlsConfig) -> World {
    let mut options = options();
    options.tls = Some(tls.clone());
    World::new(options)
}

/// A client at the end of a wire.
pub(crate) struct Client {
    pub(crate) session: ClientConnection,
    pub(crate) wire: usize,
    /// How much of what was sent it has seen.
    seen: usize,
    /// Bytes that are delivered together.
    piece: usize,
    plain: Vec<u8>,
    /// Bytes that it has sent, and those of them that the network changes.
    said: usize,
    changes: Vec<(usize, u8)>,
    /// The server has said that nothing more will come.
    pub(crate) has_ended: bool,
}

impl Client {
    pub(crate) fn connect(world: &mut World, config: &Arc<ClientConfig>) -> Self {
        let name = ServerName::try_from("tracker.example").unwrap();
        Self {
            session: ClientConnection::new(Arc::clone(config), name).unwrap(),
            wire: world.connect(),
            seen: 0,
            piece: usize::MAX,
            plain: Vec::new(),
            said: 0,
            changes: Vec::new(),
            has_ended: false,
        }
    }

    /// Lets both sides speak until neither has anything to say.
    pub(crate) fn talk(&mut self, world: &mut World) -> Result<(), rustls::Error> {
        loop {
            let mut out = Vec::new();
            while self.session.wants_write() {
                self.session.write_tls(&mut out).unwrap();
            }
            for (place, byte) in &self.changes {
                if let Some(changed) = place.checked_sub(self.said).and_then(|at| out.get_mut(at)) {
                    *changed = *byte;
                }
            }
            self.said += out.len();
            for piece in out.chunks(self.piece) {
                world.receive(self.wire, piece);
            }
            let mut news = &world.wires[self.wire].sent[self.seen..];
            if out.is_empty() && news.is_empty() {
                return Ok(());
            }
            self.seen += news.len();
            while !news.is_empty() {
                self.session.read_tls(&mut news).unwrap();
                self.session.process_new_packets()?;
                self.read();
            }
        }
    }

    fn send(&mut self, world: &mut World, text: &str) {
        self.session.writer().write_all(text.as_bytes()).unwrap();
        self.talk(world).unwrap();
    }

    fn read(&mut self) {
        match self.session.reader().read_to_end(&mut self.plain) {
            Ok(_) => self.has_ended = true,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }

    pub(crate) fn received(&self) -> String {
        String::from_utf8_lossy(&self.plain).into_owned()
    }
}

/// Goes on where a client has stopped, and writes records that no client would.
struct RecordWriter {
    encrypter: Box<dyn MessageEncrypter>,
    number: u64,
}

impl RecordWriter {
    fn take_over(session: ClientConnection) -> Self {
        let Some(SupportedCipherSuite::Tls13(suite)) = session.negotiated_cipher_suite() else {
            panic!("this is for TLS 1.3");
        };
        let (number, secrets) = session.dangerous_extract_secrets().unwrap().tx;
        let (key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv }
            | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
            | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (key, iv),
            _ => panic!("an unknown algorithm"),
        };
        let mut writer = Self {
            encrypter: suite.aead_alg.encrypter(key, iv),
            number: 0,
        };
        // It insists on having written all records.
        while writer.number < number {
            writer.record(ContentType::ApplicationData, b"");
        }
        writer
    }

    fn record(&mut self, typ: ContentType, payload: &[u8]) -> Vec<u8> {
        let message = OutboundPlainMessage {
            typ,
            version: ProtocolVersion::TLSv1_2,
            payload: OutboundChunks::Single(payload),
        };
        let record = self.encrypter.encrypt(message, self.number).unwrap();
        self.number += 1;
        record.encode()
    }
}

#[test]
fn both_versions_and_any_split() {
    let pki = Pki::new();
    let mut world = world(&pki.load().unwrap());
    for version in [&TLS12, &TLS13] {
        let config = pki.client(&[version]);
        for piece in [1, 7, 100, usize::MAX] {
            let mut client = Client::connect(&mut world, &config);
            client.piece = piece;
            client.send(&mut world, "a\nb\nc");
            // An answer of several records.
            client.send(&mut world, "\nflood 35000\n");
            let expected = format!("A\nB\nC\n{}FLOOD 35000\n", "x".repeat(35_000));
            assert!(
                client.received() == expected,
                "{version:?} in pieces of {piece}"
            );
            let is_tls = world.hub.handler().opened[client.wire].1.is_tls;
            assert!(is_tls);
        }
    }
}

#[test]
fn all_forms_of_keys_are_read() {
    let pki = Pki::new();
    let forms: [(&'static SignatureAlgorithm, KeyForm); 6] = [
        (&PKCS_RSA_SHA256, pkcs8),
        (&PKCS_RSA_SHA256, pkcs1),
        (&PKCS_ECDSA_P256_SHA256, pkcs8),
        (&PKCS_ECDSA_P256_SHA256, sec1),
        (&PKCS_ECDSA_P384_SHA384, sec1),
        (&PKCS_ED25519, pkcs8),
    ];
    for (algorithm, key_form) in forms {
        for form in [Form::Pem, Form::Der] {
            pki.issue(algorithm, form, key_form);
            let mut world = world(&pki.load().unwrap());
            for version in [&TLS12, &TLS13] {
                let config = pki.client(&[version]);
                let mut client = Client::connect(&mut world, &config);
                client.send(&mut world, "a\n");
                assert_eq!(client.received(), "A\n", "{algorithm:?} {version:?}");
            }
        }
    }
}

#[test]
fn what_cannot_be_used_is_named() {
    let pki = Pki::new();
    let other = Pki::new();
    let (certificate, key) = (pki.certificate_path(), pki.key_path());
    let refusal = || pki.load().unwrap_err().to_string();

    fs::copy(other.key_path(), &key).unwrap();
    assert_eq!(
        refusal(),
        format!(
            "the private key in {} does not belong to the certificate in {}",
            key.display(),
            certificate.display()
        )
    );
    for (content, reason) in [
        ("".to_owned(), "no usable private key in"),
        ("no key".to_owned(), "no usable private key in"),
        (pem("CERTIFICATE", b"no key"), "no usable private key in"),
        (pem("PRIVATE KEY", b"no key"), "no usable private key in"),
        (pem("ENCRYPTED PRIVATE KEY", b"x"), "is encrypted"),
    ] {
        fs::write(&key, &content).unwrap();
        assert!(refusal().contains(reason), "{content}: {}", refusal());
        assert!(refusal().contains(key.to_str().unwrap()), "{}", refusal());
    }
    fs::remove_file(&key).unwrap();
    assert!(refusal().starts_with(&format!("cannot read {}", key.display())));

    pki.issue(&PKCS_ECDSA_P256_SHA256, Form::Pem, pkcs8);
    for content in [
        "",
        "no certificate",
        &pem("PRIVATE KEY", b"x"),
        &pem("CERTIFICATE", b"x"),
    ] {
        fs::write(&certificate, content).unwrap();
        let expected = format!("no usable certificate in {}", certificate.display());
        assert!(refusal().starts_with(&expected), "{content}: {}", refusal());
    }
}

#[test]
fn sessions_are_resumed_by_all_workers_and_after_a_reload() {
    let pki = Pki::new();
    let tls = pki.load().unwrap();
    for version in [&TLS12, &TLS13] {
        let config = pki.client(&[version]);
        let kind = |world: &mut World| {
            let mut client = Client::connect(world, &config);
            client.send(world, "a\n");
            assert_eq!(client.received(), "A\n");
            client.session.handshake_kind()
        };
        let (mut one, mut other) = (world(&tls), world(&tls));
        assert_eq!(kind(&mut one), Some(HandshakeKind::Full));
        assert_eq!(kind(&mut one), Some(HandshakeKind::Resumed));
        assert_eq!(kind(&mut other), Some(HandshakeKind::Resumed));
        pki.issue(&PKCS_ECDSA_P256_SHA256, Form::Pem, pkcs8);
        tls.reload().unwrap();
        assert_eq!(kind(&mut other), Some(HandshakeKind::Resumed));
        assert_eq!(one.counters.handshakes.of(Handshake::Full).get(), 1);
        assert_eq!(one.counters.handshakes.of(Handshake::Resumed).get(), 1);
        assert_eq!(other.counters.handshakes.of(Handshake::Resumed).get(), 2);
    }
}

#[test]
fn a_reload_concerns_new_connections_only() {
    let pki = Pki::new();
    let tls = pki.load().unwrap();
    let mut world = world(&tls);
    let certificate = |world: &mut World| {
        // A client without memory, so that it is shown the certificate.
        let mut client = Client::connect(world, &pki.client(&[&TLS13]));
        client.send(world, "a\n");
        let shown = client.session.peer_certificates().unwrap()[0].to_vec();
        (client, shown)
    };
    let (mut early, first) = certificate(&mut world);
    pki.issue(&PKCS_ECDSA_P256_SHA256, Form::Pem, pkcs8);
    assert_eq!(certificate(&mut world).1, first, "nobody has reloaded");
    tls.reload().unwrap();
    let (mut late, second) = certificate(&mut world);
    assert_ne!(second, first);

    fs::write(pki.key_path(), "nonsense").unwrap();
    tls.reload().unwrap_err();
    assert_eq!(certificate(&mut world).1, second, "as it was");
    early.send(&mut world, "b\n");
    assert_eq!(early.received(), "A\nB\n");

    world.hub.handler_mut().close_tls_before = Some(tls.generation());
    world.finish();
    assert_eq!(world.state(early.wire), IoAction::Close);
    early.talk(&mut world).unwrap();
    assert!(early.has_ended, "it was told");
    late.send(&mut world, "b\n");
    assert_eq!(late.received(), "A\nB\n");
}

/// It would have the old certificate for as long as it lasts.
#[test]
fn a_handshake_with_an_outdated_certificate_is_ended() {
    let pki = Pki::new();
    let tls = pki.load().unwrap();
    let mut world = world(&tls);
    let begin = |world: &mut World| {
        let mut client = Client::connect(world, &pki.client(&[&TLS13]));
        let mut hello = Vec::new();
        client.session.write_tls(&mut hello).unwrap();
        world.receive(client.wire, &hello);
        assert_eq!(world.state(client.wire), IoAction::Read);
        client
    };
    let early = begin(&mut world);
    tls.reload().unwrap();
    let mut late = begin(&mut world);
    world.hub.handler_mut().close_tls_before = Some(tls.generation());
    world.finish();
    assert_eq!(world.state(early.wire), IoAction::Close);
    late.send(&mut world, "a\n");
    assert_eq!(late.received(), "A\n");
}

#[test]
fn both_sides_can_end_a_connection() {
    let pki = Pki::new();
    let mut world = world(&pki.load().unwrap());
    for version in [&TLS12, &TLS13] {
        let config = pki.client(&[version]);
        let mut client = Client::connect(&mut world, &config);
        client.send(&mut world, "a\nquit\n");
        assert_eq!(client.received(), "A\nQUIT\n");
        assert!(client.has_ended);
        assert_eq!(world.state(client.wire), IoAction::Close);

        let mut client = Client::connect(&mut world, &config);
        client.talk(&mut world).unwrap();
        client.session.writer().write_all(b"a\n").unwrap();
        client.session.send_close_notify();
        client.talk(&mut world).unwrap();
        assert_eq!(client.received(), "A\n");
        assert!(client.has_ended);
        assert_eq!(world.state(client.wire), IoAction::Close);
    }
    let reasons: Vec<_> = world.hub.handler().closed.iter().map(|it| it.1).collect();
    assert_eq!(reasons, [Closed::BySession; 4]);
}

#[test]
fn a_handshake_that_is_none_gets_an_alert() {
    let pki = Pki::new();
    let mut world = world(&pki.load().unwrap());
    let wire = world.connect();
    world.receive(
        wire,
        b"GET /announce HTTP/1.1\r\nHost: tracker.example\r\n\r\n",
    );
    assert_eq!(world.state(wire), IoAction::Close);
    assert_eq!(world.wires[wire].sent[0], 21, "an alert");
    assert_eq!(world.counters.handshakes.of(Handshake::Failed).get(), 1);
    assert_eq!(world.counters.closed.of(Closed::Tls).get(), 1);
    assert!(world.hub.handler().opened.is_empty());
}

proptest! {
    /// A handshake in which bytes have been changed leads to an answer, an alert
    /// or patience.
    #[test]
    fn no_handshake_is_a_surprise(
        changes in prop::collection::vec((0..900_usize, any::<u8>()), 0..4),
        piece in 1..400_usize,
        fragment in prop::option::of(32..300_usize),
        is_new: bool,
    ) {
        let mut world = world(&PKI.load().unwrap());
        let config = PKI.client(&[if is_new { &TLS13 } else { &TLS12 }]);
        let mut config = Arc::unwrap_or_clone(config);
        config.max_fragment_size = fragment;
        let mut client = Client::connect(&mut world, &Arc::new(config));
        client.piece = piece;
        client.changes = changes;
        client.session.writer().write_all(b"a\n").unwrap();
        if client.talk(&mut world).is_ok() && client.changes.is_empty() {
            prop_assert_eq!(client.received(), "A\n");
        }
        prop_assert!(matches!(world.state(client.wire), IoAction::Read | IoAction::Close));
        world.pass(u64::from(BOUNDS.idle_seconds) + 1);
        prop_assert_eq!(world.state(client.wire), IoAction::Close);
        prop_assert_eq!(world.counters.active.v4.get(), 0);
    }
}

/// Making keys takes time.
static PKI: LazyLock<Pki> = LazyLock::new(Pki::new);

#[test]
fn a_handshake_is_not_waited_for() {
    let pki = Pki::new();
    let mut world = world(&pki.load().unwrap());
    let config = pki.client(&[&TLS13]);
    let mut client = Client::connect(&mut world, &config);
    let mut hello = Vec::new();
    client.session.write_tls(&mut hello).unwrap();
    let silent = world.connect();
    // A byte per second.
    for byte in &hello[..=usize::try_from(BOUNDS.handshake_seconds).unwrap()] {
        assert_eq!(world.state(client.wire), IoAction::Read);
        world.receive(client.wire, &[*byte]);
        world.pass(1);
    }
    assert_eq!(world.state(client.wire), IoAction::Close);
    assert_eq!(world.state(silent), IoAction::Close);
    assert_eq!(world.counters.closed.of(Closed::HandshakeDeadline).get(), 2);
}

#[test]
fn a_forged_record_ends_the_connection() {
    let pki = Pki::new();
    let mut world = world(&pki.load().unwrap());
    let config = pki.client(&[&TLS13]);
    let mut client = Client::connect(&mut world, &config);
    client.send(&mut world, "a\n");
    client.session.writer().write_all(b"b\n").unwrap();
    let mut record = Vec::new();
    client.session.write_tls(&mut record).unwrap();
    *record.last_mut().unwrap() ^= 1;
    world.receive(client.wire, &record);
    assert_eq!(world.state(client.wire), IoAction::Close);
    assert_eq!(world.hub.handler().closed[0].1, Closed::Tls);
    assert!(client.talk(&mut world).is_err(), "the alert says so");
    assert_eq!(world.counters.handshakes.of(Handshake::Failed).get(), 0);
}

/// Each of them costs an answer and new keys.
#[test]
fn keys_cannot_be_renewed_for_ever() {
    let pki = Pki::new();
    let mut world = world(&pki.load().unwrap());
    let config = pki.client(&[&TLS13]);
    let mut client = Client::connect(&mut world, &config);
    client.talk(&mut world).unwrap();
    for renewals in 0.. {
        assert!(renewals < 100, "a client keeps us busy with nothing");
        client.session.refresh_traffic_keys().unwrap();
        let _ = client.talk(&mut world);
        if world.state(client.wire) == IoAction::Close {
            break;
        }
    }
    assert_eq!(world.counters.closed.of(Closed::Tls).get(), 1);
}

/// A client may send empty records to hide how much it says (RFC 8446, 5.4).
#[test]
fn empty_records_are_fine_but_say_nothing() {
    let pki = Pki::new();
    let mut world = world(&pki.load().unwrap());
    let mut config = Arc::unwrap_or_clone(pki.client(&[&TLS13]));
    config.enable_secret_extraction = true;
    let config = Arc::new(config);
    let connect = |world: &mut World| {
        let mut client = Client::connect(world, &config);
        client.send(world, "a\n");
        (client.wire, RecordWriter::take_over(client.session))
    };
    let (wire, mut writer) = connect(&mut world);
    let mut empty = || writer.record(ContentType::ApplicationData, b"");
    let sent = world.wires[wire].sent.len();
    for _ in 0..20 {
        world.receive(wire, &empty());
    }
    assert_eq!(world.wires[wire].sent.len(), sent, "nobody has asked");
    let mut seconds = 0;
    while world.state(wire) != IoAction::Close {
        world.receive(wire, &empty());
        world.pass(6);
        seconds += 6;
    }
    assert!(seconds <= BOUNDS.idle_seconds + 6, "{seconds}");
    assert_eq!(world.hub.handler().closed[0].1, Closed::IdleDeadline);

    let (wire, mut writer) = connect(&mut world);
    world.receive(wire, &writer.record(ContentType::ApplicationData, b""));
    let answered = world.wires[wire].sent.len();
    world.receive(wire, &writer.record(ContentType::ApplicationData, b"b\n"));
    assert!(world.wires[wire].sent.len() > answered);
    // As many as one likes, that is a flood.
    for _ in 0..100 {
        world.receive(wire, &writer.record(ContentType::ApplicationData, b""));
    }
    assert_eq!(world.hub.handler().closed[1].1, Closed::Tls);
}

/// A connection is one request, and its handshake another.
#[test]
fn handshakes_are_charged_for() {
    let pki = Pki::new();
    let tls = pki.load().unwrap();
    let mut options = options();
    options.tls = Some(tls);
    let rate = RequestRate::new(NonZeroU32::new(10), [1, 2]);
    options.admission = Arc::new(Admission::new(0, 0).with_rate(Some(Arc::new(rate))));
    let mut world = World::new(options);
    let wires = [(); 6].map(|()| world.connect());
    let states = wires.map(|wire| {
        world.receive(wire, b"\x16\x03\x01\x02\x00\x01\x00");
        world.state(wire)
    });
    let [goes_on, closed] = [IoAction::Read, IoAction::Close];
    assert_eq!(states, [goes_on, goes_on, goes_on, goes_on, closed, closed]);
    assert_eq!(world.counters.refused.of(Refused::RequestRate).get(), 2);
    assert_eq!(world.counters.closed.of(Closed::Refused).get(), 2);
}

/// What came behind the last that was read is decrypted, too.
#[test]
fn what_a_client_that_has_gone_has_sent_is_decrypted() {
    let pki = Pki::new();
    let mut world = world(&pki.load().unwrap());
    let mut client = Client::connect(&mut world, &pki.client(&[&TLS13]));
    client.send(&mut world, "a\n");
    world.hub.handler_mut().is_stuck = true;
    client.send(&mut world, "b\nc");
    client.session.writer().write_all(b"\nd\n").unwrap();
    let mut rest = Vec::new();
    client.session.write_tls(&mut rest).unwrap();
    let wire = &mut world.wires[client.wire];
    wire.rest = rest;
    world.hub.failed(world.now, wire.id);
    world.finish();
    let abandoned = &world.hub.handler().abandoned;
    assert_eq!(
        abandoned[..],
        [(world.wires[client.wire].id, "c\nd\n".to_owned())]
    );
}

/// The parts of a message of the handshake are kept until it is whole, each with its header.
#[test]
fn a_handshake_does_not_fill_the_memory() {
    let pki = Pki::new();
    let mut world = world(&pki.load().unwrap());
    let wire = world.connect();
    // The beginning of the longest possible message, a byte per record.
    let message = [&[1, 0, 0xff, 0xf0][..], &[0; 0xffef]].concat();
    let mut received = 0;
    for byte in message {
        if world.state(wire) == IoAction::Close {
            break;
        }
        let record = [22, 3, 1, 0, 1, byte];
        world.receive(wire, &record);
        received += record.len();
    }
    assert_eq!(world.state(wire), IoAction::Close);
    assert!(received < 40_000, "{received} bytes were kept");
}

#[test]
fn a_record_that_is_not_whole_counts_as_memory() {
    let pki = Pki::new();
    let mut world = world(&pki.load().unwrap());
    let wire = world.connect();
    // The beginning of a message of the handshake, in a record of 16,000 bytes.
    let beginning = [&[22, 3, 1, 0x3e, 0x80, 1, 0, 0x3e, 0x7c][..], &[0; 10_000]].concat();
    world.receive(wire, &beginning);
    assert_eq!(world.state(wire), IoAction::Read);
    assert!(world.hub.held_bytes() >= beginning.len());
}

#[test]
fn keys_can_be_renewed_in_the_middle() {
    let pki = Pki::new();
    let mut world = world(&pki.load().unwrap());
    let config = pki.client(&[&TLS13]);
    let mut client = Client::connect(&mut world, &config);
    client.piece = 3;
    client.talk(&mut world).unwrap();
    for _ in 0..3 {
        client.session.refresh_traffic_keys().unwrap();
        client.send(&mut world, "a\n");
    }
    assert_eq!(client.received(), "A\nA\nA\n");
    // They say nothing, so they do not extend the time for a request.
    let (mut seconds, limit) = (0, BOUNDS.request_seconds + 1);
    client.send(&mut world, "incompl");
    while world.state(client.wire) != IoAction::Close {
        client.session.refresh_traffic_keys().unwrap();
        client.talk(&mut world).unwrap();
        world.pass(1);
        seconds += 1;
    }
    assert_eq!(seconds, limit);
}

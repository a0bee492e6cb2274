//! TLS: versions, tickets, files and their exchange while clients are there.

use std::sync::Arc;

use aquatic_test_support::program::localhost;
use aquatic_test_support::{Daemon, Place, Setup, metrics, torrent};
use aquatic_types::IpFamily;
use rustls::client::Resumption;
use rustls::version::{TLS12, TLS13};
use rustls::{HandshakeKind, ProtocolVersion, SupportedProtocolVersion};

use super::client::{Client, LEECHER, announce, get};
use super::connection::{Connection, Transport, tcp};
use super::identity::{Identity, TLS};
use super::setup::{HTTP, SIMPLE, on_every_runtime, runtimes};

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// A tracker with this identity, on each runtime.
fn on_each_runtime(identity: &Identity, scenario: impl Fn(Daemon)) {
    for runtime in runtimes() {
        let setup = Setup {
            runtime,
            socket_workers: 3,
            ..SIMPLE
        };
        let place = Place::new();
        identity.write(&place);
        let settings = format!("{TLS}{}", place.metrics_settings(&HTTP));
        scenario(place.start(setup, &settings));
    }
}

/// A client that trusts only this identity, if they come to an agreement.
fn connect(daemon: &Daemon, identity: &Identity) -> Result<Client, String> {
    let config = Arc::new(identity.trusted(&TLS13));
    let tcp = tcp(localhost(IpFamily::V4), daemon.address(IpFamily::V4)).unwrap();
    match Connection::with_tls(tcp, &config) {
        Ok(connection) => Ok(Client { connection }),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn both_versions_are_spoken() {
    let identity = Identity::new();
    on_each_runtime(&identity, |daemon| {
        for version in VERSIONS {
            let mut config = identity.trusted(version);
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            let tcp = tcp(localhost(IpFamily::V6), daemon.address(IpFamily::V6)).unwrap();
            let connection = Connection::with_tls(tcp, &Arc::new(config)).unwrap();
            let tls = connection.tls();
            let expected = if version.version == ProtocolVersion::TLSv1_2 {
                2
            } else {
                3
            };
            assert_eq!(
                tls.protocol_version().unwrap().as_str(),
                Some(&*format!("TLSv1_{expected}"))
            );
            assert_eq!(tls.alpn_protocol(), Some(&b"http/1.1"[..]));
            Client { connection }.join(torrent(1), 1, LEECHER);
        }
    });
}

#[test]
fn a_client_that_wants_to_speak_something_else_is_told() {
    let identity = Identity::new();
    on_each_runtime(&identity, |daemon| {
        for version in VERSIONS {
            let connect = |protocols: &[&[u8]]| {
                let mut config = identity.trusted(version);
                config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
                let tcp = tcp(localhost(IpFamily::V4), daemon.address(IpFamily::V4)).unwrap();
                Connection::with_tls(tcp, &Arc::new(config))
            };
            for (protocols, taken) in [
                (&[&b"http/1.0"[..]][..], Some(&b"http/1.0"[..])),
                (&[b"http/1.0", b"http/1.1"], Some(b"http/1.1")),
                (&[], None),
            ] {
                let connection = connect(protocols).unwrap();
                assert_eq!(connection.tls().alpn_protocol(), taken);
                Client { connection }.join(torrent(1), 1, LEECHER);
            }
            let Err(error) = connect(&[b"h2"]) else {
                panic!("nobody speaks HTTP/2 here");
            };
            assert!(
                error.to_string().contains("NoApplicationProtocol"),
                "{error}"
            );
        }
    });
}

#[test]
fn handshakes_are_resumed_at_any_worker_and_after_a_reload() {
    let identity = Identity::new();
    on_each_runtime(&identity, |daemon| {
        for version in VERSIONS {
            let mut config = identity.trusted(version);
            config.resumption = Resumption::in_memory_sessions(32);
            let config = Arc::new(config);
            let ask = || {
                let tcp = tcp(localhost(IpFamily::V4), daemon.address(IpFamily::V4)).unwrap();
                let mut connection = Connection::with_tls(tcp, &config).unwrap();
                connection.send(get(&announce(torrent(1), 1, LEECHER)));
                // With TLS 1.3 tickets come behind the handshake.
                assert_eq!(connection.answer().status, 200);
                connection.tls().handshake_kind()
            };
            assert_eq!(ask(), Some(HandshakeKind::Full));
            for _ in 0..20 {
                assert_eq!(ask(), Some(HandshakeKind::Resumed));
            }
            daemon.reload();
            assert_eq!(ask(), Some(HandshakeKind::Resumed));
        }
        metrics::wait_for(
            &daemon,
            &[
                ("aquatic_tls_handshakes_total{type=full}", 2.0),
                ("aquatic_tls_handshakes_total{type=resumed}", 42.0),
                ("aquatic_tls_handshakes_total{type=failed}", 0.0),
            ],
        );
    });
}

#[test]
fn a_new_certificate_is_for_new_connections() {
    let (old, new) = (Identity::new(), Identity::new());
    on_each_runtime(&old, |daemon| {
        let mut early = connect(&daemon, &old).unwrap();
        early.join(torrent(1), 1, LEECHER);
        new.write(&daemon.place);
        daemon.reload();
        let log = daemon.place.log();
        let line = log.lines().rfind(|line| line.contains("certificate"));
        assert!(line.unwrap().contains("INFO"), "{log}");

        early.join(torrent(1), 1, LEECHER);
        for _ in 0..10 {
            connect(&daemon, &new).unwrap().join(torrent(1), 1, LEECHER);
            assert!(connect(&daemon, &old).is_err());
        }
        early.join(torrent(1), 1, LEECHER);
    });
}

#[test]
fn files_that_cannot_be_used_change_nothing() {
    let (old, new) = (Identity::new(), Identity::new());
    on_each_runtime(&old, |daemon| {
        let key = daemon.place.read("key");
        let place = &daemon.place;
        let breakages: [(&str, &dyn Fn()); 4] = [
            ("certificate", &|| {
                drop(place.write("certificate", "rubbish"))
            }),
            ("key", &|| drop(place.write("key", "rubbish"))),
            // The key of another certificate.
            ("key", &|| {
                new.write(place);
                place.write("key", &key);
            }),
            ("certificate", &|| {
                std::fs::remove_file(place.path("certificate")).unwrap()
            }),
        ];
        for (name, break_it) in breakages {
            old.write(place);
            break_it();
            let errors = |log: &str| log.lines().filter(|line| line.contains("ERROR")).count();
            let before = errors(&place.log());
            daemon.reload();
            let log = place.log();
            assert_eq!(errors(&log), before + 1, "{log}");
            let line = log.lines().rfind(|line| line.contains("ERROR")).unwrap();
            assert!(line.contains(name), "{line}");
            connect(&daemon, &old).unwrap().join(torrent(1), 1, LEECHER);
        }
        old.write(place);
        daemon.reload();
        connect(&daemon, &old).unwrap().join(torrent(1), 1, LEECHER);
    });
}

#[test]
fn files_need_not_be_text() {
    let identity = Identity::new();
    let place = Place::new();
    identity.write_der(&place);
    let daemon = place.start(SIMPLE, TLS);
    connect(&daemon, &identity)
        .unwrap()
        .join(torrent(1), 1, LEECHER);
}

#[test]
fn at_start_bad_files_are_named() {
    let place = Place::new();
    let identity = Identity::new();
    for (name, content) in [
        ("certificate", None),
        ("certificate", Some("rubbish")),
        ("key", None),
        ("key", Some("")),
    ] {
        identity.write(&place);
        match content {
            Some(content) => drop(place.write(name, content)),
            None => std::fs::remove_file(place.path(name)).unwrap(),
        }
        let ended = place.fail(SIMPLE, TLS);
        assert_eq!(ended.code, Some(1));
        let line = ended
            .log
            .lines()
            .find(|line| line.contains("aquatic_http ends: "));
        assert!(line.unwrap().contains(name), "{}", ended.log);
    }
    identity.write(&place);
    let key = place.read("key");
    Identity::new().write(&place);
    place.write("key", key);
    let ended = place.fail(SIMPLE, TLS);
    assert_eq!(ended.code, Some(1));
    let reason = "does not belong to the certificate";
    assert!(ended.log.contains(reason), "{}", ended.log);
}

#[test]
fn who_does_not_speak_tls_is_dropped() {
    let identity = Identity::new();
    on_each_runtime(&identity, |daemon| {
        let address = daemon.address(IpFamily::V4);
        for nonsense in [
            &get("/announce").into_bytes()[..],
            &[0xff; 1_000],
            b"\x16\x03\x01\0\x04\xff\0\0\0",
        ] {
            let ip = localhost(IpFamily::V4);
            let mut plain = Connection::open(ip, address, Transport::Plain);
            plain.send(nonsense);
            plain.end();
            // An alert may come first.
            plain.assert_closed();
        }
        assert!(connect(&daemon, &Identity::new()).is_err());
        metrics::wait_for(
            &daemon,
            &[("aquatic_tls_handshakes_total{type=failed}", 4.0)],
        );
        connect(&daemon, &identity)
            .unwrap()
            .join(torrent(1), 1, LEECHER);
    });
}

#[test]
fn who_is_cut_off_is_cut_off_alone() {
    on_every_runtime(|case| {
        let tracker = case.start("");
        let mut other = Client::new(&tracker, IpFamily::V4);
        for _ in 0..50 {
            let mut client = Client::new(&tracker, IpFamily::V4);
            client
                .connection
                .send(get(&announce(torrent(1), 1, LEECHER)));
        }
        other.join(torrent(1), 1, LEECHER);
    });
}

//! Encrypted connections.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use aquatic_cluster::bus::{Channel, Destination};
use aquatic_cluster::config::ClusterConfig;
use aquatic_test_support::nats::{self, NatsServer};
use aquatic_test_support::wait::until;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::lines::Lines;
use crate::node::{Node, config, load_error};

const PEERS: Destination = Destination::All(Channel::Peers);

pub(crate) type Authority = CertifiedIssuer<'static, KeyPair>;

pub(crate) fn authority() -> Authority {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Writes a certificate for this machine and its key, as PEM and as DER.
pub(crate) fn write_identity(server: &NatsServer, name: &str, authority: &Authority) {
    let names = ["127.0.0.1", "localhost"].map(str::to_owned);
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(names).unwrap();
    let certificate = certificate.signed_by(&key, authority).unwrap();
    let path = |suffix: &str| server.path(&format!("{name}.{suffix}"));
    fs::write(path("pem"), certificate.pem()).unwrap();
    fs::write(path("key"), key.serialize_pem()).unwrap();
    fs::write(path("der"), certificate.der()).unwrap();
    fs::write(path("key.der"), key.serialize_der()).unwrap();
}

pub(crate) fn write_authority(server: &NatsServer, name: &str, authority: &Authority) -> PathBuf {
    let path = server.path(name);
    fs::write(&path, authority.pem()).unwrap();
    path
}

pub(crate) fn encrypted(server: &NatsServer, authority: PathBuf) -> ClusterConfig {
    ClusterConfig {
        servers: vec![format!("tls://localhost:{}", server.port())],
        tls_ca_file: authority,
        ..config(&[server])
    }
}

pub(crate) const TLS: &str =
    "tls { cert_file: \"FOLDER/server.pem\", key_file: \"FOLDER/server.key\" }";

const TLS_FOR_SOME: &str = "tls { cert_file: \"FOLDER/server.pem\", key_file: \
                            \"FOLDER/server.key\", ca_file: \"FOLDER/authority\", verify: true }";

#[test]
fn a_server_is_trusted_by_its_authority_only() {
    if !nats::is_there() {
        return;
    }
    let lines = Lines::begin();
    let own = authority();
    let mut server = NatsServer::stopped(TLS);
    write_identity(&server, "server", &own);
    server.go_on();
    let right = write_authority(&server, "authority", &own);
    let wrong = write_authority(&server, "wrong", &authority());
    let right = encrypted(&server, right);
    let [a, b] = ["a", "b"].map(|name| Node::start_with(name, &right));
    for node in [&a, &b] {
        node.expect_connected();
    }
    a.publish(&PEERS, b"x");
    b.expect_heard(Channel::Peers, "a", b"x");
    // Those of the system do not know it either.
    for authorities in [wrong, PathBuf::new()] {
        let told = format!(
            "localhost:{}: its certificate is not trusted",
            server.port()
        );
        let before = lines.with(&told).len();
        let node = Node::start_with("c", &encrypted(&server, authorities));
        until("the reason is told", || {
            (lines.with(&told).len() > before).then_some(())
        });
        node.expect_silence(Duration::from_secs(1));
        assert_eq!(lines.with(&told).len(), before + 1);
    }
}

#[test]
fn a_server_without_tls_is_sent_nothing() {
    if !nats::is_there() {
        return;
    }
    let lines = Lines::begin();
    let server = NatsServer::start_with("authorization { token: secret }");
    let authority = write_authority(&server, "authority", &authority());
    let node = Node::start_with("a", &encrypted(&server, authority));
    let told = format!("localhost:{}: ", server.port());
    until("the reason is told", || {
        (!lines.with(&told).is_empty()).then_some(())
    });
    node.expect_silence(Duration::from_millis(500));
    assert!(
        !lines
            .with(&told)
            .iter()
            .any(|line| line.contains("credentials"))
    );
}

#[test]
fn a_server_may_ask_for_a_certificate() {
    if !nats::is_there() {
        return;
    }
    let lines = Lines::begin();
    let own = authority();
    let mut server = NatsServer::stopped(TLS_FOR_SOME);
    write_identity(&server, "server", &own);
    write_identity(&server, "client", &own);
    let path = |name: &str| server.path(name);
    let authority = write_authority(&server, "authority", &own);
    let without = encrypted(&server, authority);
    let with = |certificate: &str, key: &str| ClusterConfig {
        tls_certificate_file: path(certificate),
        tls_private_key_file: path(key),
        ..without.clone()
    };
    let configs = [
        with("client.pem", "client.key"),
        with("client.der", "client.key.der"),
    ];
    let mismatch = load_error(&with("client.pem", "server.key"));
    assert!(
        mismatch.starts_with("cluster.tls_private_key_file: "),
        "{mismatch}"
    );
    assert!(mismatch.contains("cannot be used together"), "{mismatch}");
    let exchanged = load_error(&with("client.key", "client.pem"));
    assert!(
        exchanged.starts_with("cluster.tls_certificate_file: "),
        "{exchanged}"
    );
    server.go_on();
    for config in configs {
        let node = Node::start_with("a", &config);
        node.expect_connected();
    }
    let node = Node::start_with("b", &without);
    let told = format!(
        "localhost:{}: it does not trust this tracker",
        server.port()
    );
    until("the reason is told", || {
        (!lines.with(&told).is_empty()).then_some(())
    });
    node.expect_silence(Duration::from_millis(500));
}

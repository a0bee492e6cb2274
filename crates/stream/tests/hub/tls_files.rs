//! What is said of files that are no certificate or no key, word for word.

use std::fs;

use rcgen::PKCS_ECDSA_P256_SHA256;

use aquatic_stream::TlsConfig;

use crate::pki::{Form, Pki, pem, pkcs8};

/// 1,024 bits, made with openssl for this test.
const SHORT_KEY: &str = include_str!("short_key.pem");

/// A certificate and a key, each with something in front of it.
fn with_prefix(prefix: &[u8]) -> Pki {
    let pki = Pki::new();
    for path in [pki.certificate_path(), pki.key_path()] {
        let content = fs::read(&path).unwrap();
        fs::write(&path, [prefix, &content].concat()).unwrap();
    }
    pki
}

#[track_caller]
fn assert_certificate_refused(content: impl AsRef<[u8]>, reason: &str) {
    let pki = Pki::new();
    let path = pki.certificate_path();
    fs::write(&path, content).unwrap();
    let expected = format!("no usable certificate in {}: {reason}", path.display());
    assert_eq!(pki.load().unwrap_err().to_string(), expected);
}

#[track_caller]
fn assert_key_refused(content: impl AsRef<[u8]>, reason: &str) {
    let pki = Pki::new();
    let path = pki.key_path();
    fs::write(&path, content).unwrap();
    let expected = format!("no usable private key in {}: {reason}", path.display());
    assert_eq!(pki.load().unwrap_err().to_string(), expected);
}

#[test]
fn a_byte_order_mark_is_skipped() {
    with_prefix("\u{feff}".as_bytes()).load().unwrap();
    with_prefix(b"a comment\r\n").load().unwrap();
    // Without a line end, the mark is all that keeps the first line from being one of PEM.
    let pki = Pki::new();
    let certificate = fs::read_to_string(pki.certificate_path()).unwrap();
    let (_, pem) = certificate.split_once('\n').unwrap();
    assert!(pem.starts_with("-----BEGIN"));
    fs::write(pki.certificate_path(), format!("\u{feff}{pem}")).unwrap();
    pki.load().unwrap();
}

#[test]
fn files_without_contents_are_named() {
    for empty in ["", "\n \r\n", "\u{feff}"] {
        assert_certificate_refused(empty, "the file is empty");
        assert_key_refused(empty, "the file is empty");
    }
}

#[test]
fn files_that_are_cut_off_are_named() {
    for (label, refused) in [
        ("CERTIFICATE", assert_certificate_refused as fn(_, &str)),
        ("PRIVATE KEY", assert_key_refused),
    ] {
        let whole = pem(label, &[b'x'; 100]);
        let end = whole.find("-----END").unwrap();
        refused(
            whole[..end].to_owned(),
            &format!("it is cut off: there is no line -----END {label}-----"),
        );
    }
}

#[test]
fn files_of_another_kind_are_named() {
    let utf16 = "it is UTF-16 text: save it as UTF-8";
    assert_certificate_refused(b"\xff\xfe-\0-\0", utf16);
    assert_key_refused(b"\xfe\xff\0-\0-", utf16);

    let exchanged = "are the two files exchanged?";
    assert_certificate_refused(
        pem("PRIVATE KEY", b"x"),
        &format!("it has a private key instead: {exchanged}"),
    );
    assert_key_refused(
        pem("CERTIFICATE", b"x"),
        &format!("it has a certificate instead: {exchanged}"),
    );
    assert_certificate_refused(
        pem("CERTIFICATE REQUEST", b"x"),
        "it is a request for a certificate, which an authority has to answer with one",
    );
    assert_key_refused(
        pem("OPENSSH PRIVATE KEY", b"x"),
        "it is a key of OpenSSH, which is of no use for TLS",
    );
    let archive = b"\x30\x82\x0a\x00\x02\x01\x03\x30\x82";
    let unpack =
        "it is a PKCS#12 archive: unpack it (openssl pkcs12 -in FILE -nodes -out FILE.pem)";
    assert_certificate_refused(archive, unpack);
    assert_key_refused(archive, unpack);
}

#[test]
fn a_short_key_is_called_short() {
    let pki = Pki::new();
    let path = pki.key_path();
    fs::write(&path, SHORT_KEY).unwrap();
    assert_eq!(
        pki.load().unwrap_err().to_string(),
        format!(
            "the private key in {} is too short: an RSA key must have 2048 bits or more; make a \
             new key and have a certificate issued for it",
            path.display()
        )
    );
}

#[test]
fn a_chain_in_the_wrong_order_is_named() {
    let pki = Pki::new();
    let other = fs::read(Pki::new().certificate_path()).unwrap();
    let own = fs::read(pki.certificate_path()).unwrap();
    fs::write(
        pki.certificate_path(),
        [own.clone(), other.clone()].concat(),
    )
    .unwrap();
    pki.load().unwrap();
    fs::write(pki.certificate_path(), [other, own].concat()).unwrap();
    let (certificate, key) = (pki.certificate_path(), pki.key_path());
    assert_eq!(
        pki.load().unwrap_err().to_string(),
        format!(
            "the private key in {} does not belong to the first certificate in {}: the server's \
             own must come before those of its issuers",
            key.display(),
            certificate.display()
        )
    );
}

#[test]
fn a_check_reports_both_files() {
    let pki = Pki::new();
    let check = || {
        let errors = TlsConfig::check(&pki.certificate_path(), &pki.key_path());
        errors
            .iter()
            .map(|error| error.path().map(ToOwned::to_owned))
            .collect::<Vec<_>>()
    };
    assert_eq!(check(), []);
    fs::write(pki.certificate_path(), "").unwrap();
    fs::remove_file(pki.key_path()).unwrap();
    assert_eq!(
        check(),
        [Some(pki.certificate_path()), Some(pki.key_path())]
    );
    pki.issue(&PKCS_ECDSA_P256_SHA256, Form::Pem, pkcs8);
    fs::copy(Pki::new().key_path(), pki.key_path()).unwrap();
    assert_eq!(check(), [Some(pki.key_path())]);
}

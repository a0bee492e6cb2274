//! Certificates and keys in files, as operators have them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aquatic_stream::{TlsConfig, TlsError};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256,
    SignatureAlgorithm,
};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tempfile::TempDir;

/// A folder with a certificate and its key, and who has signed it.
pub(crate) struct Pki {
    folder: TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pki = Self {
            folder: TempDir::new().unwrap(),
            authority: CertifiedIssuer::self_signed(params, key).unwrap(),
        };
        pki.issue(&PKCS_ECDSA_P256_SHA256, Form::Pem, pkcs8);
        pki
    }

    pub(crate) fn certificate_path(&self) -> PathBuf {
        self.folder.path().join("certificate")
    }

    pub(crate) fn key_path(&self) -> PathBuf {
        self.folder.path().join("key")
    }

    /// Writes a new certificate and key.
    pub(crate) fn issue(
        &self,
        algorithm: &'static SignatureAlgorithm,
        form: Form,
        key_form: KeyForm,
    ) {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let params = CertificateParams::new(vec!["tracker.example".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        let (label, key) = key_form(key.serialized_der());
        form.write(&self.certificate_path(), "CERTIFICATE", certificate.der());
        form.write(&self.key_path(), label, &key);
    }

    pub(crate) fn load(&self) -> Result<TlsConfig, TlsError> {
        TlsConfig::load(&self.certificate_path(), &self.key_path(), &[])
    }

    /// A client that trusts the authority, and remembers sessions.
    pub(crate) fn client(
        &self,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    }
}

#[derive(Clone, Copy)]
pub(crate) enum Form {
    Pem,
    Der,
}

impl Form {
    fn write(self, path: &Path, label: &str, der: &[u8]) {
        match self {
            Self::Der => fs::write(path, der).unwrap(),
            Self::Pem => fs::write(path, pem(label, der)).unwrap(),
        }
    }
}

pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let line = base64(der);
    format!("A comment.\n-----BEGIN {label}-----\n{line}\n-----END {label}-----\n")
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0, |bits, index| {
            bits << 8 | usize::from(group.get(index).copied().unwrap_or(0))
        });
        for index in 0..4 {
            text.push(match index <= group.len() {
                true => char::from(DIGITS[bits >> (18 - 6 * index) & 63]),
                false => '=',
            });
        }
    }
    text
}

/// From a key as rcgen makes it (PKCS#8) to a label and bytes.
pub(crate) type KeyForm = fn(&[u8]) -> (&'static str, Vec<u8>);

pub(crate) fn pkcs8(der: &[u8]) -> (&'static str, Vec<u8>) {
    ("PRIVATE KEY", der.to_vec())
}

pub(crate) fn pkcs1(der: &[u8]) -> (&'static str, Vec<u8>) {
    ("RSA PRIVATE KEY", inner_key(der))
}

pub(crate) fn sec1(der: &[u8]) -> (&'static str, Vec<u8>) {
    ("EC PRIVATE KEY", inner_key(der))
}

/// PKCS#8 is a sequence of a version, an algorithm and an octet string with the older form.
fn inner_key(pkcs8: &[u8]) -> Vec<u8> {
    let (_, sequence, _) = der_value(pkcs8);
    let (_, _, rest) = der_value(sequence);
    let (_, _, rest) = der_value(rest);
    let (tag, key, _) = der_value(rest);
    assert_eq!(tag, 4, "an octet string");
    key.to_vec()
}

/// Tag, content and what follows.
fn der_value(bytes: &[u8]) -> (u8, &[u8], &[u8]) {
    let (size, start) = match bytes[1] {
        short @ 0..0x80 => (usize::from(short), 2),
        long => {
            let count = usize::from(long & 0x7f);
            let digits = &bytes[2..2 + count];
            let size = digits
                .iter()
                .fold(0, |size, byte| size << 8 | usize::from(*byte));
            (size, 2 + count)
        }
    };
    (
        bytes[0],
        &bytes[start..start + size],
        &bytes[start + size..],
    )
}

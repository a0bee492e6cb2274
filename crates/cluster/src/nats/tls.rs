//! Whom a tracker trusts, and what it shows to a server: made at the start out of files.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use aquatic_daemon::patient_file::PatientFile;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::config::ClusterConfig;

/// What connections are encrypted with. The error comes with the key that it is about.
pub(super) fn load(config: &ClusterConfig) -> Result<ClientConfig, (&'static str, anyhow::Error)> {
    let roots = roots(&config.tls_ca_file).map_err(|error| ("cluster.tls_ca_file", error))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ("cluster.servers", error.into()))?
        .with_root_certificates(roots);
    let (certificate, key) = (&config.tls_certificate_file, &config.tls_private_key_file);
    if certificate.as_os_str().is_empty() {
        return Ok(builder.with_no_client_auth());
    }
    let chain =
        read_certificates(certificate).map_err(|error| ("cluster.tls_certificate_file", error))?;
    let own_key = read_key(key).map_err(|error| ("cluster.tls_private_key_file", error))?;
    builder
        .with_client_auth_cert(chain, own_key)
        .with_context(|| {
            let (certificate, key) = (certificate.display(), key.display());
            format!("the key in {key} and the certificate in {certificate} cannot be used together")
        })
        .map_err(|error| ("cluster.tls_private_key_file", error))
}

/// The authorities in this file, or those of the system.
fn roots(path: &Path) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    // The library reads those of the system for each connection, needed or not, and fails if that
    // fails: so it is better to know at the start.
    let system = rustls_native_certs::load_native_certs();
    if let Some(error) = system.errors.first() {
        bail!("the certificates of the system's authorities cannot be read: {error}");
    }
    if path.as_os_str().is_empty() {
        roots.add_parsable_certificates(system.certs);
        ensure!(
            !roots.is_empty(),
            "the system has no certificates of authorities: install its package of them \
             (ca-certificates), or name a file"
        );
        return Ok(roots);
    }
    for certificate in read_certificates(path)? {
        roots.add(certificate).with_context(|| {
            let path = path.display();
            format!("a certificate in {path} cannot be used as that of an authority")
        })?;
    }
    Ok(roots)
}

fn read_certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let name = path.display();
    let bytes = read(path)?;
    if !is_pem(&bytes) {
        // DER is one sequence (X.690).
        let is_der = bytes.first() == Some(&0x30);
        ensure!(
            is_der,
            "no certificate in {name}: it is neither PEM nor DER"
        );
        return Ok(vec![bytes.into()]);
    }
    let certificates = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.with_context(|| format!("no usable certificate in {name}"))?;
    ensure!(
        !certificates.is_empty(),
        "no certificate in {name}: it is PEM without a section CERTIFICATE"
    );
    Ok(certificates)
}

fn read_key(path: &Path) -> anyhow::Result<PrivateKeyDer<'static>> {
    let name = path.display();
    let bytes = read(path)?;
    if !is_pem(&bytes) {
        let key = PrivateKeyDer::try_from(bytes).ok();
        return key.with_context(|| format!("no private key in {name}: it is neither PEM nor DER"));
    }
    let key = PrivateKeyDer::from_pem_slice(&bytes).ok();
    key.with_context(|| {
        format!(
            "no private key in {name}: it is PEM without a section PRIVATE KEY, or the key is \
             encrypted; store it without a passphrase (openssl pkey -in {name} -out FILE)"
        )
    })
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    PatientFile::open(path)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(bytes)
}

fn is_pem(bytes: &[u8]) -> bool {
    const BEGIN: &[u8] = b"-----BEGIN ";
    bytes.windows(BEGIN.len()).any(|window| window == BEGIN)
}

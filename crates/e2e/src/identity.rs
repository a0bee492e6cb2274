//! A self-signed certificate for one tracker, which clients have to be told to trust.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use rcgen::generate_simple_self_signed;

use crate::folder::Folder;
use crate::lab::{HUB_NAME_V4, HUB_NAME_V6};

/// Every name and address under which a tracker is announced to clients of these tests.
const NAMES: [&str; 7] = [
    "localhost",
    "127.0.0.1",
    "::1",
    HUB_NAME_V4,
    HUB_NAME_V6,
    "10.77.0.1",
    "2001:db8:77::1",
];

/// Where [`write()`] puts the certificate (PEM).
#[must_use]
pub fn certificate(folder: &Folder) -> PathBuf {
    folder.path().join("certificate.pem")
}

/// Makes a certificate and its key: the lines of `[network]` that make a tracker use them.
///
/// # Errors
/// When the files cannot be written.
pub fn write(folder: &Folder) -> Result<String> {
    let certified = generate_simple_self_signed(NAMES.map(str::to_owned))
        .context("cannot make a certificate")?;
    let certificate = certificate(folder);
    let key = folder.path().join("key.pem");
    fs::write(&certificate, certified.cert.pem()).context("write a certificate")?;
    fs::write(&key, certified.signing_key.serialize_pem()).context("write a key")?;
    Ok(format!(
        "enable_tls = true\ntls_certificate_path = {certificate:?}\n\
         tls_private_key_path = {key:?}\n"
    ))
}

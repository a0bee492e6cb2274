//! What a run needs besides programs: a folder, a port, a certificate, a list of torrents, and
//! receive buffers that are large enough.

use std::fmt::Write;
use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use aquatic_load_test::core::population::info_hash;
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

use crate::trackers::Protocol;

/// What load testers and trackers ask for, in bytes (`socket_recv_buffer_size`).
const RECV_BUFFER_BYTES: u64 = 8_000_000;
const RECV_BUFFER_MAX_PATH: &str = "/proc/sys/net/core/rmem_max";

/// The most torrents that are written to a list, 41 bytes each.
const ALLOWED_MAX: u32 = 10_000_000;

/// A folder that everybody may read: some trackers give up the rights of root.
///
/// # Errors
/// If the disk has no room.
pub fn folder() -> anyhow::Result<TempDir> {
    let folder = tempfile::tempdir().context("cannot make a folder for the run")?;
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
    Ok(folder)
}

/// A loopback address that nobody listens at, for now.
///
/// # Errors
/// If there is none.
pub fn address(protocol: Protocol) -> anyhow::Result<SocketAddr> {
    let any = (Ipv4Addr::LOCALHOST, 0);
    let address = match protocol {
        Protocol::Udp => UdpSocket::bind(any).and_then(|socket| socket.local_addr()),
        Protocol::Http | Protocol::Ws => {
            TcpListener::bind(any).and_then(|listener| listener.local_addr())
        }
    };
    address.context("there is no free port")
}

/// A certificate for localhost that nobody vouches for (ECDSA P-256), and its key.
#[derive(Debug)]
pub struct Certificate {
    /// PEM.
    pub certificate: PathBuf,
    /// PEM, PKCS#8.
    pub key: PathBuf,
    /// DER.
    pub certificate_der: PathBuf,
    /// DER, PKCS#8.
    pub key_der: PathBuf,
}

impl Certificate {
    /// Makes one in a folder.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn make(folder: &Path) -> anyhow::Result<Self> {
        let key = KeyPair::generate().context("cannot make a key")?;
        let params = CertificateParams::new(vec!["localhost".to_owned()]);
        let own = params.and_then(|params| params.self_signed(&key));
        let own = own.context("cannot make a certificate")?;
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.join(name);
            let written = fs::write(&path, bytes);
            written.with_context(|| format!("cannot write {}", path.display()))?;
            anyhow::Ok(path)
        };
        Ok(Self {
            certificate: write("certificate.pem", own.pem().as_bytes())?,
            key: write("key.pem", key.serialize_pem().as_bytes())?,
            certificate_der: write("certificate.der", own.der())?,
            key_der: write("key.der", &key.serialize_der())?,
        })
    }
}

/// Writes the info hashes that a load tester with these settings asks for, one a line.
///
/// # Errors
/// If they cannot be written.
pub fn write_allowed(path: &Path, settings: &toml::Table) -> anyhow::Result<()> {
    let number = |section: Option<&str>, key: &str, default: u32| {
        let table = match section {
            None => Some(settings),
            Some(section) => settings.get(section).and_then(toml::Value::as_table),
        };
        let value = table.and_then(|table| table.get(key)?.as_integer());
        value
            .and_then(|value| u32::try_from(value).ok())
            .unwrap_or(default)
    };
    // The defaults are those of the testers: see their `-p`.
    let torrents = number(Some("requests"), "number_of_torrents", 1_000_000);
    let torrents = torrents.max(number(Some("fill"), "number_of_torrents", 0));
    let seed = u64::from(number(None, "seed", 1));
    let mut text = String::new();
    for torrent in 0..torrents.min(ALLOWED_MAX) {
        for byte in info_hash(seed, torrent).0 {
            let _ = write!(text, "{byte:02x}");
        }
        text.push('\n');
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// A response to an announce that tells of 30 peers, as many as are asked for, in 287 bytes;
/// for whoever gives it to everybody.
#[must_use]
pub fn static_answer() -> String {
    format!(
        "d8:intervali1800e12:min intervali6e5:peers240:{}e",
        "p".repeat(240)
    )
}

/// Lets sockets have large receive buffers while this lives: without, a moment's inattention of
/// either side loses packets.
#[derive(Debug)]
pub struct RecvBuffers {
    former: Option<String>,
}

impl RecvBuffers {
    /// Raises the system's limit if it is too low and we may; says so if we may not.
    #[must_use]
    pub fn raise() -> Self {
        let limit = fs::read_to_string(RECV_BUFFER_MAX_PATH).unwrap_or_default();
        let is_enough = limit
            .trim()
            .parse::<u64>()
            .is_ok_and(|it| it >= RECV_BUFFER_BYTES);
        if is_enough || limit.is_empty() {
            return Self { former: None };
        }
        match fs::write(RECV_BUFFER_MAX_PATH, RECV_BUFFER_BYTES.to_string()) {
            Ok(()) => Self {
                former: Some(limit),
            },
            Err(_) => {
                eprintln!(
                    "net.core.rmem_max is {}, so answers over UDP may be lost: raise it to \
                     {RECV_BUFFER_BYTES} (root may)",
                    limit.trim()
                );
                Self { former: None }
            }
        }
    }
}

impl Drop for RecvBuffers {
    fn drop(&mut self) {
        if let Some(former) = &self.former {
            // There is nobody left to tell.
            let _ = fs::write(RECV_BUFFER_MAX_PATH, former);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_the_torrents_of_the_load() {
        let folder = folder().unwrap();
        let path = folder.path().join("allowed");
        let settings = "seed = 7\nrequests.number_of_torrents = 3".parse().unwrap();
        write_allowed(&path, &settings).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let last = info_hash(7, 2).0;
        assert_eq!(text.lines().count(), 3);
        let line = text.lines().last().unwrap();
        assert_eq!(line.len(), 40);
        assert!(
            line.starts_with(&format!("{:02x}{:02x}", last[0], last[1])),
            "{line}"
        );
    }

    #[test]
    fn the_static_answer_is_as_long_as_one_of_a_tracker() {
        assert_eq!(static_answer().len(), 287);
    }

    #[test]
    fn a_certificate_is_written_in_both_forms() {
        let folder = folder().unwrap();
        let made = Certificate::make(folder.path()).unwrap();
        assert!(
            fs::read_to_string(made.key)
                .unwrap()
                .contains("PRIVATE KEY")
        );
        assert_eq!(fs::read(made.certificate_der).unwrap()[0], 0x30);
    }
}

//! curl, the client of everybody who wants to know what is wrong with a tracker over HTTP.
//!
//! Trackers over WebSocket answer it too, when it asks for their health.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, ensure};
use aquatic_test_support::bencode::Value;

use crate::ask::Counts;
use crate::folder::Folder;
use crate::host::Host;
use crate::{Protocol, identity};

/// Where a tracker tells whether it is well.
const HEALTH: &str = "/health";

/// Asks one tracker.
#[derive(Debug)]
pub struct Curl {
    host: Host,
    /// The tracker's URL without a path.
    base: String,
    /// The certificate to trust, and no other.
    certificate: PathBuf,
}

impl Curl {
    /// A client on `host` that will ask `tracker`.
    #[must_use]
    pub fn new(host: &Host, folder: &Folder, protocol: Protocol, tracker: SocketAddr) -> Self {
        let scheme = if protocol.is_tls() { "https" } else { "http" };
        Self {
            host: host.clone(),
            base: format!("{scheme}://{tracker}"),
            certificate: identity::certificate(folder),
        }
    }

    /// The bencoded answer to a GET, whose status must be 200. More arguments come first.
    ///
    /// # Errors
    /// When there is none.
    pub fn get(&self, arguments: &[&str], target: &str) -> Result<Value> {
        let body = self.body(arguments, target)?;
        Value::read(&body).map_err(|wrong| anyhow!("{target}: {wrong}"))
    }

    /// Whether the tracker says that it is well.
    #[must_use]
    pub fn sees_health(&self) -> bool {
        self.body(&[], HEALTH).is_ok()
    }

    fn body(&self, arguments: &[&str], target: &str) -> Result<Vec<u8>> {
        let mut command = self.host.command("curl");
        command
            // No file of the user's, no words, and a status over 399 is an error.
            .args(["--disable", "--silent", "--show-error", "--fail"])
            .args(["--max-time", "10", "--globoff"])
            .args(arguments);
        if self.base.starts_with("https") {
            command.arg("--cacert").arg(&self.certificate);
        }
        command.arg(format!("{}{target}", self.base));
        let output = command
            .output()
            .context("cannot start curl (scripts/test.sh installs it)")?;
        let reason = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{command:?}: {reason}");
        Ok(output.stdout)
    }

    /// What the tracker counts for one torrent.
    ///
    /// # Errors
    /// When it does not answer so.
    pub fn counts(&self, info_hash: [u8; 20]) -> Result<Counts> {
        let answer = self.get(&[], &format!("/scrape?info_hash={}", percent(&info_hash)))?;
        let files = answer.get("files").context("no files in a scrape")?;
        let file = files.get(info_hash).context("no row for the torrent")?;
        Ok(Counts {
            seeders: u32::try_from(file.integer("complete"))?,
            completed: u32::try_from(file.integer("downloaded"))?,
            leechers: u32::try_from(file.integer("incomplete"))?,
        })
    }
}

/// Bytes in a query.
#[must_use]
pub fn percent(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "%{byte:02X}");
        text
    })
}

//! What a connection is made with: read once, before privileges are dropped.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use aquatic_daemon::sandbox::Needs;
use aquatic_daemon::secret_file;
use rustls::ClientConfig;

use super::credentials::Credentials;
use super::{system, tls};
use crate::bus::Channel;
use crate::config::ClusterConfig;
use crate::server_url::ServerUrl;

/// More than any `.creds` file has.
const CREDENTIALS_BYTES_MAX: u64 = 65_536;

/// What a [connection](super::Nats) is made with.
#[derive(Clone, Debug)]
pub struct Settings {
    pub(super) urls: Vec<ServerUrl>,
    pub(super) cluster: String,
    pub(super) node: String,
    pub(super) channels: Vec<Channel>,
    pub(super) credentials: Credentials,
    pub(super) tls: Option<ClientConfig>,
    /// How long messages are kept in the log, if there is one.
    pub(super) history: Option<Duration>,
}

impl Settings {
    /// Reads the files that the keys name. To be called before privileges are dropped. `node` is
    /// [`ClusterConfig::node_name`], `channels` are those that it listens to, and `max_peer_age` is
    /// how long the log has to go back.
    ///
    /// # Errors
    /// If a file cannot be read or used, with the key that names it.
    pub fn load(
        config: &ClusterConfig,
        node: String,
        channels: &[Channel],
        max_peer_age: Duration,
    ) -> anyhow::Result<Self> {
        let urls = config.server_urls().context("cluster.servers")?;
        let credentials = match config.credentials_file.as_os_str().is_empty() {
            true => Credentials::None,
            false => {
                load_credentials(&config.credentials_file).context("cluster.credentials_file")?
            }
        };
        let tls = match config.uses_tls() {
            true => Some(tls::load(config).map_err(|(key, error)| error.context(key))?),
            false => None,
        };
        system::load_name_services(&urls);
        Ok(Self {
            urls,
            cluster: config.name.clone(),
            node,
            channels: channels.to_vec(),
            credentials,
            tls,
            history: config.history.then_some(max_peer_age),
        })
    }

    /// What the sandbox has to leave open: connections to the ports of the servers, and files of
    /// the system by which names are looked up and servers are trusted.
    #[must_use]
    pub fn needs(&self) -> Needs {
        let mut needs = Needs {
            connects: self.urls.iter().map(|url| url.port).collect(),
            ..Needs::default()
        };
        if self.urls.iter().any(|url| url.address().is_none()) {
            needs.reads.extend(system::name_files());
            needs.connects.push(system::DNS_PORT);
        }
        if self.tls.is_some() {
            needs.reads.extend(system::certificate_files());
        }
        needs
    }
}

/// Reads a file that others cannot read.
fn load_credentials(path: &Path) -> anyhow::Result<Credentials> {
    let bytes = secret_file::read(path, CREDENTIALS_BYTES_MAX);
    let credentials = bytes.and_then(|bytes| Credentials::parse(&bytes));
    credentials.with_context(|| format!("cannot use {}", path.display()))
}

/// Whether this file can be used.
pub(crate) fn check_credentials(path: &Path) -> anyhow::Result<()> {
    load_credentials(path).map(drop)
}

/// Everything for which these files cannot be used.
pub(crate) fn check_tls(config: &ClusterConfig) -> Option<(&'static str, anyhow::Error)> {
    config.uses_tls().then(|| tls::load(config).err()).flatten()
}

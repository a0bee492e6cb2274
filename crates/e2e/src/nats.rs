//! A NATS server, by which trackers share their swarms.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Result;

use crate::folder::Folder;
use crate::host::Host;
use crate::process::Process;
use crate::{Family, wait};

const START_LIMIT: Duration = Duration::from_secs(20);

/// A server that runs, with a log.
#[derive(Debug)]
pub struct Nats {
    address: SocketAddr,
    _process: Process,
}

impl Nats {
    /// Starts one on `host`.
    ///
    /// # Errors
    /// When it is not installed or does not listen in time.
    pub fn start(folder: &Folder, host: &Host) -> Result<Self> {
        let address = SocketAddr::new(host.ip(Family::V4), host.free_port()?);
        // Only root may have /usr/sbin in its PATH.
        let mut command = host.command("/usr/sbin/nats-server");
        command.args(["-a", &address.ip().to_string()]);
        command.args(["-p", &address.port().to_string()]);
        command.arg("-js").arg("-sd").arg(folder.make("nats")?);
        let mut process = Process::start("nats", folder, command)?;
        wait::until("the NATS server listens", START_LIMIT, || {
            process.check_alive()?;
            Ok(TcpStream::connect(address).ok())
        })?;
        Ok(Self {
            address,
            _process: process,
        })
    }

    /// What trackers have to know of it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }
}

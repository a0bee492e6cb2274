//! One of our daemons: started with a configuration of its own, and seen to answer.

use std::fs;
use std::net::SocketAddr;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;

use crate::ask::{Counts, UdpClient};
use crate::curl::Curl;
use crate::folder::Folder;
use crate::host::Host;
use crate::identity;
use crate::process::Process;
use crate::{Protocol, wait, workspace};

const START_LIMIT: Duration = Duration::from_secs(20);
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// A running daemon.
#[derive(Debug)]
pub struct Tracker {
    process: Process,
    address: SocketAddr,
    scraper: Scraper,
}

/// What asks for the tracker's counts.
#[derive(Debug)]
enum Scraper {
    Udp(UdpClient),
    Http(Curl),
    /// Only whether it is well: its counts are looked at by the scripts that play over WebSocket.
    Ws(Curl),
}

impl Tracker {
    /// Starts a tracker on `host` that listens at `address`, and waits until it answers there.
    /// `config` is what its configuration says beyond the address: lines of `[network]` first.
    ///
    /// If `address` is unspecified (`0.0.0.0`, `::`), it is asked at `host`'s own address.
    ///
    /// # Errors
    /// When the tracker cannot be built, ends early or does not answer in time.
    pub fn start(
        protocol: Protocol,
        folder: &Folder,
        host: &Host,
        address: SocketAddr,
        config: &str,
    ) -> Result<Self> {
        let mut network = String::new();
        if protocol.is_tls() {
            network += &identity::write(folder)?;
        }
        if matches!(protocol, Protocol::Ws | Protocol::Wss) {
            network += "enable_http_health_checks = true\n";
        }
        // One worker is enough for two clients; tests of many workers are the daemon's own.
        let config = format!(
            "socket_workers = 1\nlog_level = \"debug\"\n\n\
             [network]\naddress = \"{address}\"\n{network}{config}"
        );
        Self::run(
            protocol,
            (protocol.program(), &[]),
            folder,
            host,
            address,
            &config,
        )
    }

    /// Starts one process that serves UDP and HTTP at `address`, and waits until it answers there.
    ///
    /// # Errors
    /// See [`Self::start`].
    pub fn start_both(folder: &Folder, host: &Host, address: SocketAddr) -> Result<Self> {
        let section =
            |name| format!("[{name}]\nenabled = true\n[{name}.network]\naddress = \"{address}\"\n");
        let config = format!(
            "log_level = \"debug\"\n{}{}",
            section("udp"),
            section("http")
        );
        let program = ("aquatic", &["serve"][..]);
        Self::run(Protocol::Udp, program, folder, host, address, &config)
    }

    /// `arguments` come before the configuration file.
    fn run(
        protocol: Protocol,
        (name, arguments): (&str, &[&str]),
        folder: &Folder,
        host: &Host,
        address: SocketAddr,
        config: &str,
    ) -> Result<Self> {
        let config_path = folder.path().join(format!("{name}.toml"));
        fs::write(&config_path, config).context("write the tracker's configuration")?;

        let mut command = host.command(workspace::binary(name)?);
        command.args(arguments).arg("-c").arg(&config_path);
        let mut process = Process::start("tracker", folder, command)?;

        let asked = match address {
            SocketAddr::V4(v4) if v4.ip().is_unspecified() => {
                SocketAddr::new(host.ip(crate::Family::V4), address.port())
            }
            SocketAddr::V6(v6) if v6.ip().is_unspecified() => {
                SocketAddr::new(host.ip(crate::Family::V6), address.port())
            }
            specific => specific,
        };
        let scraper = match protocol {
            Protocol::Udp => Scraper::Udp(UdpClient::new(host, asked)?),
            Protocol::Http | Protocol::Https => {
                Scraper::Http(Curl::new(host, folder, protocol, asked))
            }
            Protocol::Ws | Protocol::Wss => Scraper::Ws(Curl::new(host, folder, protocol, asked)),
        };
        wait::until("an answer of the tracker", START_LIMIT, || {
            process.check_alive()?;
            Ok(scraper.is_answered().then_some(()))
        })?;
        Ok(Self {
            process,
            address: asked,
            scraper,
        })
    }

    /// Where it answers.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// What it counts for one torrent.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn counts(&self, info_hash: [u8; 20]) -> Result<Counts> {
        self.scraper.counts(info_hash)
    }

    /// Ends it as systemd would.
    ///
    /// # Errors
    /// When it does not end in time, or not with exit code 0.
    pub fn stop(mut self) -> Result<()> {
        let status: ExitStatus = self.process.stop(Signal::SIGTERM, STOP_LIMIT)?;
        ensure!(status.success(), "SIGTERM ended the tracker with {status}");
        Ok(())
    }
}

impl Scraper {
    fn is_answered(&self) -> bool {
        match self {
            Self::Udp(_) | Self::Http(_) => self.counts([0; 20]).is_ok(),
            Self::Ws(curl) => curl.sees_health(),
        }
    }

    fn counts(&self, info_hash: [u8; 20]) -> Result<Counts> {
        match self {
            Self::Udp(client) => client
                .scrape(&[info_hash])?
                .pop()
                .context("an answer without a row"),
            Self::Http(curl) => curl.counts(info_hash),
            Self::Ws(_) => bail!("nobody here can scrape over WebSocket"),
        }
    }
}

//! BitTorrent clients that other people wrote, told to meet through a tracker only.
//!
//! Every one is started with DHT, local peer discovery, peer exchange and port mapping off. The
//! torrent's private flag forbids them the first three a second time.

mod aria2;
mod libtorrent;
mod network_log;
mod rtorrent;
mod transmission;

pub mod browser;
pub mod npm;
pub mod page;

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::Signal;

use crate::folder::Folder;
use crate::host::Host;
use crate::process::{EndedEarly, Process};
use crate::torrent::Torrent;
use crate::{Family, Protocol};
use crate::{identity, wait};

/// A client says goodbye to its tracker before it ends, and some take their time.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// Clients try a peer again after a minute or so if the first attempt comes too early.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(120);

/// Names of clients by their part, in logs and errors.
pub const SEEDER: &str = "seeder";
/// As [`SEEDER`].
pub const LEECHER: &str = "leecher";

/// The clients that transfer files here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `aria2c`, which has a BitTorrent implementation of its own.
    Aria2,
    /// libtorrent-rasterbar, by its Python binding: what qBittorrent and Deluge are built on.
    Libtorrent,
    /// rTorrent, over IPv4: it knows no IPv6.
    Rtorrent,
    /// `transmission-cli`.
    Transmission,
}

impl Kind {
    /// Whether a client that is asked to end tells its tracker. Transmission 3.00 means to, but it
    /// is gone before it has sent what it wants to say over HTTP.
    #[must_use]
    pub fn says_goodbye(self, protocol: Protocol) -> bool {
        self != Self::Transmission || protocol == Protocol::Udp
    }
}

/// Which part a client plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Has the content already.
    Seeder,
    /// Has nothing yet.
    Leecher,
}

/// What every client is told.
#[derive(Debug)]
struct Job<'a> {
    folder: &'a Folder,
    host: &'a Host,
    family: Family,
    /// Unique within the test; names the log.
    name: &'a str,
    /// Where the client listens for peers.
    port: u16,
    metainfo: PathBuf,
    /// Where the content is, or is to arrive.
    content: PathBuf,
    /// The certificate to trust where the tracker has one.
    certificate: PathBuf,
}

/// Clients that have met, and begun to transfer, do not go on; or those that a tracker has told of
/// each other do not meet, since a port was taken, say. What a tracker is for has been done.
#[derive(Debug)]
pub struct Stalled {
    pieces: usize,
    /// Of the one that waits.
    log: String,
}

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = ARRIVAL_LIMIT.as_secs();
        let Self { pieces, log } = self;
        write!(f, "only {pieces} pieces have arrived in {limit} s: {log}")
    }
}

impl Error for Stalled {}

/// A running client with one torrent.
#[derive(Debug)]
pub struct Client {
    process: Process,
    content: PathBuf,
    stop_signal: Signal,
}

impl Client {
    /// Starts a client on `host` that shall announce and meet peers over `family`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(
        kind: Kind,
        role: Role,
        folder: &Folder,
        host: &Host,
        family: Family,
        torrent: &Torrent,
    ) -> Result<Self> {
        let name = match role {
            Role::Seeder => SEEDER,
            Role::Leecher => LEECHER,
        };
        let content = folder.make(name)?;
        if role == Role::Seeder {
            torrent.write_content(&content)?;
        }
        let metainfo = folder.path().join(format!("{name}.torrent"));
        torrent.write_metainfo(&metainfo)?;
        let job = Job {
            folder,
            host,
            family,
            name,
            port: host.free_port()?,
            metainfo,
            content,
            certificate: identity::certificate(folder),
        };
        let command = match kind {
            Kind::Aria2 => aria2::command(&job),
            Kind::Libtorrent => libtorrent::command(&job),
            Kind::Rtorrent => rtorrent::command(&job)?,
            Kind::Transmission => transmission::command(&job)?,
        };
        Ok(Self {
            process: Process::start(name, folder, command)?,
            content: job.content,
            // Programs for a terminal: on SIGTERM they would leave without a word to their tracker.
            stop_signal: match kind {
                Kind::Aria2 | Kind::Rtorrent | Kind::Transmission => Signal::SIGINT,
                Kind::Libtorrent => Signal::SIGTERM,
            },
        })
    }

    /// Waits until the whole content is there, byte by byte. `has_been_told`: whether the tracker
    /// has told this client of who has it.
    ///
    /// # Errors
    /// When it does not arrive in time, or the client ends before; [`Stalled`] if some of it has
    /// arrived, or the tracker has done its part.
    pub fn wait_for_content(
        &mut self,
        torrent: &Torrent,
        has_been_told: impl FnOnce() -> bool,
    ) -> Result<()> {
        let all = wait::until("the content at the leecher", ARRIVAL_LIMIT, || {
            self.process.check_alive()?;
            Ok(torrent.has_arrived(&self.content).then_some(()))
        });
        let Err(error) = all else { return Ok(()) };
        let log = self.process.log()?;
        match torrent.pieces_arrived(&self.content) {
            0 if error.is::<EndedEarly>() || !has_been_told() => Err(error.context(log)),
            pieces => Err(Stalled { pieces, log }.into()),
        }
    }

    /// Fails if the client has ended.
    ///
    /// # Errors
    /// When it has, with its log.
    pub fn check_alive(&mut self) -> Result<()> {
        self.process.check_alive()
    }

    /// Lets it do nothing, not even announce; the kernel goes on taking connections for it.
    ///
    /// # Errors
    /// When it has ended.
    pub fn freeze(&self) -> Result<()> {
        self.process.signal(Signal::SIGSTOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// When it has ended.
    pub fn thaw(&self) -> Result<()> {
        self.process.signal(Signal::SIGCONT)
    }

    /// Ends it the friendly way, in which a client tells its tracker.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(mut self) -> Result<()> {
        // The exit status is the client's own affair: aria2 counts an interrupted seeding as 7.
        self.process.stop(self.stop_signal, STOP_LIMIT).map(drop)
    }
}

/// A file of this crate that a client needs.
fn own_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

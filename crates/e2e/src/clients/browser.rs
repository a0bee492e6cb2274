//! A real browser: headless Chromium, driven from outside.
//!
//! With WebTorrent, one page seeds a file and another downloads it over WebRTC. With other
//! applications, pages exchange messages. Browsers cannot accept connections, so the tracker that
//! all announce at is the only way in which they can learn of each other.
//!
//! Nothing of it leaves this machine, which the browser's own log of the network must show.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::network_log::NetworkLog;
use super::npm;
use crate::folder::Folder;
use crate::host::Host;
use crate::process::Process;
use crate::{wait, workspace};

/// A browser that was never started before has a lot to unpack.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Where screenshots stay, below cargo's target folder.
const ARTEFACTS: &str = "e2e-artefacts";

/// How long it takes to close.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// What is published for browsers and finds its peers by WebTorrent's trackers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Application {
    /// Messages over the wires of a torrent that every page seeds: three pages meet.
    Bugout,
    /// The tracker client of WebTorrent, and messages between two pages.
    P2pt,
    /// A room of two pages, by its torrent strategy.
    Trystero,
}

impl Application {
    fn name(self) -> &'static str {
        match self {
            Self::Bugout => "bugout",
            Self::P2pt => "p2pt",
            Self::Trystero => "trystero",
        }
    }
}

/// What the pages of applications do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Play {
    /// They meet, and again when one of them is loaded anew.
    Meet,
    /// One loses its line to the tracker, unnoticed by the tracker, and comes back with the same
    /// peer id: it is served at once.
    ComeBack,
    /// They list the tracker under two URLs: once they have met, they make no new connections.
    ListTwice,
}

impl Play {
    fn name(self) -> &'static str {
        match self {
            Self::Meet => "meet",
            Self::ComeBack => "come-back",
            Self::ListTwice => "list-twice",
        }
    }
}

/// Moves a file from page to page. The screenshots of both are kept as
/// `target/e2e-artefacts/<name>-*.png`.
///
/// # Errors
/// When Chromium or an npm package is not installed, the file does not arrive whole over WebRTC,
/// the tracker's counts are not what they must be, or something outside of this machine is asked.
pub fn transfer(folder: &Folder, host: &Host, announce_url: &str, name: &str) -> Result<()> {
    drive("browser_transfer", folder, host, announce_url, name, &[])
}

/// The same by two trackers that share their swarms: the page that seeds announces at the first of
/// these URLs, and the one that downloads at the second, which is as long.
///
/// # Errors
/// See [`transfer`].
pub fn transfer_between(
    folder: &Folder,
    host: &Host,
    [of_seeder, of_leecher]: [&str; 2],
    name: &str,
) -> Result<()> {
    let script = "browser_transfer";
    drive(script, folder, host, of_seeder, name, &[of_leecher])
}

/// Lets pages of each application meet and exchange messages. Screenshots as in [`transfer`].
///
/// # Errors
/// When Chromium or an npm package is not installed, pages do not meet in time or do not do what
/// the play says, the tracker complains, or something outside of this machine is asked.
pub fn play(
    play: Play,
    applications: &[Application],
    folder: &Folder,
    host: &Host,
    announce_url: &str,
    name: &str,
) -> Result<()> {
    let applications = applications.iter().map(|application| application.name());
    let arguments: Vec<&str> = [play.name()].into_iter().chain(applications).collect();
    drive(
        "browser_applications",
        folder,
        host,
        announce_url,
        name,
        &arguments,
    )
}

/// A tracker whose live page is watched.
#[derive(Clone, Copy, Debug)]
pub struct WatchedTracker<'a> {
    /// Where it serves UDP, at 127.0.0.1.
    pub udp_port: u16,
    /// Its program.
    pub program: &'a str,
    /// What stands before `-c`.
    pub arguments: &'a [&'a str],
    /// Its configuration.
    pub config: &'a Path,
}

/// Watches the live page at `url` of a tracker that is started, and started anew, meanwhile.
/// Screenshots as in [`transfer`].
///
/// # Errors
/// When Chromium or an npm package is not installed, the page does not show what it must, is not
/// accessible, or asks for something elsewhere.
pub fn watch_page(
    folder: &Folder,
    host: &Host,
    url: &str,
    name: &str,
    tracker: &WatchedTracker<'_>,
) -> Result<()> {
    let binary = workspace::binary(tracker.program)?;
    let port = tracker.udp_port.to_string();
    let paths = [binary.as_path(), tracker.config].map(Path::to_str);
    let [Some(binary), Some(config)] = paths else {
        bail!("a path that is no text");
    };
    let mut arguments = vec![port.as_str(), binary];
    arguments.extend(tracker.arguments);
    arguments.extend(["-c", config]);
    drive("live_page", folder, host, url, name, &arguments)
}

/// The file of this name, without an ending, among what tests leave for people to look at.
pub(super) fn artefact(name: &str) -> Result<String> {
    let artefacts = workspace::target()?.join(ARTEFACTS);
    fs::create_dir_all(&artefacts)
        .with_context(|| format!("cannot make {}", artefacts.display()))?;
    let path = artefacts.join(name);
    Ok(path.to_str().context("a path that is no text")?.to_owned())
}

/// Starts a browser, and a script that drives it and closes it in the end.
fn drive(
    script: &str,
    folder: &Folder,
    host: &Host,
    announce_url: &str,
    name: &str,
    arguments: &[&str],
) -> Result<()> {
    let screenshots = artefact(name)?;
    let mut browser = Browser::start(folder, host)?;
    let mut all = vec![browser.devtools_url.as_str(), announce_url, &screenshots];
    all.extend(arguments);
    npm::run(script, folder, host, &all)?;
    browser.wait_until_closed(&[host])
}

/// One that runs.
#[derive(Debug)]
pub(super) struct Browser {
    process: Process,
    network_log: NetworkLog,
    /// Where it can be driven, by programs of its host.
    pub(super) devtools_url: String,
}

impl Browser {
    /// Its profile and its logs are in the folder.
    pub(super) fn start(folder: &Folder, host: &Host) -> Result<Self> {
        let network_log = NetworkLog::in_folder(folder);
        let command = command(folder, host, &network_log)?;
        let mut process = Process::start("browser", folder, command)?;
        // Chromium takes a free port and writes it and a path here.
        let port_file = folder.path().join("profile/DevToolsActivePort");
        let devtools_url = wait::until("the browser is ready", START_LIMIT, || {
            process.check_alive()?;
            let text = fs::read_to_string(&port_file).unwrap_or_default();
            let address = text.split_once('\n').filter(|(_, path)| !path.is_empty());
            Ok(address.map(|(port, path)| format!("ws://127.0.0.1:{port}{path}")))
        })?;
        Ok(Self {
            process,
            network_log,
            devtools_url,
        })
    }

    /// Waits until it has ended, and fails if it has sent anything to others than these.
    pub(super) fn wait_until_closed(&mut self, known: &[&Host]) -> Result<()> {
        self.process.wait(STOP_LIMIT)?;
        self.network_log.check_that_nothing_left(known)
    }
}

fn command(folder: &Folder, host: &Host, network_log: &NetworkLog) -> Result<Command> {
    let profile = folder.make("profile")?;
    let mut command = host.command("chromium");
    command
        // Its own sandbox needs more rights than containers give.
        .args(["--headless", "--no-sandbox", "--disable-gpu"])
        // Nothing that leaves the machine: Chromium has many reasons to ask its makers. Most can be
        // turned off, and without names it does not find them.
        .args(["--disable-quic", "--disable-background-networking"])
        .args(["--disable-component-update", "--disable-sync"])
        .arg("--no-first-run")
        .arg("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE 192.0.2.*")
        .arg(format!("--log-net-log={}", network_log.path().display()))
        // Containers have little shared memory.
        .arg("--disable-dev-shm-usage")
        // All pages are on this machine. By default WebRTC leaves loopback out, and hides local
        // addresses behind names that only multicast DNS knows.
        .arg("--allow-loopback-in-peer-connection")
        .arg("--disable-features=WebRtcHideLocalIpsWithMdns")
        // The tracker's certificate is the test's own.
        .arg("--ignore-certificate-errors")
        .arg("--remote-debugging-port=0")
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg("about:blank");
    Ok(command)
}

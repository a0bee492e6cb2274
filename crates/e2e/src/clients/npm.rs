//! The npm package `bittorrent-tracker`, version 9: the tracker client of WebTorrent.
//!
//! It transfers nothing itself. A short script takes some of its clients through the life of a
//! swarm and compares every answer with what it must be.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::own_file;
use crate::folder::Folder;
use crate::host::Host;
use crate::process::Process;
use crate::{identity, workspace};

/// Where `scripts/test.sh` installs the package, below cargo's target folder.
const INSTALLED_IN: &str = "e2e-npm/node_modules";

const PACKAGES: [&str; 6] = [
    "@trystero-p2p/torrent",
    "axe-core",
    "bittorrent-tracker",
    "bugout",
    "p2pt",
    "webtorrent",
];

/// A script has limits of its own for each of its steps.
const SCRIPT_LIMIT: Duration = Duration::from_secs(240);

/// Has the clients live through a download at one tracker, over UDP or HTTP.
///
/// # Errors
/// When the package is not installed, or an answer is not what it must be.
pub fn live_through_a_download(folder: &Folder, host: &Host, announce_url: &str) -> Result<()> {
    run("npm_client", folder, host, &[announce_url])
}

/// The same over WebSocket, with offers and answers.
///
/// # Errors
/// As [`live_through_a_download`].
pub fn exchange_offers_and_answers(folder: &Folder, host: &Host, announce_url: &str) -> Result<()> {
    run("npm_ws_client", folder, host, &[announce_url])
}

/// Has a client be refused over WebSocket by a tracker that has room for one peer, and announce
/// again.
///
/// # Errors
/// As [`live_through_a_download`].
pub fn come_again(folder: &Folder, host: &Host, announce_url: &str) -> Result<()> {
    run("npm_refused_client", folder, host, &[announce_url])
}

/// Waits until a tracker counts so many browsers that have all of a torrent, and that have not; and
/// sees that it goes on to do so for a time.
///
/// # Errors
/// As [`live_through_a_download`]; or when it does not.
pub fn wait_for_counts(
    folder: &Folder,
    host: &Host,
    announce_url: &str,
    torrent: &Path,
    (complete, incomplete): (u32, u32),
    period: Duration,
) -> Result<()> {
    let numbers = [complete.into(), incomplete.into(), period.as_secs()];
    let [complete, incomplete, seconds] = numbers.map(|it| it.to_string());
    let torrent = torrent.to_str().context("a path that is no text")?;
    let arguments = [announce_url, torrent, &complete, &incomplete, &seconds];
    run("ws_counts", folder, host, &arguments)
}

/// Runs one of our scripts to its end.
pub(super) fn run(name: &str, folder: &Folder, host: &Host, arguments: &[&str]) -> Result<()> {
    let mut script = Process::start(name, folder, script(name, folder, host, arguments)?)?;
    let status = script.wait(SCRIPT_LIMIT)?;
    ensure!(
        status.success(),
        "the script found fault: {status}\n{}",
        script.log()?
    );
    Ok(())
}

/// One of our scripts, which finds the packages that are installed and trusts the tracker's
/// certificate.
pub(super) fn script(
    name: &str,
    folder: &Folder,
    host: &Host,
    arguments: &[&str],
) -> Result<Command> {
    let mut command = host.command("node");
    command
        .arg(own_file(&format!("clients/{name}.js")))
        .args(arguments)
        .env("NODE_EXTRA_CA_CERTS", identity::certificate(folder))
        .env("NODE_PATH", modules()?);
    Ok(command)
}

fn modules() -> Result<PathBuf> {
    let modules = workspace::target()?.join(INSTALLED_IN);
    for package in PACKAGES {
        ensure!(
            modules.join(package).is_dir(),
            "no package {package} in {} (scripts/test.sh installs it)",
            modules.display()
        );
    }
    Ok(modules)
}

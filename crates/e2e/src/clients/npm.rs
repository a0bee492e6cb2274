//! The npm package `bittorrent-tracker`, version 9: the tracker client of WebTorrent.
//!
//! It transfers nothing itself. A short script takes two of its clients through the life of a
//! swarm and compares every answer with what it must be.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::own_file;
use crate::folder::Folder;
use crate::host::Host;
use crate::process::Process;
use crate::{identity, workspace};

/// Where `scripts/test.sh` installs the package, below cargo's target folder.
const INSTALLED_IN: &str = "e2e-npm/node_modules";

const SCRIPT_LIMIT: Duration = Duration::from_secs(60);

/// Runs the script against one tracker.
///
/// # Errors
/// When the package is not installed, or an answer is not what it must be.
pub fn live_through_a_download(folder: &Folder, host: &Host, announce_url: &str) -> Result<()> {
    let mut command = host.command("node");
    command
        .arg(own_file("clients/npm_client.js"))
        .arg(announce_url)
        // What HTTPS trackers have to show.
        .env("NODE_EXTRA_CA_CERTS", identity::certificate(folder))
        .env("NODE_PATH", modules()?);
    let mut script = Process::start("npm_client", folder, command)?;
    let status = script.wait(SCRIPT_LIMIT)?;
    ensure!(
        status.success(),
        "the script found fault: {status}\n{}",
        script.log()?
    );
    Ok(())
}

fn modules() -> Result<PathBuf> {
    let metadata = workspace::metadata()?;
    let target = metadata["target_directory"]
        .as_str()
        .context("cargo metadata names no target folder")?;
    let modules = PathBuf::from(target).join(INSTALLED_IN);
    ensure!(
        modules.join("bittorrent-tracker").is_dir(),
        "no package bittorrent-tracker in {} (scripts/test.sh installs it)",
        modules.display()
    );
    Ok(modules)
}

//! WebTorrent in a real browser: headless Chromium, driven from outside.
//!
//! One page seeds a file and another downloads it over WebRTC. Browsers cannot accept connections,
//! so the tracker that both announce at is the only way in which they can learn of each other.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::npm;
use crate::folder::Folder;
use crate::host::Host;
use crate::process::Process;
use crate::{wait, workspace};

/// A browser that was never started before has a lot to unpack.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Where screenshots stay, below cargo's target folder.
const ARTEFACTS: &str = "e2e-artefacts";

/// Moves a file from page to page. The screenshots of both are kept as
/// `target/e2e-artefacts/<name>-*.png`.
///
/// # Errors
/// When Chromium or an npm package is not installed, the file does not arrive whole over WebRTC,
/// or the tracker's counts are not what they must be.
pub fn transfer(folder: &Folder, host: &Host, announce_url: &str, name: &str) -> Result<()> {
    let artefacts = workspace::target()?.join(ARTEFACTS);
    fs::create_dir_all(&artefacts)
        .with_context(|| format!("cannot make {}", artefacts.display()))?;
    let screenshots = artefacts.join(name);
    let screenshots = screenshots.to_str().context("a path that is no text")?;

    let mut browser = Process::start("browser", folder, command(folder, host)?)?;
    // Chromium takes a free port and writes it and a path here.
    let port_file = folder.path().join("profile/DevToolsActivePort");
    let devtools_url = wait::until("the browser is ready", START_LIMIT, || {
        browser.check_alive()?;
        let text = fs::read_to_string(&port_file).unwrap_or_default();
        let address = text.split_once('\n').filter(|(_, path)| !path.is_empty());
        Ok(address.map(|(port, path)| format!("ws://127.0.0.1:{port}{path}")))
    })?;
    let arguments = [devtools_url.as_str(), announce_url, screenshots];
    npm::run("browser_transfer", folder, host, &arguments)
}

fn command(folder: &Folder, host: &Host) -> Result<Command> {
    let profile = folder.make("profile")?;
    let mut command = host.command("chromium");
    command
        // Its own sandbox needs more rights than containers give.
        .args(["--headless", "--no-sandbox", "--disable-gpu"])
        // Nothing that leaves the machine.
        .args(["--disable-quic", "--disable-background-networking"])
        .args(["--disable-component-update", "--disable-sync"])
        .arg("--no-first-run")
        // Containers have little shared memory.
        .arg("--disable-dev-shm-usage")
        // Both pages are on this machine. By default WebRTC leaves loopback out, and hides local
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

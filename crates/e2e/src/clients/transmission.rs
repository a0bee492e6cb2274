//! Transmission's daemon: a settings file, a folder that it watches for torrents.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::json;

use super::Job;
use crate::Family;

pub(super) fn command(job: &Job<'_>) -> Result<Command> {
    let config = job.folder.make(&format!("{}-config", job.name))?;
    let watched = job.folder.make(&format!("{}-watched", job.name))?;
    let settings = json!({
        "peer-port": job.port,
        format!("bind-address-{}", family_name(job.family)): job.host.ip(job.family),
        "download-dir": job.content,
        "incomplete-dir-enabled": false,
        "watch-dir": watched,
        "watch-dir-enabled": true,
        "start-added-torrents": true,
        "trash-original-torrent-files": false,
        // Other ways to find peers, and to be found.
        "dht-enabled": false,
        "lpd-enabled": false,
        "pex-enabled": false,
        "port-forwarding-enabled": false,
        // Nobody controls it: the watched folder says it all.
        "rpc-enabled": false,
        // TCP only: one protocol less whose start-up could be the reason of a failure.
        "utp-enabled": false,
        // It would keep file names with `.part` at their end until they are whole.
        "rename-partial-files": false,
    });
    fs::write(config.join("settings.json"), settings.to_string())
        .context("write Transmission's settings")?;
    fs::copy(&job.metainfo, watched.join("content.torrent"))
        .context("put the torrent into the watched folder")?;

    let mut command = job.host.command("transmission-daemon");
    command
        .arg("--foreground")
        .arg("--log-debug")
        .arg("--config-dir")
        .arg(config);
    Ok(command)
}

fn family_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    }
}

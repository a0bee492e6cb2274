//! Transmission, by its command line client: settings by file, the rest by flags.
//!
//! It is the same library as in Transmission's daemon, without a system service that would have
//! to be installed, and to be kept from starting, on the machine that runs the tests.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::json;

use super::Job;
use crate::Family;

pub(super) fn command(job: &Job<'_>) -> Result<Command> {
    let config = job.folder.make(&format!("{}-config", job.name))?;
    let settings = json!({
        bind_address_key(job.family): job.host.ip(job.family),
        // Other ways to find peers, and to be found.
        "dht-enabled": false,
        "lpd-enabled": false,
        "pex-enabled": false,
        "port-forwarding-enabled": false,
        "rpc-enabled": false,
        // TCP only: one protocol less whose start-up could be the reason of a failure.
        "utp-enabled": false,
        // It would give unfinished files a name with `.part` at its end.
        "rename-partial-files": false,
    });
    fs::write(config.join("settings.json"), settings.to_string())
        .context("write Transmission's settings")?;

    let mut command = job.host.command("transmission-cli");
    command
        // What HTTPS trackers have to show; by default this version does not look at it at all.
        .env("CURL_CA_BUNDLE", &job.certificate)
        .env("TR_CURL_SSL_VERIFY", "1")
        .arg("--config-dir")
        .arg(config)
        .arg("--download-dir")
        .arg(&job.content)
        .arg("--port")
        .arg(job.port.to_string())
        // The seeder looks at what is there before it says that it is a seeder.
        .arg("--verify")
        .arg(&job.metainfo);
    Ok(command)
}

fn bind_address_key(family: Family) -> &'static str {
    match family {
        Family::V4 => "bind-address-ipv4",
        Family::V6 => "bind-address-ipv6",
    }
}

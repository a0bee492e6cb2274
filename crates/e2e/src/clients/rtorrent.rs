//! rTorrent, which runs without a terminal when it is told to be a daemon. Settings by file.
//!
//! Its library has the name libtorrent, too, and nothing else in common with the other one.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use super::Job;

pub(super) fn command(job: &Job<'_>) -> Result<Command> {
    // If it hashed everything anew when the download is complete, it would take the torrent back
    // for that time, and say `completed` no sooner than with its next announce.
    let settings = format!(
        "system.daemon.set = true\n\
         network.bind_address.set = {address}\n\
         network.port_range.set = {port}-{port}\n\
         network.port_random.set = no\n\
         network.http.cacert.set = {certificate}\n\
         directory.default.set = {content}\n\
         pieces.hash.on_completion.set = no\n\
         dht.mode.set = disable\n\
         protocol.pex.set = no\n\
         log.open_file = \"output\", /dev/stdout\n\
         log.add_output = \"info\", \"output\"\n\
         log.add_output = \"tracker_debug\", \"output\"\n\
         load.start = {metainfo}\n",
        address = job.host.ip(job.family),
        port = job.port,
        certificate = job.certificate.display(),
        content = job.content.display(),
        metainfo = job.metainfo.display(),
    );
    let file = job.folder.path().join(format!("{}.rc", job.name));
    fs::write(&file, settings).context("write rTorrent's settings")?;

    let mut command = job.host.command("rtorrent");
    command
        // Whatever the user of this machine has configured is not for us.
        .arg("-n")
        .arg("-o")
        .arg(format!("import={}", file.display()));
    Ok(command)
}

//! aria2: one process, everything by flags.

use std::process::Command;

use super::Job;
use crate::Family;

pub(super) fn command(job: &Job<'_>) -> Command {
    let mut command = job.host.command("aria2c");
    command
        // Whatever the user of this machine has configured is not for us.
        .args(["--no-conf", "--no-netrc"])
        // aria2 sends its UDP tracker requests from the socket of its DHT and says "udp is not
        // supported yet" without one. So it has a DHT: an empty one, without an entry point.
        .args(["--enable-dht=true", "--enable-dht6=false"])
        .arg(format!("--dht-listen-port={}", job.port))
        .arg(format!(
            "--dht-file-path={}",
            job.content.with_extension("dht").display()
        ))
        // Other ways to find peers.
        .args(["--bt-enable-lpd=false", "--enable-peer-exchange=false"])
        // Without a ratio and a time to stop at, it seeds until it is told to end.
        .args(["--seed-ratio=0.0", "--allow-overwrite=true"])
        // The seeder looks at what is there before it says that it is a seeder.
        .arg("--check-integrity=true")
        // `prealloc` would reserve the file in the foreground; a few MiB need no such care.
        .args(["--file-allocation=none", "--console-log-level=info"])
        .args(["--show-console-readout=false", "--summary-interval=0"])
        // What HTTPS trackers have to show.
        .arg(format!("--ca-certificate={}", job.certificate.display()))
        .arg(format!("--disable-ipv6={}", job.family == Family::V4))
        .arg(format!("--listen-port={}", job.port))
        .arg(format!("--dir={}", job.content.display()))
        .arg(&job.metainfo);
    command
}

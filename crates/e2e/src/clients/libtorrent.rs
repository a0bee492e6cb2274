//! libtorrent-rasterbar, driven by a short Python script.

use std::net::SocketAddr;
use std::process::Command;

use super::{Job, own_file};

/// The binding is a Debian package, which serves Debian's own Python only: any other `python3`
/// that may come first in `PATH` does not see it.
const PYTHON: &str = "/usr/bin/python3";

pub(super) fn command(job: &Job<'_>) -> Command {
    let listen = SocketAddr::new(job.host.ip(job.family), job.port);
    let mut command = job.host.command(PYTHON);
    command
        // What HTTPS trackers have to show: OpenSSL looks there instead of in the system's store.
        .env("SSL_CERT_FILE", &job.certificate)
        .arg("-u") // Unbuffered: the log is read while the client runs.
        .arg(own_file("clients/libtorrent_client.py"))
        .arg(listen.to_string())
        .arg(&job.metainfo)
        .arg(&job.content);
    command
}

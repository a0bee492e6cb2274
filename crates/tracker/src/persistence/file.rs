//! The file that swarms are written to and read from.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use aquatic_access_list::AccessListReader;
use aquatic_daemon::clock::{BootId, Clock, Now};
use aquatic_types::ShardKey;

use super::metrics;
use super::persistent::Persistent;
use super::restore::{Summary, restore};
use super::snapshotter::system_time;

/// A larger file is not read: of no tracker, as its peers would take more memory than there is.
const BYTES_MAX: u64 = 64 << 30;

/// Takes what the file at `path` holds into the shards, which `key` divides the torrents among.
/// `peer_age_seconds_max` is the longest life that a peer may have left.
///
/// Nothing about the file is fatal: what cannot be used is renamed, with `.unusable` behind its
/// name, and the reason logged.
pub fn load<S: Persistent>(
    path: &Path,
    shards: &mut [S],
    key: &ShardKey,
    access_list: &mut AccessListReader,
    (clock, boot_id): (Clock, BootId),
    peer_age_seconds_max: u32,
) {
    let file = match open(path) {
        Ok(Some(file)) => file,
        Ok(None) => {
            metrics::restored(0);
            log::info!("no swarms to restore: there is no {} yet", path.display());
            return;
        }
        Err(error) => {
            metrics::restored(0);
            return set_aside(path, &error);
        }
    };
    let started = clock.elapsed();
    let now = Now::read(clock);
    let restored = restore(
        BufReader::with_capacity(1 << 20, file),
        shards,
        key,
        access_list,
        now,
        &system_time(boot_id),
        peer_age_seconds_max,
    );
    match restored {
        Ok(summary) => {
            metrics::restored(summary.peers);
            log_summary(path, &summary, (clock.elapsed() - started).as_millis());
        }
        Err(error) => {
            metrics::restored(0);
            set_aside(path, &anyhow::Error::new(error));
        }
    }
}

fn log_summary(path: &Path, summary: &Summary, millis: u128) {
    let Summary {
        peers,
        completed,
        expired,
        denied,
        refused,
        age_seconds,
    } = summary;
    log::info!(
        "restored {peers} peers and the download counts of {completed} torrents from {}, \\
         written {age_seconds} s ago, in {millis} ms",
        path.display()
    );
    for (number, why) in [
        (expired, "their time was over"),
        (denied, "their torrents are no longer allowed"),
        (refused, "a limit was reached"),
    ] {
        if *number > 0 {
            log::info!("{number} peers or download counts were not restored: {why}");
        }
    }
}

/// `None` if there is no such file.
fn open(path: &Path) -> anyhow::Result<Option<File>> {
    // A named pipe would make the start wait for somebody who writes to it.
    let flags = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.context("cannot open it")?,
    };
    let metadata = file.metadata().context("cannot look at it")?;
    ensure!(metadata.is_file(), "it is not a regular file");
    let bytes = metadata.len();
    ensure!(
        bytes <= BYTES_MAX,
        "it has {bytes} bytes, more than the {BYTES_MAX} that are read"
    );
    Ok(Some(file))
}

/// Reports a file that cannot be used, and puts it where the next snapshot does not replace it.
fn set_aside(path: &Path, error: &anyhow::Error) {
    let mut name = OsString::from(path);
    name.push(".unusable");
    let aside = PathBuf::from(name);
    log::error!("swarms are not restored from {}: {error:#}", path.display());
    match fs::rename(path, &aside) {
        Ok(()) => log::error!("the file was renamed to {}", aside.display()),
        Err(error) => log::error!("the file could not be renamed: {error}"),
    }
}

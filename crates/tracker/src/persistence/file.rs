//! The file that swarms are written to and read from.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, BufReader};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use aquatic_access_list::AccessListReader;
use aquatic_daemon::clock::{BootId, Clock, Now};
use aquatic_daemon::replace_file;
use aquatic_types::ShardKey;

use super::persistent::Persistent;
use super::restore::{RestoreError, Summary, restore};
use super::snapshotter::system_time;

/// What is at a path: which file, if any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct AtPath {
    /// Device and inode of what is there.
    identity: Option<(u64, u64)>,
    /// When it was written: seconds and nanoseconds. The inode of a file that is gone may be that
    /// of another one.
    modified: Option<(i64, i64)>,
    /// It could not be read, nor set aside: it is not to be replaced.
    is_kept: bool,
}

impl AtPath {
    fn now(path: &Path) -> Self {
        fs::metadata(path).map_or_else(|_| Self::default(), |metadata| Self::of(&metadata))
    }

    fn of(metadata: &Metadata) -> Self {
        Self {
            identity: Some((metadata.dev(), metadata.ino())),
            modified: Some((metadata.mtime(), metadata.mtime_nsec())),
            is_kept: false,
        }
    }

    fn kept(path: &Path) -> Self {
        Self {
            is_kept: true,
            ..Self::now(path)
        }
    }

    /// Looks whether a new file may take the place of what is there. `self` is what was there when
    /// this process looked for the last time.
    ///
    /// # Errors
    /// If it may not: an operator has to decide what becomes of it.
    pub(super) fn check(self, path: &Path) -> anyhow::Result<()> {
        let shown = path.display();
        let Some(metadata) = metadata(path)? else {
            return Ok(());
        };
        ensure!(
            metadata.is_file(),
            "{shown} is not a regular file, and stays"
        );
        let found = Self::of(&metadata);
        ensure!(
            !self.is_kept,
            "{shown} could not be read at the start, and stays: restart when the user of the \
             tracker can read it, or move it away"
        );
        if self != found {
            log::warn!(
                "another program has written {shown}: its swarms are lost now; each tracker needs \
                 a file of its own"
            );
        }
        Ok(())
    }

    /// A new file has taken the place.
    pub(super) fn replaced(&mut self, path: &Path) {
        *self = Self::now(path);
    }
}

/// Looks whether swarms could be read from a file, and written to it, as far as that can be told
/// without doing it.
///
/// # Errors
/// The reason, if they could not.
pub fn check(path: &Path) -> anyhow::Result<()> {
    replace_file::check(path)?;
    let opened = open(path).with_context(|| format!("cannot use {}", path.display()));
    opened.map(drop)
}

/// Takes what the file at `path` holds into the shards, which `key` divides the torrents among.
/// `peer_age_seconds_max` is the longest life that a peer may have left. Returns what is at the
/// path then, and what was taken, if it could be used.
///
/// Nothing about the file is fatal. The reason is logged; what is not a file of swarms is renamed,
/// with `.unusable` behind its name. What cannot be opened, or is not even a regular file, may be
/// anything, and stays as it is.
pub(super) fn load<S: Persistent>(
    path: &Path,
    shards: &mut [S],
    key: &ShardKey,
    access_list: &mut AccessListReader,
    (clock, boot_id): (Clock, BootId),
    peer_age_seconds_max: u32,
) -> (AtPath, Option<Summary>) {
    let shown = path.display();
    let file = match open(path) {
        Ok(Some(file)) => file,
        Ok(None) => {
            log::info!("no swarms to restore: there is no {shown} yet");
            return (AtPath::default(), None);
        }
        Err(error) => {
            log::error!(
                "swarms are not restored from {shown}: {error:#}. It stays as it is, and no swarms \
                 are written in its place"
            );
            return (AtPath::kept(path), None);
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
            log_summary(path, &summary, (clock.elapsed() - started).as_millis());
            (AtPath::now(path), Some(summary))
        }
        Err(error @ (RestoreError::Read(_) | RestoreError::ReadInPart(_))) => {
            log::error!(
                "swarms are not restored from {shown}: {error}. It stays as it is, and no swarms \
                 are written in its place"
            );
            (AtPath::kept(path), None)
        }
        Err(error) => (set_aside(path, &error), None),
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
        "restored {peers} peers and the download counts of {completed} torrents from {}, \
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

/// `None` if there is nothing.
fn metadata(path: &Path) -> anyhow::Result<Option<Metadata>> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found
            .map(Some)
            .with_context(|| format!("cannot look at {}", path.display())),
    }
}

/// `None` if there is no such file.
fn open(path: &Path) -> anyhow::Result<Option<File>> {
    // To open a device may do something already.
    let Some(metadata) = metadata(path)? else {
        return Ok(None);
    };
    ensure!(metadata.is_file(), "it is not a regular file");
    // A named pipe that has come since then would make the start wait for whoever writes to it.
    let flags = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    opened.context("cannot open it").map(Some)
}

/// Reports a file that cannot be used, and puts it where the next snapshot does not replace it.
fn set_aside(path: &Path, error: &RestoreError) -> AtPath {
    let mut name = OsString::from(path);
    name.push(".unusable");
    let aside = PathBuf::from(name);
    log::error!("swarms are not restored from {}: {error}", path.display());
    match fs::rename(path, &aside) {
        Ok(()) => {
            log::error!("the file was renamed to {}", aside.display());
            AtPath::now(path)
        }
        Err(error) => {
            log::error!(
                "the file could not be renamed to {}: {error}. It stays, and no swarms are written \
                 in its place",
                aside.display()
            );
            AtPath::kept(path)
        }
    }
}

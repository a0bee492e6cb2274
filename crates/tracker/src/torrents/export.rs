//! Scrape exports: a file that lists all torrents, written anew from time to time.
//!
//! Shards write lines, a slice at a time between batches, and hand them over in chunks; only the
//! exporter's thread touches the file. So a slow disk delays the export and nothing else.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use aquatic_config::{Checks, section};
use aquatic_daemon::clock::Now;
use aquatic_daemon::heartbeat;
use aquatic_daemon::live::LiveSettings;
use aquatic_daemon::replace_file::Replacement;
use aquatic_swarm::{Counts, WalkCursor};
use aquatic_types::InfoHash;

use super::readable::Readable;
use super::reading::{NotTaken, Progress, Reading, ShardReaders};

/// A chunk is handed over when it has grown to this many bytes.
const CHUNK_BYTES: usize = 64 * 1024;

/// Chunks that can wait for the disk; after that, shards wait with their export.
const CHUNKS_MAX: usize = 64;

/// Torrents that one slice of an export looks at.
const SLICE_TORRENTS: usize = 256;

section! {
    /// A list of all torrents, written to a file from time to time.
    ///
    /// Each line is `4|6 <info hash> <seeders> <leechers>`: the IP version (4 for all torrents of
    /// WebTorrent, where both have one swarm), 40 hexadecimal digits and two numbers. A torrent can
    /// be there twice, if others are removed meanwhile; the later line is the newer one. A new list
    /// replaces the old one at once, when it is complete.
    pub struct ScrapeExportsConfig {
        /// Write the list.
        pub enable_scrape_exports: bool = false,
        /// Seconds between two lists.
        pub frequency: u64 = 600,
        /// Where to write the list.
        ///
        /// Its folder is created if it is missing. With `privileges.drop_privileges`, this is
        /// relative to the new root.
        pub path: PathBuf = PathBuf::from("./scrape-export.txt"),
    }
}

impl ScrapeExportsConfig {
    /// The key that names the file, and the file, if one is to be written.
    #[must_use]
    pub fn output(&self) -> Option<(&'static str, &Path)> {
        let output = ("scrape_exports.path", self.path.as_path());
        self.enable_scrape_exports.then_some(output)
    }

    /// Between two lists.
    #[must_use]
    pub fn interval(&self) -> Duration {
        Duration::from_secs(self.frequency)
    }

    /// Checks the keys, and warns of what is hardly meant.
    pub fn check(&self, checks: &mut Checks) {
        checks.require(
            self.frequency >= 1,
            "scrape_exports.frequency",
            "must be at least 1",
        );
        checks.advise(
            self.enable_scrape_exports || self.path == Self::default().path,
            "scrape_exports.path",
            "is not used, because `scrape_exports.enable_scrape_exports` is false",
        );
    }
}

/// What a shard hands over.
enum Part {
    /// Some lines.
    Lines(String),
    /// There are no more in this export.
    End,
}

/// Starts exports and writes files, in a thread of its own.
pub struct Exporter<S> {
    readers: ShardReaders<S>,
}

impl<S: Readable> Exporter<S> {
    /// Of all torrents of a tracker.
    #[must_use]
    pub fn new(readers: ShardReaders<S>) -> Self {
        Self { readers }
    }

    /// Writes to `path` for ever, at this interval. Returns only when all shards are gone.
    ///
    /// A failure is logged, and tried again the next time.
    pub fn run(&self, path: &Path, interval: &LiveSettings<Duration>) {
        loop {
            interval.sleep();
            match self.export(path) {
                Ok(Some(torrents)) => log::info!(
                    "wrote a scrape export of {torrents} torrents to {}",
                    path.display()
                ),
                Ok(None) => return,
                Err(error) => log::error!("scrape export: {error:#}"),
            }
        }
    }

    /// One export: the number of torrents in it, or `None` when there are no shards any more.
    fn export(&self, path: &Path) -> anyhow::Result<Option<usize>> {
        let mut file = heartbeat::outside(|| Replacement::create(path));
        let parts = match self.begin() {
            Ok(parts) => parts,
            Err(NotTaken::Gone) => return Ok(None),
            Err(busy @ NotTaken::TooMany) => anyhow::bail!("{busy}"),
        };
        let (mut shards_left, mut torrents) = (self.readers.shards(), 0);
        while shards_left > 0 {
            heartbeat::beat();
            match parts.recv_timeout(heartbeat::INTERVAL) {
                Ok(Part::End) => shards_left -= 1,
                Ok(Part::Lines(lines)) => {
                    torrents += lines.lines().count();
                    // After a failure the rest is still received: the shards must not wait for
                    // ever.
                    file = file.and_then(|mut file| {
                        heartbeat::outside(|| file.append(lines.as_bytes()))?;
                        Ok(file)
                    });
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
            }
        }
        let file = file?;
        heartbeat::outside(|| file.finish())?;
        Ok(Some(torrents))
    }

    fn begin(&self) -> Result<Receiver<Part>, NotTaken> {
        let (sender, parts) = sync_channel(CHUNKS_MAX);
        self.readers
            .post_to_each(|| Box::new(ExportReading::new(sender.clone())))?;
        Ok(parts)
    }
}

/// Writes the lines of a shard.
struct ExportReading {
    /// The map whose turn it is.
    map: usize,
    cursor: WalkCursor,
    lines: String,
    sender: SyncSender<Part>,
}

impl ExportReading {
    fn new(sender: SyncSender<Part>) -> Self {
        Self {
            map: 0,
            cursor: WalkCursor::default(),
            lines: String::new(),
            sender,
        }
    }

    /// Writes the lines of some torrents.
    fn walk<S: Readable>(&mut self, shard: &S) {
        if self.lines.capacity() == 0 {
            self.lines.reserve(CHUNK_BYTES + CHUNK_BYTES / 4);
        }
        let (lines, digit) = (&mut self.lines, S::family(self.map).digit());
        let line = |info_hash: &InfoHash, counts: Counts| {
            if counts.peers() > 0 {
                let (seeders, leechers) = (counts.seeders, counts.leechers);
                // Writing to a string cannot fail.
                let _ = writeln!(lines, "{digit} {info_hash} {seeders} {leechers}");
            }
        };
        if shard.walk(self.map, &mut self.cursor, SLICE_TORRENTS, line) {
            self.cursor = WalkCursor::default();
            self.map += 1;
        }
    }

    /// Passes on what has been written. If the disk is too slow, it is kept for the next time.
    fn hand_over(&mut self) -> Progress {
        let is_end = self.lines.is_empty();
        let part = if is_end {
            Part::End
        } else {
            Part::Lines(std::mem::take(&mut self.lines))
        };
        match self.sender.try_send(part) {
            Ok(()) if is_end => Progress::Over,
            Ok(()) => Progress::More,
            Err(TrySendError::Full(part)) => {
                if let Part::Lines(lines) = part {
                    self.lines = lines;
                }
                Progress::Waits
            }
            // Nobody writes any more.
            Err(TrySendError::Disconnected(_)) => Progress::Over,
        }
    }
}

impl<S: Readable> Reading<S> for ExportReading {
    fn slice(&mut self, _: Now, shard: &mut S) -> Progress {
        if self.lines.len() < CHUNK_BYTES && self.map < S::MAPS {
            self.walk(shard);
            return Progress::More;
        }
        self.hand_over()
    }
}

#[cfg(test)]
mod tests;

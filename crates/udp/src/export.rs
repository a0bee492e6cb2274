//! Scrape exports: a file that lists all torrents, written anew from time to time.
//!
//! Shards write lines, a slice at a time between batches, and hand them over in chunks; only the
//! exporter's thread touches the file. So a slow disk delays the export and nothing else.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use aquatic_swarm::{Counts, PeerKey, TorrentMap, WalkCursor};
use aquatic_types::{InfoHash, IpFamily};

/// A chunk is handed over when it has grown to this many bytes.
const CHUNK_BYTES: usize = 64 * 1024;

/// Chunks that can wait for the disk; after that, shards wait with their export.
const CHUNKS_MAX: usize = 64;

/// What a shard hands over.
enum Part {
    /// Some lines.
    Lines(String),
    /// There are no more in this export.
    End,
}

/// Makes the exporter and one writer for each of `shards` shards.
#[must_use]
pub fn exports(shards: usize) -> (Exporter, Vec<ExportWriter>) {
    let round = Arc::new(AtomicU64::new(0));
    let (sender, parts) = sync_channel(CHUNKS_MAX);
    let writer = || ExportWriter {
        round: Arc::clone(&round),
        rounds_done: 0,
        sender: sender.clone(),
        walk: None,
    };
    let writers = (0..shards).map(|_| writer()).collect();
    (
        Exporter {
            shards,
            round,
            parts,
        },
        writers,
    )
}

/// The thread's end: starts exports and writes files.
pub struct Exporter {
    shards: usize,
    round: Arc<AtomicU64>,
    parts: Receiver<Part>,
}

impl Exporter {
    /// Writes to `path` for ever, every `frequency`. Returns only when all shards are gone.
    ///
    /// A failure is logged, and tried again the next time.
    pub fn run(&self, path: &Path, frequency: Duration) {
        loop {
            thread::sleep(frequency);
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
        let mut file = PartialFile::create(path);
        self.round.fetch_add(1, Ordering::Relaxed);
        let (mut shards_left, mut torrents) = (self.shards, 0);
        while shards_left > 0 {
            match self.parts.recv() {
                Ok(Part::End) => shards_left -= 1,
                Ok(Part::Lines(lines)) => {
                    torrents += lines.lines().count();
                    // After a failure the rest is still received: the shards must not wait for ever.
                    file = file.and_then(|file| file.append(&lines));
                }
                Err(_) => return Ok(None),
            }
        }
        file?.finish()?;
        Ok(Some(torrents))
    }
}

/// A file under another name until it is complete.
struct PartialFile {
    path: PathBuf,
    partial_path: PathBuf,
    file: BufWriter<File>,
}

impl PartialFile {
    fn create(path: &Path) -> anyhow::Result<Self> {
        let mut partial_path = path.as_os_str().to_owned();
        partial_path.push(".partial");
        let partial_path = PathBuf::from(partial_path);
        let file = File::create(&partial_path)
            .with_context(|| format!("cannot create {}", partial_path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            partial_path,
            file: BufWriter::new(file),
        })
    }

    fn append(mut self, lines: &str) -> anyhow::Result<Self> {
        self.file
            .write_all(lines.as_bytes())
            .with_context(|| format!("cannot write to {}", self.partial_path.display()))?;
        Ok(self)
    }

    /// Whoever opens the path from now on sees the new contents, whole, even after a power failure.
    fn finish(self) -> anyhow::Result<()> {
        let Self {
            path,
            partial_path,
            file,
        } = self;
        let file = file
            .into_inner()
            .map_err(std::io::IntoInnerError::into_error);
        file.and_then(|file| file.sync_all())
            .with_context(|| format!("cannot write to {}", partial_path.display()))?;
        fs::rename(&partial_path, &path).with_context(|| {
            format!(
                "cannot rename {} to {}",
                partial_path.display(),
                path.display()
            )
        })
    }
}

/// A shard's end: writes lines when an export is going on.
pub struct ExportWriter {
    round: Arc<AtomicU64>,
    rounds_done: u64,
    sender: SyncSender<Part>,
    walk: Option<Walk>,
}

struct Walk {
    /// `None` when all families are done.
    family: Option<IpFamily>,
    cursor: WalkCursor,
    lines: String,
}

impl ExportWriter {
    /// Writes the lines of some torrents, if an export is going on. Returns whether there is more to
    /// do at once.
    pub fn slice<A: PeerKey, B: PeerKey, V>(
        &mut self,
        budget: usize,
        v4: &TorrentMap<A, V>,
        v6: &TorrentMap<B, V>,
    ) -> bool {
        if self.walk.is_none() && self.round.load(Ordering::Relaxed) > self.rounds_done {
            self.walk = Some(Walk {
                family: Some(IpFamily::V4),
                cursor: WalkCursor::default(),
                lines: String::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 4),
            });
        }
        let Some(walk) = &mut self.walk else {
            return false;
        };
        if walk.lines.len() < CHUNK_BYTES && walk.family.is_some() {
            walk.step(budget, v4, v6);
            return true;
        }
        self.hand_over()
    }

    /// Passes on what has been written. If the disk is too slow, it is kept for the next time.
    fn hand_over(&mut self) -> bool {
        let Some(walk) = &mut self.walk else {
            return false;
        };
        let is_end = walk.lines.is_empty();
        let part = if is_end {
            Part::End
        } else {
            Part::Lines(std::mem::take(&mut walk.lines))
        };
        match self.sender.try_send(part) {
            Ok(()) if is_end => {
                self.rounds_done += 1;
                self.walk = None;
                false
            }
            Ok(()) => true,
            Err(TrySendError::Full(part)) => {
                if let Part::Lines(lines) = part {
                    walk.lines = lines;
                }
                false
            }
            // The exporter is gone: the daemon is ending.
            Err(TrySendError::Disconnected(_)) => false,
        }
    }
}

impl Walk {
    fn step<A: PeerKey, B: PeerKey, V>(
        &mut self,
        budget: usize,
        v4: &TorrentMap<A, V>,
        v6: &TorrentMap<B, V>,
    ) {
        let Some(family) = self.family else { return };
        let lines = &mut self.lines;
        let line = |info_hash: &InfoHash, counts: Counts| {
            if counts.peers() > 0 {
                let (seeders, leechers) = (counts.seeders, counts.leechers);
                let digit = family.digit();
                // Writing to a string cannot fail.
                let _ = writeln!(lines, "{digit} {info_hash} {seeders} {leechers}");
            }
        };
        let done = match family {
            IpFamily::V4 => v4.walk(&mut self.cursor, budget, line),
            IpFamily::V6 => v6.walk(&mut self.cursor, budget, line),
        };
        if done {
            self.cursor = WalkCursor::default();
            self.family = match family {
                IpFamily::V4 => Some(IpFamily::V6),
                IpFamily::V6 => None,
            };
        }
    }
}

//! The thread that writes snapshots.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use anyhow::bail;
use aquatic_channel::Waker;
use aquatic_daemon::clock::{BootId, Clock, boot_millis, unix_micros};
use aquatic_daemon::heartbeat;
use aquatic_daemon::replace_file::Replacement;
use aquatic_daemon::supervisor::Finisher;
use aquatic_swarm_log::{Begin, Contents, End, FileWriter, SystemTime};

use crossbeam_utils::sync::Parker;

use super::metrics;
use super::source::{Part, Rounds, SnapshotSource, What};

/// Batches that can wait for the disk, some 64 KiB each; after that, shards wait with their
/// snapshot.
const PARTS_MAX: usize = 64;

/// How often a snapshot that makes no progress is asked whether it is to be given up.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// What the system's clocks say now.
#[must_use]
pub fn system_time(boot_id: BootId) -> SystemTime {
    SystemTime {
        unix_millis: unix_micros() / 1_000,
        boot_id,
        boot_millis: boot_millis(),
    }
}

/// When and where snapshots are written.
#[derive(Clone, Debug)]
pub struct SnapshotSettings {
    /// What is written.
    pub contents: Contents,
    /// Where.
    pub path: PathBuf,
    /// How often, besides at the end; zero: not at all.
    pub interval: Duration,
}

/// Writes snapshots, of what its [sources](SnapshotSource) hand over.
pub struct Snapshotter {
    settings: SnapshotSettings,
    clock: Clock,
    boot_id: BootId,
    /// Tells files of different processes apart.
    process: u64,
    /// Wake the owners of the shards, one each.
    wakers: Vec<Waker>,
    rounds: Arc<Rounds>,
    parts: Receiver<Part>,
}

impl Snapshotter {
    /// The writer of snapshots, and a source for each shard. `wakers` wake their owners; `process`
    /// is a random number.
    #[must_use]
    pub fn new(
        settings: SnapshotSettings,
        (clock, boot_id): (Clock, BootId),
        process: u64,
        wakers: Vec<Waker>,
    ) -> (Self, Vec<SnapshotSource>) {
        let rounds = Arc::new(Rounds::default());
        let (sender, parts) = sync_channel(PARTS_MAX);
        let contents = settings.contents;
        let source = |_| SnapshotSource::new(contents, Arc::clone(&rounds), sender.clone());
        let sources = wakers.iter().map(source).collect();
        let snapshotter = Self {
            settings,
            clock,
            boot_id,
            process,
            wakers,
            rounds,
            parts,
        };
        (snapshotter, sources)
    }

    /// Writes snapshots until the process ends: one every interval, and the last one when
    /// `finisher`, which ends a wait at `parker`, says that it stops. That one is waited for.
    pub fn run(self, mut finisher: Finisher, parker: &Parker) -> ! {
        while self.waits(&finisher, parker) {
            // The last one is more important than this one.
            self.replace_file(|| finisher.is_stopping());
        }
        self.replace_file(|| false);
        finisher.finish();
        loop {
            heartbeat::sleep(heartbeat::INTERVAL);
        }
    }

    /// Waits until the next snapshot is due; `false` if the process stops.
    fn waits(&self, finisher: &Finisher, parker: &Parker) -> bool {
        let since = self.clock.elapsed();
        while !finisher.is_stopping() {
            heartbeat::beat();
            let interval = self.settings.interval;
            if !interval.is_zero() && self.clock.elapsed() >= since + interval {
                return true;
            }
            parker.park_timeout(heartbeat::INTERVAL);
        }
        false
    }

    /// Writes a snapshot, unless it is to be given up. A failure is logged, and costs this snapshot
    /// only.
    fn replace_file(&self, is_to_give_up: impl Fn() -> bool) {
        let path = self.settings.path.as_path();
        let started = self.clock.elapsed();
        match self.write_file(path, is_to_give_up) {
            Ok(Some((End { peers, completed }, bytes))) => {
                let duration = self.clock.elapsed() - started;
                metrics::written(unix_micros() / 1_000, duration, bytes);
                log::info!(
                    "wrote {peers} peers and the download counts of {completed} torrents \
                     to {} in {} ms",
                    path.display(),
                    duration.as_millis()
                );
            }
            Ok(None) => {}
            Err(error) => {
                metrics::failed();
                log::error!("the swarms could not be written: {error:#}");
            }
        }
    }

    /// Returns how many records and bytes were written; `None` if it was given up.
    fn write_file(
        &self,
        path: &Path,
        is_to_give_up: impl Fn() -> bool,
    ) -> anyhow::Result<Option<(End, u64)>> {
        let mut file = heartbeat::outside(|| Replacement::create_private(path));
        let mut bytes_written = 0;
        // After a failure the rest is still taken from the shards, which must not wait for ever.
        let write = |bytes: &[u8]| {
            bytes_written += bytes.len() as u64;
            if let Ok(replacement) = &mut file
                && let Err(error) = heartbeat::outside(|| replacement.append(bytes))
            {
                file = Err(error);
            }
        };
        let Some(end) = self.snapshot(write, is_to_give_up)? else {
            return Ok(None);
        };
        let file = file?;
        heartbeat::outside(|| file.finish())?;
        Ok(Some((end, bytes_written)))
    }

    /// Takes a snapshot of all shards, and gives the bytes of its file to `write`, piece by piece.
    /// `None` if it was given up.
    ///
    /// # Errors
    /// If a shard is gone: then not all of them can be told of any more.
    pub fn snapshot(
        &self,
        mut write: impl FnMut(&[u8]),
        is_to_give_up: impl Fn() -> bool,
    ) -> anyhow::Result<Option<End>> {
        let SystemTime {
            unix_millis,
            boot_id,
            boot_millis,
        } = system_time(self.boot_id);
        let began_micros = self.clock.micros();
        let unix_millis_at =
            |micros: u64| unix_millis + micros.saturating_sub(began_micros) / 1_000;
        let begin = Begin {
            contents: self.settings.contents,
            boot_id,
            boot_millis,
        };
        let mut bytes = Vec::new();
        let mut file = FileWriter::begin(self.process, &begin, unix_millis, &mut bytes);
        let this_round = self.rounds.begin(&self.wakers);
        let mut shards_left = self.wakers.len();
        while shards_left > 0 {
            heartbeat::beat();
            if is_to_give_up() {
                return Ok(None);
            }
            let Part { round, what } = match self.parts.recv_timeout(LOOK_INTERVAL) {
                Ok(part) => part,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => bail!("all workers have ended"),
            };
            match what {
                What::Gone => bail!("a worker has ended"),
                // Of a snapshot that was given up.
                _ if round != this_round => {}
                What::End => shards_left -= 1,
                What::Batch(batch, micros) => {
                    file.append(&batch, unix_millis_at(micros), &mut bytes);
                    write(&bytes);
                    bytes.clear();
                }
            }
        }
        let end = file.end(unix_millis_at(self.clock.micros()), &mut bytes);
        write(&bytes);
        Ok(Some(end))
    }
}

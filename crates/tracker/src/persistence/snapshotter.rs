//! The thread that writes snapshots.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use anyhow::bail;
use aquatic_channel::Waker;
use aquatic_daemon::clock::{BootId, Clock, boot_millis, unix_micros};
use aquatic_daemon::heartbeat;
use aquatic_daemon::live::LiveSettings;
use aquatic_daemon::replace_file::Replacement;
use aquatic_daemon::supervisor::Finisher;
use aquatic_swarm_log::{Begin, Contents, End, FileWriter, SystemTime};

use crossbeam_utils::sync::Parker;

use super::file::AtPath;
use super::metrics::Gauges;
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
    /// Where Prometheus is told of it.
    pub gauges: Gauges,
}

/// Writes snapshots, of what its [sources](SnapshotSource) hand over.
pub struct Snapshotter {
    settings: SnapshotSettings,
    /// That of the settings at first.
    interval: LiveSettings<Duration>,
    clock: Clock,
    boot_id: BootId,
    /// Tells files of different processes apart.
    process: u64,
    /// Wake the owners of the shards, one each.
    wakers: Vec<Waker>,
    rounds: Arc<Rounds>,
    parts: Receiver<Part>,
    /// What was at the path when this process looked for the last time.
    at_path: AtPath,
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
            interval: LiveSettings::new(settings.interval),
            settings,
            clock,
            boot_id,
            process,
            wakers,
            rounds,
            parts,
            at_path: AtPath::default(),
        };
        (snapshotter, sources)
    }

    /// The same, where this is at the path.
    pub(super) fn in_place_of(self, at_path: AtPath) -> Self {
        Self { at_path, ..self }
    }

    /// How often it writes, which can be changed.
    #[must_use]
    pub fn interval(&self) -> &LiveSettings<Duration> {
        &self.interval
    }

    /// Writes snapshots until the process ends: one every interval, and the last one when
    /// `finisher`, which ends a wait at `parker`, says that it stops. That one is waited for.
    pub fn run(mut self, mut finisher: Finisher, parker: &Parker) -> ! {
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
            let interval = self.interval.get();
            if !interval.is_zero() && self.clock.elapsed() >= since + interval {
                return true;
            }
            parker.park_timeout(heartbeat::INTERVAL);
        }
        false
    }

    /// Writes a snapshot, unless it is to be given up. A failure is logged, and costs this snapshot
    /// only.
    fn replace_file(&mut self, is_to_give_up: impl Fn() -> bool) {
        let path = self.settings.path.clone();
        let started = self.clock.elapsed();
        match self.write_file(&path, is_to_give_up) {
            Ok(Some((End { peers, completed }, bytes))) => {
                let duration = self.clock.elapsed() - started;
                self.settings
                    .gauges
                    .written(unix_micros() / 1_000, duration, bytes);
                log::info!(
                    "wrote {peers} peers and the download counts of {completed} torrents \
                     to {} in {} ms",
                    path.display(),
                    duration.as_millis()
                );
            }
            Ok(None) => {}
            Err(error) => {
                self.settings.gauges.failed();
                log::error!("the swarms could not be written: {error:#}");
            }
        }
    }

    /// Returns how many records and bytes were written; `None` if it was given up.
    fn write_file(
        &mut self,
        path: &Path,
        is_to_give_up: impl Fn() -> bool,
    ) -> anyhow::Result<Option<(End, u64)>> {
        heartbeat::outside(|| self.at_path.check(path))?;
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
        self.at_path.replaced(path);
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
        let mut bytes = Vec::new();
        let (system, micros) = (system_time(self.boot_id), self.clock.micros());
        let mut snapshot = self.begin(&system, micros, &mut bytes);
        while !snapshot.is_over() {
            heartbeat::beat();
            if is_to_give_up() {
                return Ok(None);
            }
            match self.parts.recv_timeout(LOOK_INTERVAL) {
                Ok(part) => snapshot.take(part, &mut bytes)?,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => bail!("all workers have ended"),
            }
            write(&bytes);
            bytes.clear();
        }
        let end = snapshot.end(self.clock.micros(), &mut bytes);
        write(&bytes);
        Ok(Some(end))
    }
}

/// A snapshot that has been begun, and the file that comes of it.
pub(super) struct Snapshot {
    round: u64,
    shards_left: usize,
    file: FileWriter,
    /// When it was begun, by the system's clock and by that of the daemon.
    unix_millis: u64,
    micros: u64,
}

impl Snapshotter {
    /// Asks all shards for a snapshot, in place of one that is not over. Appends the beginning of
    /// its file to `out`. `micros` is the daemon's time.
    pub(super) fn begin(&self, system: &SystemTime, micros: u64, out: &mut Vec<u8>) -> Snapshot {
        let SystemTime {
            unix_millis,
            boot_id,
            boot_millis,
        } = *system;
        let begin = Begin {
            contents: self.settings.contents,
            boot_id,
            boot_millis,
        };
        Snapshot {
            file: FileWriter::begin(self.process, &begin, unix_millis, out),
            round: self.rounds.begin(&self.wakers),
            shards_left: self.wakers.len(),
            unix_millis,
            micros,
        }
    }

    /// What a shard has handed over, if there is something.
    pub(super) fn next_part(&self) -> Option<Part> {
        self.parts.try_recv().ok()
    }
}

impl Snapshot {
    /// Appends what a shard has handed over to the file in `out`.
    ///
    /// # Errors
    /// If the shard is gone: then not all of them can be told of any more.
    pub(super) fn take(&mut self, part: Part, out: &mut Vec<u8>) -> anyhow::Result<()> {
        match part.what {
            What::Gone => bail!("a worker has ended"),
            // Of a snapshot that was given up.
            _ if part.round != self.round => {}
            What::End => self.shards_left -= 1,
            What::Batch(batch, since) => {
                let micros = u64::from(since.0) * 1_000_000;
                self.file.append(&batch, self.unix_millis_at(micros), out);
            }
        }
        Ok(())
    }

    /// Whether all shards have handed over everything.
    pub(super) fn is_over(&self) -> bool {
        self.shards_left == 0
    }

    /// Appends the end of the file. Returns how many records it has.
    pub(super) fn end(self, micros: u64, out: &mut Vec<u8>) -> End {
        let unix_millis = self.unix_millis_at(micros);
        self.file.end(unix_millis, out)
    }

    /// A worker may have begun its round, and the second, before the snapshot was.
    fn unix_millis_at(&self, micros: u64) -> u64 {
        let later = (micros / 1_000).saturating_add(self.unix_millis);
        later.saturating_sub(self.micros / 1_000)
    }
}

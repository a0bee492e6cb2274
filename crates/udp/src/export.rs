//! Scrape exports: a file that lists all torrents, written anew from time to time.
//!
//! Shards write lines, a slice at a time between batches, and hand them over in chunks; only the
//! exporter's thread touches the file. So a slow disk delays the export and nothing else.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use aquatic_daemon::clock::Now;
use aquatic_daemon::heartbeat;
use aquatic_daemon::replace_file::Replacement;
use aquatic_swarm::{Counts, PeerKey, TorrentMap, WalkCursor};
use aquatic_tracker::shard::ShardSource;
use aquatic_tracker::shard::addresses::AddressShard;
use aquatic_tracker::shard::client_stats::ClientStats;
use aquatic_types::{InfoHash, IpFamily};

/// A chunk is handed over when it has grown to this many bytes.
const CHUNK_BYTES: usize = 64 * 1024;

/// Chunks that can wait for the disk; after that, shards wait with their export.
const CHUNKS_MAX: usize = 64;

/// Torrents that one slice of an export looks at.
const SLICE_TORRENTS: usize = 256;

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
            heartbeat::sleep(frequency);
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
        self.round.fetch_add(1, Ordering::Relaxed);
        let (mut shards_left, mut torrents) = (self.shards, 0);
        while shards_left > 0 {
            heartbeat::beat();
            match self.parts.recv_timeout(heartbeat::INTERVAL) {
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

impl ShardSource<AddressShard> for ExportWriter {
    fn process(&mut self, _: Now, _: &mut AddressShard) -> usize {
        0
    }

    fn step(&mut self, _: Now, shard: &mut AddressShard) -> bool {
        match shard {
            ClientStats::Off(swarms) => {
                let swarms = swarms.swarms();
                self.slice(SLICE_TORRENTS, &swarms.v4, &swarms.v6)
            }
            ClientStats::On(swarms) => {
                let swarms = swarms.swarms();
                self.slice(SLICE_TORRENTS, &swarms.v4, &swarms.v6)
            }
        }
    }
}

impl ExportWriter {
    /// Writes the lines of some torrents, if an export is going on. Returns whether there is more
    /// to do at once.
    fn slice<A: PeerKey, B: PeerKey, V>(
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::thread;

    use aquatic_swarm::{Announce, HashKey, Keep, Limits};
    use aquatic_types::{CompactAddr, CompactV4, CompactV6, PeerStatus, Seconds};

    use super::*;

    /// A map of torrents named by their first byte, with so many seeders and leechers.
    fn map<K: CompactAddr + PeerKey>(ip: K::Ip, torrents: &[(u8, u16, u16)]) -> TorrentMap<K> {
        let mut map = TorrentMap::new(HashKey::new([1, 2]), Limits::default());
        let mut rng = fastrand::Rng::with_seed(3);
        for (torrent, seeders, leechers) in torrents {
            let key = map.key(InfoHash([*torrent; 20]));
            for port in 1..=seeders + leechers {
                let status = if port <= *seeders {
                    PeerStatus::Seeder
                } else {
                    PeerStatus::Leecher
                };
                let announce = Announce {
                    peer: K::new(ip, port),
                    status,
                    completed: false,
                    num_want: 0,
                };
                map.announce(
                    &key,
                    &announce,
                    Seconds(100),
                    &mut Keep(()),
                    &mut rng,
                    |_, ()| {},
                )
                .unwrap();
            }
        }
        map
    }

    /// Lets all writers work until the export has ended.
    fn export(
        exporter: &mut Exporter,
        path: &Path,
        writers: &mut [ExportWriter],
        v4: &TorrentMap<CompactV4>,
        v6: &TorrentMap<CompactV6>,
    ) -> anyhow::Result<Option<usize>> {
        thread::scope(|scope| {
            let export = scope.spawn(move || exporter.export(path));
            while !export.is_finished() {
                for writer in &mut *writers {
                    writer.slice(2, v4, v6);
                }
                thread::yield_now();
            }
            export.join().unwrap()
        })
    }

    #[test]
    fn lists_every_torrent_that_has_peers_and_replaces_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("export.txt");
        fs::write(&path, "old").unwrap();
        let (mut exporter, mut writers) = exports(1);
        let mut v4 = map([192, 0, 2, 1].into(), &[(1, 1, 2), (2, 3, 0), (3, 1, 0)]);
        let left = v4.key(InfoHash([3; 20]));
        let peer = CompactV4::new([192, 0, 2, 1].into(), 1);
        assert_eq!(v4.remove_peer(&left, &peer), Some(()));
        let v6 = map([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into(), &[(2, 0, 7)]);
        for _ in 0..2 {
            let torrents = export(&mut exporter, &path, &mut writers, &v4, &v6).unwrap();
            assert_eq!(torrents, Some(3));
            let text = fs::read_to_string(&path).unwrap();
            let mut lines: Vec<_> = text.lines().collect();
            lines.sort_unstable();
            let hex = |byte: u8| format!("{byte:02x}").repeat(20);
            let expected = [
                format!("4 {} 1 2", hex(1)),
                format!("4 {} 3 0", hex(2)),
                format!("6 {} 0 7", hex(2)),
            ];
            assert_eq!(lines, expected);
            assert!(text.ends_with('\n'));
            assert_eq!(
                fs::read_dir(folder.path()).unwrap().count(),
                1,
                "nothing else"
            );
        }
    }

    #[test]
    fn many_lines_of_several_shards_come_in_chunks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("export.txt");
        let (mut exporter, mut writers) = exports(3);
        let mut v4 = TorrentMap::new(HashKey::new([1, 2]), Limits::default());
        let mut rng = fastrand::Rng::with_seed(3);
        let torrents = 5 * CHUNK_BYTES / 47;
        for number in 0..torrents {
            let mut name = [0; 20];
            name[..8].copy_from_slice(&number.to_be_bytes());
            let announce = Announce {
                peer: CompactV4([1; 6]),
                status: PeerStatus::Seeder,
                completed: false,
                num_want: 0,
            };
            let key = v4.key(InfoHash(name));
            v4.announce(
                &key,
                &announce,
                Seconds(100),
                &mut Keep(()),
                &mut rng,
                |_, ()| {},
            )
            .unwrap();
        }
        let v6 = map([0; 8].into(), &[]);
        let written = export(&mut exporter, &path, &mut writers, &v4, &v6).unwrap();
        assert_eq!(written, Some(3 * torrents));
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 3 * torrents);
        assert!(
            text.lines()
                .all(|line| line.len() == 46 && line.ends_with(" 1 0"))
        );
    }

    #[test]
    fn a_failure_is_told_and_does_not_end_exports() {
        let folder = tempfile::tempdir().unwrap();
        let in_the_way = folder.path().join("new");
        fs::write(&in_the_way, "").unwrap();
        let path = in_the_way.join("export.txt");
        let (mut exporter, mut writers) = exports(2);
        let (v4, v6) = (
            map([192, 0, 2, 1].into(), &[(1, 1, 0)]),
            map([0; 8].into(), &[]),
        );
        let error = export(&mut exporter, &path, &mut writers, &v4, &v6).unwrap_err();
        assert!(
            format!("{error:#}").contains(in_the_way.to_str().unwrap()),
            "{error:#}"
        );
        fs::remove_file(&in_the_way).unwrap();
        let written = export(&mut exporter, &path, &mut writers, &v4, &v6).unwrap();
        assert_eq!(written, Some(2));
        drop(writers);
        assert_eq!(exporter.export(&path).unwrap(), None, "no shard is left");
        assert_eq!(
            fs::read_to_string(&path).unwrap().lines().count(),
            2,
            "kept as it was"
        );
    }
}

//! A tracker that starts with a file, seen from outside.

use aquatic_swarm_log::SystemTime;
use aquatic_types::{InfoHash, IpFamily, PerFamily};
use fastrand::Rng;

use super::{Name, Written};
use crate::tally::Tally;

/// What the clocks of a simulated system say at first.
pub const SYSTEM: SystemTime = SystemTime {
    unix_millis: 1_795_000_000_000,
    boot_id: [7; 16],
    boot_millis: 86_400_000,
};

/// How long after a snapshot was begun a tracker starts with it, in seconds.
const LATER_SECONDS: [u64; 7] = [0, 1, 2, 100, 1_190, 1_201, 3_000];

/// What has happened when all restarts of a simulation are over.
pub const EXPECTED: [&str; 5] = [
    "files torn between two batches",
    "peers that had to be in a snapshot",
    "peers that outlived a restart",
    "peers that were dead by then",
    "peers that were denied meanwhile",
];

/// What the clocks of a simulated system say so many microseconds later.
#[must_use]
pub fn system_at(micros: u64) -> SystemTime {
    let millis = micros / 1_000;
    SystemTime {
        unix_millis: SYSTEM.unix_millis + millis,
        boot_millis: SYSTEM.boot_millis + millis,
        ..SYSTEM
    }
}

/// A file, and what it was written by.
#[derive(Clone, Copy, Debug)]
pub struct Restart<'a> {
    /// The bytes.
    pub file: &'a [u8],
    /// What the clocks said when it was begun.
    pub began: SystemTime,
    /// For how long peers live.
    pub peer_age_seconds_max: u32,
    /// Whether some of those who come back may be turned away.
    pub has_limits: bool,
}

/// What a new tracker has made of a file.
#[derive(Debug)]
pub struct Restarted {
    /// How many peers were dead, and what was refused; `None` if the file is of no use.
    pub loaded: Option<(u64, u64)>,
    /// How many peers it counts.
    pub peers: PerFamily<u64>,
    /// A snapshot of what it knows.
    pub snapshot: Vec<u8>,
}

impl Restart<'_> {
    /// Lets trackers start with the file and parts of it, and looks at what they know then.
    /// Somebody may have booted the system, and set its calendar, meanwhile.
    ///
    /// # Panics
    /// If somebody who is alive is not there, if somebody is there who should not be, or if
    /// something is taken from a file that is torn.
    pub fn check(
        &self,
        rng: &mut Rng,
        tally: &mut Tally,
        is_allowed: impl Fn(&InfoHash) -> bool,
        mut start: impl FnMut(&[u8], SystemTime) -> Restarted,
    ) {
        let written = Written::read(self.file);
        let (system, later_millis) = self.clocks(rng);
        let survivors = written.after(later_millis, self.peer_age_seconds_max, is_allowed);
        let restarted = start(self.file, system);
        let (expired, refused) = restarted.loaded.expect("a whole file");
        assert_eq!(expired, survivors.expired);
        assert!(self.has_limits || refused == 0, "{refused} were refused");
        let again = Written::read(&restarted.snapshot);
        survivors.compare(&again, self.has_limits);
        for family in IpFamily::ALL {
            let of_family = |(_, addr): &&Name| IpFamily::of(addr) == family;
            let peers = again.peers.keys().filter(of_family).count() as u64;
            assert_eq!(*restarted.peers.get(family), peers);
        }
        tally.add("peers that outlived a restart", again.peers.len() as u64);
        tally.add("peers that were denied meanwhile", survivors.denied);
        tally.add("peers that were dead by then", survivors.expired);

        // It takes many trackers.
        if rng.u8(..4) > 0 {
            return;
        }
        for end in written.batch_ends.iter().rev().skip(1).copied().chain([0]) {
            let restarted = start(&self.file[..end], system);
            assert_eq!(restarted.loaded, None, "a file that ends at {end}");
            let again = Written::read(&restarted.snapshot);
            assert!(again.peers.is_empty() && again.completed.is_empty());
            tally.note("files torn between two batches");
        }
    }

    /// What the clocks say at a restart, and how many milliseconds have passed by what can be
    /// known.
    fn clocks(&self, rng: &mut Rng) -> (SystemTime, u64) {
        let later = LATER_SECONDS[rng.usize(..LATER_SECONDS.len())] * 1_000 + rng.u64(..1_000);
        let booted = SystemTime {
            unix_millis: self.began.unix_millis + later,
            boot_id: [8; 16],
            boot_millis: 5_000,
        };
        match rng.u8(..4) {
            // The calendar tells after a boot,
            0 => (booted, later),
            // unless it is set back to before the snapshot.
            1 => {
                let unix_millis = self.began.unix_millis - 1;
                (
                    SystemTime {
                        unix_millis,
                        ..booted
                    },
                    0,
                )
            }
            // Before one, nobody cares what it says.
            _ => {
                let unix_millis = self.began.unix_millis + later;
                let wrong = [0, unix_millis - 7_200_000, unix_millis + 7_200_000];
                let system = SystemTime {
                    unix_millis: wrong[rng.usize(..wrong.len())],
                    boot_millis: self.began.boot_millis + later,
                    ..self.began
                };
                (system, later)
            }
        }
    }
}

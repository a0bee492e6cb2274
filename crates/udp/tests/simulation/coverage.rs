//! How much the runs of a simulation have shown.

use aquatic_test_support::swarm_file;
use aquatic_test_support::tally::Tally;
use aquatic_udp::counters::{Label as _, Reason};

use super::tracker::{Counts, add};
use super::world::World;

/// Runs that are done if nothing else is wanted, and that show enough.
pub(crate) const RUNS: u64 = 40;

/// How much a simulation has shown.
#[derive(Debug, Default)]
pub(crate) struct Coverage {
    runs: u64,
    /// What was said about the size of a swarm, if everything else rested.
    pub(crate) calm: Certainty,
    /// What was said in the midst of other things.
    pub(crate) wild: Certainty,
    /// What was counted, in all runs.
    pub(crate) counts: Counts,
    /// The largest swarm.
    pub(crate) peers_max: usize,
    /// What has happened that nobody counts.
    pub(crate) tally: Tally,
}

/// What must have happened after all runs of a topology.
const EXPECTED: [&str; 8] = [
    "announces let in just before a reload",
    "answers lost on their way",
    "reloads of the list with requests on their way",
    "requests doubled on their way",
    "requests lost on their way",
    "requests overtaken on their way",
    "snapshots given up",
    "snapshots with requests on their way",
];

/// What is counted under these reasons, in other words.
const COUNTED: [(Reason, &str); 3] = [
    (Reason::QueueFull, "requests dropped at a full queue"),
    (
        Reason::SendBufferFull,
        "answers dropped at a full send buffer",
    ),
    (Reason::SendFailed, "answers refused by the kernel"),
];

/// How many numbers were known beforehand.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Certainty {
    pub(crate) certain: u32,
    pub(crate) all: u32,
}

impl Coverage {
    pub(crate) fn add(&mut self, world: World) {
        let Self {
            calm,
            wild,
            counts,
            peers_max,
            tally,
            ..
        } = world.coverage;
        self.runs += 1;
        self.calm.add(calm);
        self.wild.add(wild);
        self.peers_max = self.peers_max.max(peers_max);
        self.tally.join(&tally);
        for (label, count) in counts.into_iter().chain(world.expected) {
            for (reason, words) in COUNTED {
                if (label.1, label.2) == ("reason", reason.label()) {
                    self.tally.add(words, count);
                }
            }
            add(&mut self.counts, label, count);
        }
    }

    /// The kernel has not always chosen the owner of a torrent.
    pub(crate) fn check_steering(&self) {
        if self.runs >= RUNS {
            self.tally.check(&["requests steered to another worker"]);
        }
    }

    /// A simulation that finds nothing may have looked at nothing.
    pub(crate) fn check(&self, is_expected: impl Fn(Reason) -> bool) {
        println!("{}", self.tally);
        if self.runs < RUNS {
            return;
        }
        self.tally.check(&EXPECTED);
        self.tally.check(&swarm_file::EXPECTED);
        let Coverage {
            calm,
            wild,
            peers_max,
            counts,
            ..
        } = self;
        assert!(
            calm.certain > calm.all / 10 * 9,
            "too much guessing when nothing is going on: {calm:?}"
        );
        assert!(wild.certain > wild.all / 20, "too much guessing: {wild:?}");
        assert!(*peers_max > 64, "the largest swarm had {peers_max} peers");
        // Only a kernel can lose or drop what nobody has received, and the bound of memory is far
        // away.
        // Which clients are denied does not depend on what else goes on.
        let elsewhere = [
            Reason::ReceiveBufferFull,
            Reason::ForgedId,
            Reason::AnswerRate,
            Reason::Damaged,
            Reason::MemoryLimit,
            Reason::NetworkDenied,
            Reason::PeerIdDenied,
        ];
        let expected = |reason| !elsewhere.contains(&reason) && is_expected(reason);
        for reason in Reason::ALL.iter().copied().filter(|it| expected(*it)) {
            for version in ["4", "6"] {
                let label = (version, "reason", reason.label());
                assert!(counts.contains_key(&label), "never happened: {label:?}");
            }
        }
    }
}

impl Certainty {
    pub(crate) fn add(&mut self, more: Self) {
        self.certain += more.certain;
        self.all += more.all;
    }
}

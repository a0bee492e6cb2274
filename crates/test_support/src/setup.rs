//! The matrix: runtimes and topologies on which the same has to happen.

use std::fmt::{self, Display, Formatter};
use std::thread;

use aquatic_types::IpFamily;

use crate::{Daemon, Place, Program, network};

/// How a tracker does its work. No client should notice.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// What is set up.
    pub program: &'static Program,
    /// As in [`Program::runtime_key`].
    pub runtime: &'static str,
    /// Whether requests come by queues of an interface in place of sockets (`network.xdp`), in
    /// [a network](crate::network::with_queues) of the setup's own.
    pub has_queues: bool,
    /// Threads that talk to clients.
    pub socket_workers: usize,
    /// Threads that own swarms. 0: the socket workers own them.
    pub swarm_workers: usize,
}

/// Socket workers and swarm workers: fused and split, alone and in company.
const ARRANGEMENTS: [(usize, usize); 4] = [(1, 0), (3, 0), (1, 1), (2, 2)];

impl Setup {
    /// For what does not depend on it.
    #[must_use]
    pub const fn simple(program: &'static Program) -> Self {
        Self {
            program,
            runtime: "mio",
            has_queues: false,
            socket_workers: 1,
            swarm_workers: 0,
        }
    }

    /// Each runtime that works here, and queues if it can serve those, in each topology.
    #[must_use]
    pub fn all(program: &'static Program) -> Vec<Self> {
        let mut kinds = Self::of_each_runtime(program);
        if program.has_key("network.xdp") && network::is_allowed() {
            kinds.push(Self {
                has_queues: true,
                ..Self::simple(program)
            });
        }
        let arranged = |kind| {
            ARRANGEMENTS.map(|(socket_workers, swarm_workers)| Self {
                socket_workers,
                swarm_workers,
                ..kind
            })
        };
        kinds.into_iter().flat_map(arranged).collect()
    }

    /// The [simple](Self::simple) one with each runtime that works here.
    #[must_use]
    pub fn of_each_runtime(program: &'static Program) -> Vec<Self> {
        let setup = |runtime| Self {
            runtime,
            ..Self::simple(program)
        };
        (program.runtimes)().into_iter().map(setup).collect()
    }

    /// Runs a test where such a tracker can be started.
    pub fn in_its_network(self, test: impl FnOnce() + Send) {
        match self.has_queues {
            true => network::with_queues(test),
            false => test(),
        }
    }

    /// A tracker with default settings and these; see [`Place::start`].
    #[must_use]
    pub fn start(self, settings: &str) -> Daemon {
        Place::new().start(self, settings)
    }

    /// A tracker with default settings and these, that serves metrics.
    #[must_use]
    pub fn start_with_metrics(self, settings: &str) -> Daemon {
        let place = Place::new();
        let settings = format!("{}{settings}", place.metrics_settings(self.program));
        place.start(self, &settings)
    }

    /// How many parts the torrents are divided into.
    #[must_use]
    pub fn shards(self) -> usize {
        match self.swarm_workers {
            0 => self.socket_workers,
            workers => workers,
        }
    }
}

impl Display for Setup {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let kind = if self.has_queues {
            "queues"
        } else {
            self.runtime
        };
        write!(f, "{kind} {}+{}", self.socket_workers, self.swarm_workers)
    }
}

/// Runs a scenario on all setups at once: most of the time they wait.
pub fn on_every_setup(program: &'static Program, scenario: impl Fn(Setup) + Sync) {
    on_each(&Setup::all(program), |setup| {
        setup.in_its_network(|| scenario(setup));
    });
}

/// Runs a scenario with every runtime at once.
pub fn on_every_runtime(program: &'static Program, scenario: impl Fn(Setup) + Sync) {
    on_each(&Setup::of_each_runtime(program), scenario);
}

/// Runs a scenario on these setups at once, each in a thread that is named after it.
pub fn on_each<S: Copy + Display + Send + Sync>(setups: &[S], scenario: impl Fn(S) + Sync) {
    let scenario = &scenario;
    thread::scope(|scope| {
        for setup in setups {
            thread::Builder::new()
                .name(setup.to_string())
                .spawn_scoped(scope, move || scenario(*setup))
                .unwrap();
        }
    });
}

/// Runs a scenario for both families on a tracker of every setup.
pub fn on_every_setup_and_family(
    program: &'static Program,
    settings: &str,
    scenario: impl Fn(&Daemon, IpFamily) + Sync,
) {
    on_every_setup(program, |setup| {
        let daemon = setup.start(settings);
        for family in IpFamily::ALL {
            scenario(&daemon, family);
        }
    });
}

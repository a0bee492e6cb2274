//! The matrix: backends and arrangements on which the same has to happen.

use std::fmt::{self, Display, Formatter};
use std::thread;

use aquatic_types::IpFamily;

use super::daemon::{Daemon, Place};

/// How a tracker does its work. No client should notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Setup {
    /// As in `network.backend`.
    pub(crate) backend: &'static str,
    pub(crate) socket_workers: usize,
    /// 0: the socket workers own the swarms.
    pub(crate) swarm_workers: usize,
}

impl Setup {
    /// For what does not depend on it.
    pub(crate) const SIMPLE: Self = Self {
        backend: "mio",
        socket_workers: 1,
        swarm_workers: 0,
    };

    /// Socket workers and swarm workers: fused and split, alone and in company.
    const ARRANGEMENTS: [(usize, usize); 4] = [(1, 0), (3, 0), (1, 1), (2, 2)];

    /// Each backend that works here, in each arrangement.
    pub(crate) fn all() -> Vec<Self> {
        let setup = |backend| {
            move |(socket_workers, swarm_workers)| Self {
                backend,
                socket_workers,
                swarm_workers,
            }
        };
        backends()
            .flat_map(|backend| Self::ARRANGEMENTS.map(setup(backend)))
            .collect()
    }

    /// A tracker with default settings and these; see [`Place::start`].
    pub(crate) fn start(self, settings: &str) -> Daemon {
        Place::new().start(self, settings)
    }

    /// How many parts the torrents are divided into.
    pub(crate) fn shards(self) -> usize {
        match self.swarm_workers {
            0 => self.socket_workers,
            workers => workers,
        }
    }
}

impl Display for Setup {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}+{}",
            self.backend, self.socket_workers, self.swarm_workers
        )
    }
}

/// Values of `network.backend` that this machine can do.
pub(crate) fn backends() -> impl Iterator<Item = &'static str> {
    ["mio"]
        .into_iter()
        .chain(io_uring_works().then_some("io_uring"))
}

#[cfg(target_os = "linux")]
fn io_uring_works() -> bool {
    match aquatic_uring::probe() {
        Ok(()) => true,
        Err(reason) => {
            eprintln!("tested with mio only: {reason}");
            false
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn io_uring_works() -> bool {
    false
}

/// Runs a scenario on all setups at once: most of the time they wait.
pub(crate) fn on_every_setup(scenario: impl Fn(Setup) + Sync) {
    on_each(&Setup::all(), scenario);
}

/// Runs a scenario on these setups at once, each in a thread that is named after it.
pub(crate) fn on_each(setups: &[Setup], scenario: impl Fn(Setup) + Sync) {
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
pub(crate) fn on_every_setup_and_family(
    settings: &str,
    scenario: impl Fn(&Daemon, IpFamily) + Sync,
) {
    on_every_setup(|setup| {
        let daemon = setup.start(settings);
        for family in IpFamily::ALL {
            scenario(&daemon, family);
        }
    });
}

//! The matrix of daemons whose clients come over TCP: runtimes, topologies and transports.

use std::fmt::{self, Display, Formatter};
use std::ops::Deref;

use aquatic_types::IpFamily;

use crate::connection::Transport;
use crate::identity::{TLS, USUAL};
use crate::setup::on_each;
use crate::{Daemon, Place, Program, Setup};

/// Values of `network.runtime` that this machine can do. `has_glommio`: the daemon was not built
/// without it.
#[cfg(target_os = "linux")]
#[must_use]
pub fn runtimes(has_glommio: bool) -> Vec<&'static str> {
    let mut runtimes = vec!["mio"];
    if !has_glommio {
        return runtimes;
    }
    match aquatic_uring::probe() {
        Ok(()) => runtimes.push("glommio"),
        Err(reason) => eprintln!("tested with mio only: {reason}"),
    }
    runtimes
}

/// A setup, and what lies between the protocol and TCP.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The daemon.
    pub setup: Setup,
    /// How it is spoken to.
    pub transport: Transport,
}

impl Case {
    /// All setups without TLS; and for each runtime, with it, one in each of these topologies.
    #[must_use]
    pub fn all(program: &'static Program) -> Vec<Self> {
        const ENCRYPTED: [(Transport, usize, usize); 3] = [
            (Transport::Tls12, 1, 0),
            (Transport::Tls13, 3, 0),
            (Transport::Tls13, 1, 1),
        ];
        let plain = Setup::all(program).into_iter().map(Self::plain);
        let encrypted = (program.runtimes)().into_iter().flat_map(|runtime| {
            ENCRYPTED.map(|(transport, socket_workers, swarm_workers)| Self {
                setup: Setup {
                    runtime,
                    socket_workers,
                    swarm_workers,
                    ..Setup::simple(program)
                },
                transport,
            })
        });
        plain.chain(encrypted).collect()
    }

    /// Without TLS.
    #[must_use]
    pub fn plain(setup: Setup) -> Self {
        Self {
            setup,
            transport: Transport::Plain,
        }
    }

    /// A tracker with default settings and these.
    #[must_use]
    pub fn start(self, settings: &str) -> Tracker {
        self.start_at(Place::new(), settings)
    }

    /// As [`Self::start`], with metrics.
    #[must_use]
    pub fn start_with_metrics(self, settings: &str) -> Tracker {
        let place = Place::new();
        let settings = format!("{}{settings}", place.metrics_settings(self.setup.program));
        self.start_at(place, &settings)
    }

    /// As [`Self::start`], at a place where there may be files already.
    #[must_use]
    pub fn start_at(self, place: Place, settings: &str) -> Tracker {
        let mut settings = settings.to_owned();
        if self.transport.is_tls() {
            USUAL.write(&place);
            settings = format!("{TLS}{settings}");
        }
        Tracker {
            daemon: place.start(self.setup, &settings),
            transport: self.transport,
        }
    }
}

impl Display for Case {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.setup, self.transport)
    }
}

/// A daemon, and how it is spoken to.
#[derive(Debug)]
pub struct Tracker {
    /// The daemon.
    pub daemon: Daemon,
    /// How it is spoken to.
    pub transport: Transport,
}

impl Deref for Tracker {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        &self.daemon
    }
}

/// Runs a scenario on all cases at once.
pub fn on_every_case(program: &'static Program, scenario: impl Fn(Case) + Sync) {
    on_each(&Case::all(program), scenario);
}

/// Runs a scenario on one tracker of each runtime, with and without TLS: for what has to do with
/// connections only.
pub fn on_every_runtime(program: &'static Program, scenario: impl Fn(Case) + Sync) {
    let cases: Vec<_> = Setup::of_each_runtime(program)
        .into_iter()
        .flat_map(|setup| {
            [Transport::Plain, Transport::Tls13].map(|transport| Case { setup, transport })
        })
        .collect();
    on_each(&cases, scenario);
}

/// Runs a scenario for both families on a tracker of every case.
pub fn on_every_case_and_family(
    program: &'static Program,
    settings: &str,
    scenario: impl Fn(&Tracker, IpFamily) + Sync,
) {
    on_every_case(program, |case| {
        let tracker = case.start(settings);
        for family in IpFamily::ALL {
            scenario(&tracker, family);
        }
    });
}

//! What is tested: the HTTP tracker, and the matrix of runtimes, arrangements and transports.

use std::fmt::{self, Display, Formatter};
use std::net::{SocketAddr, TcpStream};
use std::ops::Deref;

use aquatic_daemon_tests::setup::on_each;
use aquatic_daemon_tests::{self as common, Daemon, Place, Program, Setup};
use aquatic_types::{InfoHash, IpFamily};

use super::client::{Announced, Client, LEECHER, announce};
use super::configuration::{KEYS, MISTAKES};
use super::connection::Transport;
use super::identity::{TLS, USUAL};

pub(crate) static HTTP: Program = Program {
    name: "aquatic_http",
    about: "BitTorrent tracker over HTTP and HTTPS",
    version: env!("CARGO_PKG_VERSION"),
    binary: env!("CARGO_BIN_EXE_aquatic_http"),
    runtime_key: "network.runtime",
    runtimes,
    metrics_section: "metrics",
    metrics_settings: "metrics.interval = 1\n",
    modest_settings: "",
    keys: &KEYS,
    mistakes: &MISTAKES,
    client: |ip, tracker| Box::new(Client::between(ip, tracker, Transport::Plain)),
    serves: |address: SocketAddr| TcpStream::connect(address).is_ok(),
};

/// For what does not depend on it.
pub(crate) const SIMPLE: Setup = Setup::simple(&HTTP);

impl common::Client for Client {
    fn join(&mut self, info_hash: InfoHash, port: u16) -> Result<u32, String> {
        let answer = self.get(&announce(info_hash, port, LEECHER)).value();
        match answer.bytes("failure reason") {
            Some(reason) => Err(String::from_utf8(reason.to_vec()).unwrap()),
            None => Ok(u32::try_from(Announced::read(&answer).leechers).unwrap()),
        }
    }

    fn leave(&mut self, info_hash: InfoHash, port: u16) {
        self.announce((info_hash, port, LEECHER), "&event=stopped");
    }

    fn leechers(&mut self, info_hashes: &[InfoHash]) -> Vec<u32> {
        let rows = self.scrape(info_hashes).into_iter();
        rows.map(|row| u32::try_from(row.leechers).unwrap())
            .collect()
    }
}

/// Values of `network.runtime` that this machine can do.
pub(crate) fn runtimes() -> Vec<&'static str> {
    let mut runtimes = vec!["mio"];
    match aquatic_uring::probe() {
        Ok(()) => runtimes.push("glommio"),
        Err(reason) => eprintln!("tested with mio only: {reason}"),
    }
    runtimes
}

/// A setup, and what lies between HTTP and TCP.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) setup: Setup,
    pub(crate) transport: Transport,
}

impl Case {
    /// All setups without TLS; and for each runtime, with it, one in each of these arrangements.
    fn all() -> Vec<Self> {
        const ENCRYPTED: [(Transport, usize, usize); 3] = [
            (Transport::Tls12, 1, 0),
            (Transport::Tls13, 3, 0),
            (Transport::Tls13, 1, 1),
        ];
        let plain = Setup::all(&HTTP).into_iter().map(Self::plain);
        let encrypted = runtimes().into_iter().flat_map(|runtime| {
            ENCRYPTED.map(|(transport, socket_workers, swarm_workers)| Self {
                setup: Setup {
                    runtime,
                    socket_workers,
                    swarm_workers,
                    ..SIMPLE
                },
                transport,
            })
        });
        plain.chain(encrypted).collect()
    }

    pub(crate) fn plain(setup: Setup) -> Self {
        Self {
            setup,
            transport: Transport::Plain,
        }
    }

    /// A tracker with default settings and these.
    pub(crate) fn start(self, settings: &str) -> Tracker {
        self.start_at(Place::new(), settings)
    }

    /// As [`Self::start`], with metrics.
    pub(crate) fn start_with_metrics(self, settings: &str) -> Tracker {
        let place = Place::new();
        let settings = format!("{}{settings}", place.metrics_settings(&HTTP));
        self.start_at(place, &settings)
    }

    /// As [`Self::start`], at a place where there may be files already.
    pub(crate) fn start_at(self, place: Place, settings: &str) -> Tracker {
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
pub(crate) struct Tracker {
    pub(crate) daemon: Daemon,
    pub(crate) transport: Transport,
}

impl Deref for Tracker {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        &self.daemon
    }
}

/// Runs a scenario on all cases at once.
pub(crate) fn on_every_case(scenario: impl Fn(Case) + Sync) {
    on_each(&Case::all(), scenario);
}

/// Runs a scenario on one tracker of each runtime, with and without TLS: for what has to do with
/// connections only.
pub(crate) fn on_every_runtime(scenario: impl Fn(Case) + Sync) {
    let cases: Vec<_> = runtimes()
        .into_iter()
        .flat_map(|runtime| {
            let setup = Setup { runtime, ..SIMPLE };
            [Transport::Plain, Transport::Tls13].map(|transport| Case { setup, transport })
        })
        .collect();
    on_each(&cases, scenario);
}

/// Runs a scenario for both families on a tracker of every case.
pub(crate) fn on_every_case_and_family(
    settings: &str,
    scenario: impl Fn(&Tracker, IpFamily) + Sync,
) {
    on_every_case(|case| {
        let tracker = case.start(settings);
        for family in IpFamily::ALL {
            scenario(&tracker, family);
        }
    });
}

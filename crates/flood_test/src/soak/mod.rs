//! Soak tests: whether a tracker is the same after an hour as after some minutes.
//!
//! ```text
//!  model ── whose turn ──▶ driver ── requests ──▶ wire ──▶ tracker ◀── operator
//!    ▲                       │  ◀──── answers ─────┘                      │
//!    └────── what it said ───┘──── what was counted ──▶ samples ◀─────────┘
//!                                                          └──▶ trend, report, plot
//! ```
//!
//! Peers join, announce, finish, leave and vanish, at a rate that does not wait for answers. All
//! the while a [model](model::Model) knows who must be in the tracker. Scrapes on the way are
//! compared with its bounds, and at the end, when those who have vanished must have been forgotten
//! and the others go on announcing, every torrent and the metrics with what it counts.
//!
//! An operator reloads the access list, which denies some torrents by turns, scrapes the metrics,
//! and looks at the process. Every few seconds make a line of a table, from which the
//! [plot] is made and the [trend] is judged.
//!
//! | module | contents |
//! |---|---|
//! | [`model`] | who is there |
//! | `driver` | what is asked, and whether the answers are right |
//! | `wire` | how requests go over UDP, HTTP and WebSocket |
//! | `operator` | reloads, metrics, a look at the process |
//! | [`samples`] | lines of the table |
//! | [`trend`] | whether something grows |
//! | [`report`] | a row for the documents, and what was missed |
//! | [`plot`] | an image of tables |

mod driver;
pub mod model;
mod operator;
pub mod plot;
pub mod report;
pub mod samples;
pub mod trend;
mod wire;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;

use anyhow::{anyhow, ensure};
use aquatic_daemon::clock::Clock;
use aquatic_load_test::core::population::info_hash;
use nix::sys::resource::{Resource, getrlimit};

use crate::catalogue::Protocol;
use crate::local;
use crate::observer::TrackerProcess;
use driver::{Driver, Parts, Times};
use model::{Model, Shape};
use operator::{Listed, Operator};
use report::Report;

/// Announces of a peer within the age at which it is forgotten.
const ANNOUNCES_PER_AGE: u64 = 4;

/// Peers per torrent, on average.
const PEERS_PER_TORRENT: u32 = 10;

/// Torrents of which a connection of WebTorrent takes part in each.
const PLACES_PER_BROWSER: u32 = 4;

/// Addresses of clients over UDP, and kept connections over HTTP, at most.
const UDP_LANES_MAX: u32 = 1_000;
const HTTP_LANES_MAX: u32 = 500;

/// How long a tracker may take to see that a connection has ended.
const CLOSE_SECONDS: u64 = 5;

/// How much later than its settings say a tracker may forget a peer: machines are busy.
const SPARE_SECONDS: u64 = 5;

/// Files that are not for connections.
const OTHER_FILES: u64 = 500;

const SAMPLE_SECONDS_MAX: u32 = 10;
const SAMPLES_MIN: u32 = 24;

const TORRENTS_SEED: u64 = 70;

/// What is tested, and for how long: as the command line says.
#[derive(Clone, Debug, clap::Args)]
pub struct Plan {
    /// What the tracker speaks.
    pub protocol: Protocol,
    /// Where the tracker listens: at an IPv4 loopback address.
    #[arg(long)]
    pub tracker: SocketAddr,
    #[command(flatten)]
    #[expect(missing_docs, reason = "would be the help of the command")]
    pub process: TrackerProcess,
    /// How long peers come and go. The end takes some more minutes: see --peer-age.
    #[arg(long, default_value_t = 3_600)]
    pub seconds: u32,
    /// Requests per second.
    #[arg(long)]
    pub rate: u32,
    /// The tracker's `cleaning.max_peer_age`. Peers announce four times as often.
    #[arg(long = "peer-age", value_name = "PEER_AGE", default_value_t = 120)]
    pub peer_age_seconds: u32,
    /// The tracker's `cleaning.torrent_cleaning_interval`.
    #[arg(
        long = "cleaning-interval",
        value_name = "CLEANING_INTERVAL",
        default_value_t = 10
    )]
    pub cleaning_seconds: u32,
    /// The tracker's `access_list.path`, with `access_list.mode = "deny"`. It is written anew
    /// every ten seconds.
    #[arg(long)]
    pub access_list: Option<PathBuf>,
    /// The tracker's `prometheus_endpoint_address`.
    #[arg(long)]
    pub metrics: Option<SocketAddr>,
    /// Where to write what is seen every ten seconds.
    #[arg(long)]
    pub csv: PathBuf,
}

fn micros(seconds: impl Into<u64>) -> u64 {
    seconds.into() * 1_000_000
}

impl Plan {
    /// Runs it.
    ///
    /// # Errors
    /// If the tracker is not there or not at a loopback address, or files run out.
    pub fn run(&self) -> anyhow::Result<Report> {
        local::require_loopback(self.tracker)?;
        let shape = self.shape()?;
        let wire = wire::open(self.protocol, self.tracker, shape.lanes)?;
        let clock = Clock::start();
        let listed = Arc::new(Mutex::new(Listed::default()));
        let (notes, operator_notes) = mpsc::channel();
        let (faults, operator_faults) = mpsc::channel();
        let operator = Operator {
            plan: self,
            clock,
            listed: Arc::clone(&listed),
            notes: operator_notes,
            faults,
        };
        let driver = Driver::new(Parts {
            clock,
            times: self.times(&shape),
            lanes: shape.lanes,
            repeats: self.protocol == Protocol::Udp,
            model: Model::new(shape),
            wire,
            info_hashes: (0..shape.torrents)
                .map(|torrent| info_hash(TORRENTS_SEED, torrent))
                .collect(),
            listed,
            notes,
            operator_faults,
        });
        let (driven, operated) = thread::scope(|scope| {
            let operator = scope.spawn(|| operator.run());
            (driver.run(), operator.join())
        });
        let operated = operated.map_err(|_| anyhow!("the operator has panicked"))??;
        Ok(Report {
            protocol: self.protocol,
            seconds: self.seconds,
            torrents: shape.torrents,
            has_list: self.access_list.is_some(),
            driven: driven?,
            operated,
        })
    }

    /// How large the population must be for this rate.
    fn shape(&self) -> anyhow::Result<Shape> {
        let interval_ms = u64::from(self.peer_age_seconds) * 1_000 / ANNOUNCES_PER_AGE;
        let places = u64::from(self.rate) * interval_ms / 1_000;
        let places = u32::try_from(places).unwrap_or(u32::MAX);
        ensure!(
            places >= 100,
            "{} requests per second of peers that are forgotten after {} s would be those of \
             {places} peers: give larger numbers",
            self.rate,
            self.peer_age_seconds
        );
        let lanes = match self.protocol {
            Protocol::Udp => places.min(UDP_LANES_MAX),
            Protocol::Http => places.min(HTTP_LANES_MAX),
            Protocol::Ws => places / PLACES_PER_BROWSER,
        };
        let (files_max, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
        ensure!(
            u64::from(lanes) + OTHER_FILES <= files_max,
            "{lanes} sockets need more open files than {files_max}: raise the limit (ulimit -n), \
             or give a lower rate"
        );
        let is_bound = self.protocol == Protocol::Ws;
        let cleaning = 2 * u64::from(self.cleaning_seconds) + 1;
        let forget = match is_bound {
            true => CLOSE_SECONDS,
            false => u64::from(self.peer_age_seconds) + cleaning + SPARE_SECONDS,
        };
        Ok(Shape {
            torrents: places.div_ceil(PEERS_PER_TORRENT),
            places,
            lanes,
            is_bound,
            forget_micros: micros(forget),
            clean_micros: micros(cleaning),
        })
    }

    fn times(&self, shape: &Shape) -> Times {
        let sample = (self.seconds / SAMPLES_MIN).clamp(1, SAMPLE_SECONDS_MAX);
        // A list that denies more must have been read and obeyed, too.
        let denied = match self.access_list {
            Some(_) => shape.clean_micros + micros(CLOSE_SECONDS),
            None => 0,
        };
        Times {
            rate: f64::from(self.rate),
            load_micros: micros(self.seconds),
            settle_micros: shape.forget_micros.max(denied),
            sample_micros: micros(sample),
        }
    }
}

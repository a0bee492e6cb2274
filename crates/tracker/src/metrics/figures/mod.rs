//! What a tracker shows to people at one moment, whatever the protocol: totals, sizes, rates.
//!
//! The same figures are served as JSON (`/stats.json`), shown on the live page, and laid out in
//! tables. Their names are an interface: `documents/metrics.md` has them. Names of types and
//! reasons are the labels of Prometheus' metrics.
//!
//! ```text
//! counters, reports ──▶ Part, one for each protocol ──▶ Collector ─┬─▶ Figures: now
//!                       process, threads, files ──▶                └─▶ History: the last hour
//! ```
//!
//! Whoever asks reads the counters; workers do nothing for it. Rates are differences of totals.
//!
//! | module | contents |
//! |---|---|
//! | `by_label` | a number for each value of a label |
//! | `part` | the figures of one protocol |
//! | `rates` | what has been added in the last seconds |
//! | `history` | the last hour, in slots |
//! | `environment` | the process, its threads and files |
//! | [`collector`] | puts all of them together |

mod by_label;
pub mod collector;
mod environment;
pub mod history;
#[cfg(test)]
pub(crate) mod largest;
mod part;
mod rates;

use std::time::Duration;

use serde::{Serialize, Serializer};

pub use by_label::ByLabel;
pub use environment::{Client, Environment, Loaded, Persistence, Process, Thread};
pub use part::{Connections, Distribution, FamilyFigures, Part, ResponseTimes};
pub use rates::Rates;

/// All figures.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// What the program is called: `aquatic_udp`.
    pub program: String,
    /// Its version.
    pub version: &'static str,
    /// When this was true, in Unix time.
    pub time: f64,
    /// Since the start, by a clock that nobody sets, and that goes on while the machine is
    /// suspended.
    #[serde(serialize_with = "milliseconds")]
    pub uptime_seconds: f64,
    /// The same without the time in which the machine was suspended: rates go by this.
    #[serde(skip)]
    pub awake: Duration,
    /// What is in all swarms.
    #[serde(flatten)]
    pub swarms: Swarms,
    /// What concerns clients of IPv4, over all protocols.
    pub ipv4: FamilyFigures,
    /// The same for IPv6.
    pub ipv6: FamilyFigures,
    /// What has been added per second, lately.
    pub rates: Rates,
    /// Each protocol by itself.
    #[serde(serialize_with = "by_name")]
    pub protocols: Vec<Part>,
    /// Peers by client software, most peers first; empty unless they are counted.
    pub clients: Vec<Client>,
    /// Peers of all clients, also of those that are too many to be shown.
    pub clients_peers: u64,
    /// The process, its threads and files.
    #[serde(flatten)]
    pub environment: Environment,
}

/// What is in swarms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Swarms {
    /// Torrents that have been announced. One with peers of both families counts in each of them,
    /// and so twice in their sum: swarms of families are apart, and to look each torrent up in
    /// those of the other family would cost every announce.
    pub torrents: u64,
    /// Peers that have everything.
    pub seeders: u64,
    /// All other peers.
    pub leechers: u64,
    /// Both together.
    pub peers: u64,
    /// Downloads that peers have announced to be finished, since the start.
    pub completed: u64,
    /// Peers that had to give way to others, since the start.
    pub evicted: u64,
}

impl Figures {
    /// Since the start.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        Duration::try_from_secs_f64(self.uptime_seconds).unwrap_or_default()
    }
}

impl Swarms {
    fn add(&mut self, other: &Self) {
        self.torrents += other.torrents;
        self.seeders += other.seeders;
        self.leechers += other.leechers;
        self.peers += other.peers;
        self.completed += other.completed;
        self.evicted += other.evicted;
    }
}

fn by_name<S: Serializer>(parts: &[Part], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(parts.iter().map(|part| (part.name, part)))
}

/// Three digits after the point are enough for people, and for differences.
pub(crate) fn milliseconds<S: Serializer>(seconds: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((seconds * 1e3).round() / 1e3)
}

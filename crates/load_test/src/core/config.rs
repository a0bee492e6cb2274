//! Keys that all load testers have.
//!
//! Each tester flattens these sections into its own: [`RunConfig`] into the root, the others into
//! `[requests]` and `[answers]`.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use aquatic_config::{Checks, LogLevel, section};

section! {
    /// How a run goes.
    pub struct RunConfig {
        /// How much is logged: off, error, warn, info, debug or trace.
        pub log_level: LogLevel = LogLevel::Warn,
        /// The tracker's address, IPv4 or IPv6. See also `network.client_ips`.
        pub server_address: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 3000)),
        /// Threads that send requests. One is enough to saturate a tracker on one core.
        pub workers: usize = 1,
        /// How long is measured, in seconds.
        pub duration_seconds: u32 = 30,
        /// How long the same load is applied before, in seconds. It does not show in the report.
        pub warm_up_seconds: u32 = 5,
        /// Requests per second, all workers together.
        ///
        /// 0: as many as the tracker answers; a number of requests (see `network`) is kept waiting.
        /// That shows what the tracker can do; latency is then mostly the time that requests spend
        /// in its queue.
        ///
        /// Any other number: this rate, at random times as strangers would come, whether answers
        /// come or not. Latency counts from when a request was meant to be sent. The tester then
        /// hardly sleeps, so as to be on time: its own CPU time says little. If the system lets
        /// something else run on its core, it is late nevertheless: the report tells for how long.
        pub rate_per_second: u32 = 0,
        /// Process id of the tracker, if it runs on this machine: its CPU time and memory are
        /// measured. 0: they are not.
        pub tracker_pid: u32 = 0,
        /// Print the report as one line of JSON instead of a table.
        pub print_json: bool = false,
        /// Show how far the run has come, in one line on standard error. That is only done at a
        /// terminal.
        pub show_progress: bool = true,
        /// Equal seeds: the same torrents and peers in each run.
        pub seed: u64 = 1,
    }
}

section! {
    /// Who asks for what.
    pub struct PopulationConfig {
        /// Torrents.
        pub number_of_torrents: u32 = 1_000_000,
        /// Peers, in all torrents together.
        pub number_of_peers: u32 = 2_000_000,
        /// How unequally peers are spread over torrents (Zipf's law): the torrent of rank k gets a
        /// number of peers in proportion to 1 / k^exponent. 0: all torrents are equally popular.
        pub torrent_popularity_exponent: f64 = 1.0,
        /// Probability that a peer is a seeder.
        pub seeder_probability: f64 = 0.75,
        /// Peers that an announce asks for.
        pub num_want: u16 = 30,
        /// Torrents that a scrape asks about.
        pub scrape_torrents: u8 = 10,
    }
}

section! {
    /// When an answer is late or lost.
    pub struct AnswersConfig {
        /// An answer that takes longer is late, in milliseconds.
        pub late_after_ms: u32 = 1_000,
        /// A request without an answer for so long is lost, in milliseconds. The tester waits so
        /// long after the last request.
        pub lost_after_ms: u32 = 3_000,
    }
}

/// Requires a number that is not 0.
pub(crate) fn require_some(checks: &mut Checks, key: &'static str, value: u32) {
    checks.require(value > 0, key, "must be at least 1");
}

/// Requires a number within these bounds.
pub(crate) fn require_within<T: PartialOrd + Display>(
    checks: &mut Checks,
    key: &'static str,
    value: T,
    bounds: RangeInclusive<T>,
) {
    let (start, end) = (bounds.start(), bounds.end());
    let reason = format!("must be from {start} to {end}");
    checks.require(bounds.contains(&value), key, reason);
}

impl RunConfig {
    /// Requires that a run can be made of this.
    pub fn check(&self, checks: &mut Checks) {
        require_some(checks, "duration_seconds", self.duration_seconds);
        require_within(checks, "workers", self.workers, 1..=1024);
        checks.require(
            self.server_address.port() != 0,
            "server_address",
            "needs a port",
        );
    }

    /// Each worker's part of `rate_per_second`. `None`: as many as the tracker answers.
    #[must_use]
    pub fn rate_per_worker(&self) -> Option<f64> {
        let workers = u32::try_from(self.workers).unwrap_or(u32::MAX);
        (self.rate_per_second > 0).then(|| f64::from(self.rate_per_second) / f64::from(workers))
    }
}

impl PopulationConfig {
    /// Requires that a population can be made of this whose peers are shared among `sockets`.
    pub fn check(&self, sockets: usize, checks: &mut Checks) {
        for (key, value) in [
            ("requests.number_of_torrents", self.number_of_torrents),
            ("requests.scrape_torrents", self.scrape_torrents.into()),
        ] {
            require_some(checks, key, value);
        }
        checks.require(
            (0.0..=1.0).contains(&self.seeder_probability),
            "requests.seeder_probability",
            "is a probability: from 0 to 1",
        );
        let key = "requests.torrent_popularity_exponent";
        require_within(checks, key, self.torrent_popularity_exponent, 0.0..=10.0);
        checks.require(
            usize::try_from(self.number_of_peers).is_ok_and(|peers| peers >= sockets),
            "requests.number_of_peers",
            "must not be less than the number of sockets: each speaks for peers of its own",
        );
    }
}

impl AnswersConfig {
    /// `late_after_ms` in microseconds.
    #[must_use]
    pub fn late_after_micros(&self) -> u64 {
        u64::from(self.late_after_ms) * 1_000
    }

    /// `lost_after_ms` in microseconds.
    #[must_use]
    pub fn lost_after_micros(&self) -> u64 {
        u64::from(self.lost_after_ms) * 1_000
    }

    /// Requires that late comes before lost.
    pub fn check(&self, checks: &mut Checks) {
        require_some(checks, "answers.late_after_ms", self.late_after_ms);
        checks.require(
            self.lost_after_ms >= self.late_after_ms,
            "answers.lost_after_ms",
            "must not be less than `answers.late_after_ms`",
        );
    }
}

//! Keys that testers over TCP have in common.
//!
//! Each tester flattens [`ConnectConfig`] into its `[network]` and [`WeightsConfig`] into its
//! `[requests]`, and has an [`IdleConfig`].

use aquatic_config::{Checks, section};
use rustls::pki_types::ServerName;

use crate::core::client_ips::{self, IpRange};
use crate::core::config::RunConfig;
use crate::core::kind::{Mix, RequestKind};

section! {
    /// How connections are made.
    pub struct ConnectConfig {
        /// Addresses that the connections come from in turn: "127.0.0.1", or a range such as
        /// "127.0.0.1-127.0.0.20". Each address has room for about 28,000 connections. Empty: the
        /// system chooses.
        pub client_ips: Vec<IpRange> = vec![IpRange::LOOPBACK],
        /// Speak TLS (1.3, or 1.2 where the tracker cannot do more). Any certificate is accepted,
        /// and none is looked at: that saves the tester time.
        pub enable_tls: bool = false,
        /// Take up the TLS session that the same connection had before, instead of starting anew.
        /// Matters if connections are not kept.
        pub tls_resumption: bool = true,
        /// Agree on TLS keys that withstand quantum computers (X25519MLKEM768), which takes more of
        /// both sides' time. Otherwise X25519, as most BitTorrent clients do.
        pub tls_post_quantum: bool = false,
        /// The host name that is asked for in TLS.
        pub tls_server_name: String = "localhost".to_owned(),
    }
}

section! {
    /// Idling instead of loading: each connection announces once and is kept, and the tracker's
    /// memory is measured before and after.
    pub struct IdleConfig {
        /// Idle.
        pub enabled: bool = false,
        /// How long after the last answer memory is measured, in seconds.
        pub hold_seconds: u32 = 5,
    }
}

section! {
    /// How often a request is of which kind.
    pub struct WeightsConfig {
        /// How often a request is an announce, in proportion to the other weight.
        pub weight_announce: u32 = 50,
        /// How often a request is a scrape.
        pub weight_scrape: u32 = 1,
    }
}

impl WeightsConfig {
    /// Requires that something is asked.
    pub fn check(&self, checks: &mut Checks) {
        checks.require(
            self.weight_announce > 0 || self.weight_scrape > 0,
            "requests.weight_announce",
            "one of the two weights must be more than 0",
        );
    }

    /// What is asked how often.
    #[must_use]
    pub fn mix(&self) -> Mix {
        Mix::new(&[
            (RequestKind::Announce, self.weight_announce),
            (RequestKind::Scrape, self.weight_scrape),
        ])
    }
}

impl ConnectConfig {
    /// Requires that so many connections can be made like this.
    pub fn check(&self, connections: usize, run: &RunConfig, checks: &mut Checks) {
        checks.require(
            (run.workers..=1_000_000).contains(&connections),
            "network.connections",
            "must be from the number of `workers` to 1000000",
        );
        checks.require(
            ServerName::try_from(self.tls_server_name.as_str()).is_ok(),
            "network.tls_server_name",
            "must be a host name or an IP address",
        );
        let server = run.server_address.ip();
        client_ips::check(&self.client_ips, "network.client_ips", server, checks);
    }
}

/// Requires that a request for this path can be written with these lines in its head.
pub fn check_head(path: &str, headers: &[String], checks: &mut Checks) {
    checks.require(
        path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic()),
        "requests.path",
        "must begin with / and have no spaces",
    );
    for line in headers {
        checks.require(
            line.contains(':') && !line.contains(['\r', '\n']),
            "requests.headers",
            format!("{line:?} is not a header line"),
        );
    }
}

//! End-to-end tests: BitTorrent clients that other people wrote, against our real binaries.
//!
//! A tracker is right when clients find each other through it. So these tests take the clients
//! of a Linux distribution, forbid them every other way to meet (DHT, local discovery, peer
//! exchange), and let them transfer a file. What is asserted is what an operator would look at:
//! the file has arrived byte by byte, and the tracker's counts say so.
//!
//! This crate is the stage; the plays are in `tests/`.
//!
//! | module | what it gives |
//! |---|---|
//! | [`host`] | where a program runs: this machine, or a network namespace with addresses of its own |
//! | [`lab`] | a few such namespaces on one bridge |
//! | [`cluster_lab`] | three machines with a tracker and a NATS server each, and cables to be cut |
//! | [`slow_way`] | a connection to a server that takes its time |
//! | [`process`] | a child process that is ended with the test, and its log |
//! | [`tracker`] | one of our daemons, started and seen to answer |
//! | [`identity`] | a certificate for a tracker over TLS |
//! | [`ask`] | a minimal UDP tracker client, written from BEP 15 alone |
//! | [`curl`] | curl, which asks trackers over HTTP and HTTPS |
//! | [`torrent`] | a file of random bytes and its `.torrent` |
//! | [`folder`] | a temporary folder, whose logs are shown when the test fails |
//! | [`wait`] | waiting for a condition |
//! | [`clients`] | aria2, libtorrent, rTorrent, Transmission, pages in a browser, npm's client |
//! | [`nginx`] | a reverse proxy in front of a tracker |
//! | [`prometheus`] | Prometheus, which collects metrics |
//! | [`transfer`] | a file that goes from one client to another |
//! | [`workspace`] | the source tree that is being tested |
//!
//! It deliberately shares no codec with the trackers: an error in ours must not be able to cancel
//! itself out.

#![forbid(unsafe_code)]

pub mod ask;
pub mod clients;
pub mod cluster_lab;
pub mod curl;
pub mod folder;
pub mod host;
pub mod identity;
pub mod lab;
pub mod nginx;
pub mod process;
pub mod prometheus;
pub mod slow_way;
pub mod torrent;
pub mod tracker;
pub mod transfer;
pub mod wait;
pub mod workspace;

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// What clients and trackers speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// BEP 15.
    Udp,
    /// BEP 3, plain.
    Http,
    /// BEP 3, over TLS with a certificate that the test has made.
    Https,
    /// WebTorrent, plain.
    Ws,
    /// WebTorrent, over TLS like [`Self::Https`].
    Wss,
}

impl Protocol {
    /// What the URL begins with.
    #[must_use]
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Http => "http",
            Self::Https => "https",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }

    /// The daemon that serves it.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Self::Udp => "aquatic_udp",
            Self::Http | Self::Https => "aquatic_http",
            Self::Ws | Self::Wss => "aquatic_ws",
        }
    }

    /// Whether it is spoken over TLS.
    #[must_use]
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Wss)
    }
}

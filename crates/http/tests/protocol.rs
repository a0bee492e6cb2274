//! Black-box tests: the real binary, real sockets, nothing known but the protocol and the manual.
//!
//! A scenario is written once and run on a matrix of [cases](protocol::setup::Case) side by side:
//! both runtimes, fused and split topologies, without TLS and with it. What has to do with
//! connections only is run on each runtime, with and without TLS; what does not depend on them,
//! once.
//!
//! Requests are written, and answers read, without the tracker's own codec.
//!
//! | module | what is tested |
//! |---|---|
//! | `requests`, `statuses` | what is read, what is refused in words, malformed HTTP |
//! | `swarms`, `scrapes` | what is answered |
//! | `connections`, `deadlines`, `half_close` | how long a connection lasts |
//! | `crowds`, `limits`, `memory`, `one_address` | many, noisy and greedy clients |
//! | `stops` | what clients see of a stop |
//! | `tls` | versions, tickets, certificates and their exchange |
//! | `proxies`, `proxy_programs` | who the client is; nginx and haproxy |
//! | `faults` | what a kernel can refuse |
//! | `configuration` | keys, mistakes, old spellings |
//! | `reloads` | settings that change meanwhile |
//! | `prometheus` | what a tracker tells about itself |
//! | `keys` | clients that need a key |
//! | `operations` | what all daemons of the family do alike |
//!
//! A test waits for a condition, with a deadline, and never for a time.

#![cfg(target_os = "linux")]

mod protocol {
    use aquatic_test_support::{connection, identity};

    mod client;
    pub(crate) mod setup;

    mod configuration;
    mod connections;
    mod crowds;
    mod deadlines;
    mod faults;
    mod half_close;
    mod keys;
    mod limits;
    mod memory;
    mod one_address;
    mod operations;
    mod prometheus;
    mod proxies;
    mod proxy_programs;
    mod reloads;
    mod requests;
    mod scrapes;
    mod statuses;
    mod stops;
    mod swarms;
    mod tls;
}

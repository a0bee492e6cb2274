//! Black-box tests: the real binary, real sockets, nothing known but the protocol and the manual.
//!
//! A scenario is written once and run on a matrix of cases side by side: both runtimes, fused and
//! split topologies, without TLS and with it. What has to do with connections only is run on each
//! runtime, with and without TLS; what does not depend on them, once.
//!
//! Frames and messages are written and read without the tracker's own codec.
//!
//! | module | what is tested |
//! |---|---|
//! | `upgrades` | who gets a WebSocket, and what others are told |
//! | `frames` | WebSocket: fragments, pings, the end |
//! | `messages` | what is read, what is answered, what is refused in words |
//! | `relaying` | who gets which offer and answer |
//! | `presence` | how long peers stay, and what they take up |
//! | `connections` | silence, slow readers, caps, new certificates |
//! | `memory` | what all connections hold together |
//! | `half_close` | messages right before the end |
//! | `stops` | what clients see of a stop |
//! | `reloads` | settings that change meanwhile |
//! | `prometheus` | what a tracker tells about itself |
//! | `configuration` | keys, mistakes, old spellings |
//! | `keys`, `peers_of_keys` | clients that need a key |
//! | `operations` | what all daemons of the family do alike |
//!
//! A test waits for a condition, with a deadline, and never for a time.

#![cfg(target_os = "linux")]

mod protocol {
    mod client;
    pub(crate) mod setup;

    mod configuration;
    mod connections;
    mod frames;
    mod half_close;
    mod keys;
    mod memory;
    mod messages;
    mod operations;
    mod peers_of_keys;
    mod presence;
    mod prometheus;
    mod relaying;
    mod reloads;
    mod stops;
    mod upgrades;
}

//! Load testers for BitTorrent trackers of any make: over UDP, over HTTP and HTTPS, and for
//! WebTorrent. They play many peers, and measure what the tracker makes of them.
//!
//! Each protocol has a program (`src/bin`) and a module, of which it calls `run`:
//!
//! ```text
//!  aquatic_udp_load_test ──▶ udp ───────────────────┐
//!  aquatic_http_load_test ─▶ http ──┐               ▼
//!                                   ├─▶ stream ──▶ core
//!  aquatic_ws_load_test ───▶ ws ────┘
//! ```
//!
//! | module | contents |
//! |---|---|
//! | [`core`] | for all: who asks for what and when, how answers are counted and reported |
//! | [`stream`] | for those over TCP and TLS: connections, their events, the ways of putting load |
//! | [`udp`], [`http`], [`ws`] | the testers: their configuration, requests and answers |
//!
//! It trusts every certificate, and has no protection from a hostile tracker: it is for trackers of
//! one's own.

#![forbid(unsafe_code)]

pub mod core;
pub mod http;
pub mod stream;
pub mod udp;
pub mod ws;

//! What load testers for BitTorrent trackers have in common, whatever they speak: who asks for
//! what and when, how answers are counted, and how that is reported.
//!
//! ```text
//!  config ── population ── which peer ──┐                         ┌── tally ── report ── stdout
//!         └─ arrivals, kind ── what, ───┤                         │
//!                              when     ▼                         │
//!                            the tester's workers ── requests ──▶ tracker
//!                                       │
//!                                      run ── starts them, watches the time and the processes
//! ```
//!
//! A tester keeps two things apart: a request is measured if it was *due* within the run's window,
//! and its latency counts from then, not from when the tester got round to sending it.
//!
//! Sockets and protocols are the testers' own, and so are their loops.
//!
//! | module | contents |
//! |---|---|
//! | [`config`], [`client_ips`] | the keys that all testers have |
//! | [`population`] | torrents, peers and their popularity |
//! | [`kind`] | kinds of requests and of faults, and how often each request is chosen |
//! | [`arrivals`] | when requests are due at a fixed rate |
//! | [`tally`], [`connections`], [`report`] | counting, and what is printed |
//! | [`run`] | warm-up, window, workers |
//! | [`stalls`] | whether the tester itself was late |
//! | [`process`] | CPU time and memory of a process |
//! | [`progress`] | the line at the terminal while it runs |

pub mod arrivals;
pub mod client_ips;
pub mod config;
pub mod connections;
pub mod kind;
pub mod population;
pub mod process;
pub mod progress;
pub mod report;
pub mod run;
pub mod stalls;
pub mod tally;

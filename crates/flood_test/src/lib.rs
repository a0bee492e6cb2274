//! Attacks a tracker on this machine in one way at a time, while honest clients ask it, and says
//! what they got and how much memory the tracker took.
//!
//! ```text
//!  catalogue ── one flood ──▶ datagrams, connections, signals ─┐
//!                                                              ├──▶ tracker ◀── observer
//!                     honest ── 200 requests/s ────────────────┘                   │
//!                        └── what was served, and when ──▶ report ◀────────────────┘
//! ```
//!
//! `scripts/floods.sh` starts trackers and tries all floods of the [catalogue]. [Soak tests](soak)
//! are apart from that: nobody attacks, but for an hour (`scripts/soak.sh`).
//!
//! Floods have a rate and come from loopback addresses only; other trackers than one of this
//! machine are refused ([`local`]). Attackers use 127.2.0.0/16, honest clients 127.1.0.0/16, so
//! that what a tracker does to an address hits no wrong one.
//!
//! | module | contents |
//! |---|---|
//! | [`catalogue`] | all floods, with their rates |
//! | [`content`] | what attackers send |
//! | [`datagrams`], [`connections`], [`signals`] | how they send it |
//! | [`honest`] | clients that want to be served |
//! | [`observer`] | memory and CPU time of the tracker, and what the kernel has dropped |
//! | [`report`] | one row of a table, and whether the tracker has passed |
//! | [`local`] | loopback addresses |
//! | `link` | TCP connections that never block |
//! | [`pace`] | how many of something are due |
//! | [`soak`] | whether a tracker is the same after an hour |

#![forbid(unsafe_code)]

pub mod catalogue;
pub mod connections;
pub mod content;
pub mod datagrams;
pub mod honest;
mod link;
pub mod local;
pub mod observer;
pub mod pace;
pub mod report;
pub mod run;
pub mod signals;
pub mod soak;

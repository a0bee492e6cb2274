//! Measures BitTorrent trackers of any make side by side: runs them in turn under the same load,
//! and writes what came out as tables (Markdown) and plots (SVG).
//!
//! ```text
//!  plan ──┐                      for each set, round by round: A B C, A B C, ...
//!         ├─▶ run ─▶ contest ─────────────┬───────────────▶ tracker   (one set of CPUs)
//!  trackers                               └─ load tester ──────┘      (another)
//!                                              │ JSON
//!                                              ▼
//!                            results (lines of JSON) ──▶ report ──▶ Markdown, SVG
//! ```
//!
//! An absolute figure holds for one machine on one day, so the trackers of a set take turns, and
//! what is told first is the ratio of each pair of runs that were neighbours in time. A run that
//! fails is told as failed, and the others go on. What is measured is the load testers' affair
//! (`aquatic_load_test`): CPU time of the tracker's process in the same window as its answers,
//! latencies from when a request was due.
//!
//! | module | contents |
//! |---|---|
//! | [`plan`] | what is to be measured: a TOML file, or one that is built in |
//! | [`bounds`] | how long a plan may take |
//! | [`trackers`], [`find`] | how each tracker is configured and started, and where it is |
//! | [`run`], [`contest`], [`order`] | all sets; one tracker under load once; whose turn it is |
//! | [`child`], [`pin`], [`materials`] | processes that end with us, their CPUs, files they need |
//! | [`figures`], [`statistics`] | what a load tester reported; medians and ratios |
//! | [`machine`], [`results`] | where it was measured; lines of JSON, out and in |
//! | [`report`] | Markdown and SVG, a pure function of the results |
//! | [`compare`] | two programs, without a plan |
//! | [`cluster`] | several of our trackers that share their swarms |
//!
//! It does not judge: no figure makes it fail. Budgets are held by `aquatic_budgets`.

#![forbid(unsafe_code)]

pub mod bounds;
pub mod child;
pub mod cluster;
pub mod compare;
pub mod contest;
pub mod figures;
pub mod find;
pub mod machine;
pub mod materials;
pub mod order;
pub mod pin;
pub mod plan;
pub mod report;
pub mod results;
pub mod run;
pub mod statistics;
pub mod trackers;

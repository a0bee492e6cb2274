//! What workers count and shards report, put together: for Prometheus, and for whatever else a
//! daemon shows to people.
//!
//! One thread reads everything, every few seconds. It shares nothing else with the workers, so
//! whatever it does does not delay an answer to a client.
//!
//! | module | contents |
//! |---|---|
//! | [`counters`], [`report`] | what workers count, and shards report |
//! | [`figures`] | all of that for people: totals, rates, history |
//! | `pages`, `tables` | how people see them: in a browser, in a file, on standard output |
//! | `sample` | all of that at one moment: [`Sample`] |
//! | `prometheus`, `peer_counts`, `old_names` | how Prometheus is told |

pub mod counters;
pub mod figures;
mod old_names;
pub(crate) mod pages;
mod peer_counts;
mod prometheus;
pub mod report;
mod sample;
pub(crate) mod tables;

pub use old_names::write_old_names;
pub use peer_counts::write_peer_counts;
pub use prometheus::PrometheusMetrics;
pub(crate) use sample::client_name;
pub use sample::{FamilySample, Sample, Totals, Traffic};

/// A count as a floating point number, for rates and for metrics.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "nobody needs the 17th digit")]
pub fn approximate(count: u64) -> f64 {
    count as f64
}

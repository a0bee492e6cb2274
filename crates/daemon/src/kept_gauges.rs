//! Gauges that are set when something happens, such as a reload, and can be read again.
//!
//! The `metrics` facade takes values and gives none back. Prometheus gets them by way of its
//! exporter; whoever else shows figures of the process finds them here. Like the facade, there is
//! one for the whole process.

use std::sync::{Mutex, PoisonError};

use metrics::{Label, gauge};

/// Few: some ten names, with at most one value for each protocol.
static GAUGES: Mutex<Vec<Gauge>> = Mutex::new(Vec::new());

struct Gauge {
    name: &'static str,
    labels: Vec<Label>,
    value: f64,
}

/// Sets a gauge, for Prometheus and for [`get`].
pub fn set(name: &'static str, labels: &[Label], value: f64) {
    gauge!(name, labels.iter()).set(value);
    let mut gauges = GAUGES.lock().unwrap_or_else(PoisonError::into_inner);
    let is_it = |gauge: &&mut Gauge| gauge.name == name && gauge.labels == labels;
    match gauges.iter_mut().find(is_it) {
        Some(gauge) => gauge.value = value,
        None => gauges.push(Gauge {
            name,
            labels: labels.to_vec(),
            value,
        }),
    }
}

/// What a gauge was last set to; `None` if it never was.
#[must_use]
pub fn get(name: &str, labels: &[Label]) -> Option<f64> {
    let gauges = GAUGES.lock().unwrap_or_else(PoisonError::into_inner);
    let mut gauges = gauges.iter();
    gauges
        .find(|gauge| gauge.name == name && gauge.labels == labels)
        .map(|gauge| gauge.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_is_what_it_was_last_set_to() {
        let labels = [Label::from_static_parts("protocol", "bees")];
        assert_eq!(get("kept_gauges_test", &[]), None);
        set("kept_gauges_test", &[], 1.0);
        set("kept_gauges_test", &labels, 2.0);
        set("kept_gauges_test", &[], 3.0);
        assert_eq!(get("kept_gauges_test", &[]), Some(3.0));
        assert_eq!(get("kept_gauges_test", &labels), Some(2.0));
    }
}

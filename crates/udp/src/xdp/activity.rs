//! Whether the program works, interface by interface, and its queues, for Prometheus.

use aquatic_daemon::kept_gauges;
use metrics::{Label, Unit, describe_gauge};

const ACTIVE: &str = "aquatic_xdp_active";
const QUEUE_ACTIVE: &str = "aquatic_xdp_queue_active";

/// Nothing works yet, and what cannot have the program stays so.
pub(super) fn describe(interfaces: &[String]) {
    describe_gauge!(
        ACTIVE,
        Unit::Count,
        "Whether the program of network.xdp works at an interface"
    );
    describe_gauge!(
        QUEUE_ACTIVE,
        Unit::Count,
        "Whether a queue of AF_XDP is served"
    );
    for interface in interfaces {
        set(interface, false);
    }
}

pub(super) fn set(interface: &str, is_active: bool) {
    kept_gauges::set(ACTIVE, &[at(interface)], value(is_active));
}

pub(crate) fn set_queue(interface: &str, number: u32, is_active: bool) {
    let labels = [at(interface), Label::new("queue", number.to_string())];
    kept_gauges::set(QUEUE_ACTIVE, &labels, value(is_active));
}

fn at(interface: &str) -> Label {
    Label::new("interface", interface.to_owned())
}

fn value(is_active: bool) -> f64 {
    f64::from(u8::from(is_active))
}

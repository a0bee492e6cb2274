//! Whether the program works, interface by interface, for Prometheus.

use aquatic_daemon::kept_gauges;
use metrics::{Label, Unit, describe_gauge};

const ACTIVE: &str = "aquatic_xdp_active";

/// Nothing works yet, and what cannot have the program stays so.
pub(super) fn describe(interfaces: &[String]) {
    describe_gauge!(
        ACTIVE,
        Unit::Count,
        "Whether the program of network.xdp works at an interface"
    );
    for interface in interfaces {
        set(interface, false);
    }
}

pub(super) fn set(interface: &str, is_active: bool) {
    let label = Label::new("interface", interface.to_owned());
    kept_gauges::set(ACTIVE, &[label], f64::from(u8::from(is_active)));
}

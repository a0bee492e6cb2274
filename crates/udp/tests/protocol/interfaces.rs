//! Interfaces that the machine does not have (`network.xdp_interfaces`).

use aquatic_test_support::Place;
use aquatic_test_support::operations::checking::{assert_advice, assert_problems};
use aquatic_types::IpFamily;

use super::client::serves;
use super::setup::{SIMPLE, UDP};

const MISSING: &str = "network.xdp = 'filter'\nnetwork.xdp_interfaces = ['no-such-one']\n";

/// A unit that checks before it starts must not keep out a tracker that would serve.
#[test]
fn one_that_is_missing_is_an_error_only_if_it_is_required() {
    let place = Place::new();
    let told = "`network.xdp_interfaces`: \"no-such-one\": there is no such interface";
    let advice = format!("line 2: {told}: what comes there is left to the kernel");
    assert_advice(&place, &UDP, MISSING, &[&advice]);
    let daemon = place.start(SIMPLE, MISSING);
    daemon.wait_for_log("the tracker serves without");
    for family in IpFamily::ALL {
        assert!(serves(daemon.address(family)));
    }

    let required = format!("{MISSING}network.xdp_required = true\n");
    let problem = format!("line 2, column 9: {told}");
    assert_problems(&Place::new(), &UDP, &required, &[&problem]);
    let ended = Place::new().fail(SIMPLE, &required);
    assert_eq!(ended.code, Some(1), "{}", ended.log);
}

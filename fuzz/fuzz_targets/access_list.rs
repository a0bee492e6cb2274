//! Any bytes as an access list, and as a list of denied networks: each line counts at most once.
#![no_main]

use aquatic_access_list::{AccessList, DeniedNetworks};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let lines = bytes.split(|byte| *byte == b'\n').count();
    match AccessList::parse(bytes) {
        Ok(list) => assert!(list.len() <= lines),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    match DeniedNetworks::parse(bytes) {
        Ok(networks) => assert!(networks.entries() <= lines),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});

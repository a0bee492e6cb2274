//! Any text as a network of proxies: what is one can be written down, and means the same again.
#![no_main]

use aquatic_access_list::{Network, NetworkError};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match text.parse::<Network>() {
        Ok(network) => assert_eq!(network.to_string().parse(), Ok(network)),
        Err(NetworkError::NotTheFirst(meant)) => {
            assert_eq!(meant.to_string().parse(), Ok(meant));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});

//! Any text as the configuration file of each program: what is accepted can be written down, and
//! means the same when it is read again.
#![no_main]

use aquatic_config::{Config, load, to_documented_toml};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    read::<aquatic_udp::config::Config>(text);
    read::<aquatic_http::config::Config>(text);
    read::<aquatic_ws::config::Config>(text);
});

fn read<C: Config>(text: &str) {
    match load::<C>(text) {
        Ok(loaded) => {
            let written = to_documented_toml(&loaded.config);
            let again = load::<C>(&written).expect("what was written can be read");
            assert_eq!(to_documented_toml(&again.config), written);
            assert!(again.warnings.is_empty(), "{:?}", again.warnings);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

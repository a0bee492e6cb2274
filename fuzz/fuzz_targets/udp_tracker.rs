//! A whole UDP tracker: service, workers, swarms.
#![no_main]

use aquatic_fuzz::datagrams::{Step, Tracker};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|steps: Vec<Step>| Tracker::default().live(steps));

//! Any text as the file of a connection secret: what is one has 32 digits, and they are the secret.
#![no_main]

use aquatic_udp::connection_secret::parse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Some(secret) = parse(text) else { return };
    let bytes = secret.iter().flat_map(|half| half.to_le_bytes());
    let digits = bytes.map(|byte| format!("{byte:02x}")).collect::<String>();
    assert!(text.to_ascii_lowercase().contains(&digits));
    assert_eq!(parse(&digits), Some(secret));
});

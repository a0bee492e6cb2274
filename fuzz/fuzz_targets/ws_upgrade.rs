//! Any bytes as the request that opens a WebSocket.
#![no_main]

use aquatic_types::CanonicalAddr;
use aquatic_ws::config::Config;
use aquatic_ws::upgrade::Doorkeeper;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (bool, bool, u16, &[u8])| {
    let (runs_behind_reverse_proxy, has_origins, seen, bytes) = input;
    let mut config = Config::default();
    config.network.stream.runs_behind_reverse_proxy = runs_behind_reverse_proxy;
    config.network.enable_http_health_checks = true;
    if has_origins {
        config.network.allowed_origins = vec!["https://example.com".to_owned()];
    }
    let peer = CanonicalAddr::new(([192, 0, 2, 1], 1).into());
    let seen = usize::from(seen).min(bytes.len());
    let decided = Doorkeeper::new(&config).decide(peer, bytes, seen);
    if let Some((_, size)) = decided {
        assert!(size <= bytes.len());
    }
});

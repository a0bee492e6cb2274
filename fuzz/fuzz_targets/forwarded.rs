//! Any bytes as the header of a reverse proxy, to which our own proxy has added its part: whoever
//! has written the rest is not taken for somebody else.
#![no_main]

use aquatic_access_list::Network;
use aquatic_stream::{ReverseProxy, StreamConfig, TrustedProxies};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let own = "127.0.0.1:1".parse().map(aquatic_types::CanonicalAddr::new);
    let own = own.expect("an address");
    let trusted: Network = "127.0.0.1".parse().expect("a network");
    for (name, added) in [
        ("X-Forwarded-For", ", 203.0.113.9"),
        ("Forwarded", ", for=203.0.113.9"),
        (
            "Forwarded",
            ", for=\"203.0.113.9:80\";proto=https, for=127.0.0.1",
        ),
    ] {
        let proxy = ReverseProxy::from_config(&StreamConfig {
            runs_behind_reverse_proxy: true,
            reverse_proxy_ip_header_name: name.to_owned(),
            trusted_proxies: TrustedProxies::new(vec![trusted]),
            ..StreamConfig::default()
        });
        let proxy = proxy.expect("it is switched on");
        let line = [bytes, added.as_bytes()].concat();
        let client = proxy.client(own, [(name.as_bytes(), &line[..])].into_iter());
        let is_certain = name == "X-Forwarded-For";
        match client {
            Ok(client) => assert_eq!(client.ip().to_string(), "203.0.113.9"),
            Err(refusal) => assert!(!is_certain, "{refusal:?}"),
        }
        // Two lines are one list.
        let lines = [
            (name.as_bytes(), bytes),
            (name.as_bytes(), &added.as_bytes()[2..]),
        ];
        let client = proxy
            .client(own, lines.into_iter())
            .map(|client| client.ip().to_string());
        assert_eq!(client.as_deref(), Ok("203.0.113.9"));
    }
});

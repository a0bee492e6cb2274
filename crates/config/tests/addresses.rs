//! What a daemon listens on, as files of today and of former versions say it.

use aquatic_config::{Addresses, Checks, Config, LogLevel, OldSpellings, load, section};

section! {
    /// A tracker for tests.
    pub struct TrackerConfig {
        pub network: NetworkConfig,
    }
}

section! {
    /// Sockets.
    pub struct NetworkConfig {
        /// Where to listen.
        pub address: Addresses = Addresses::default(),
        /// Whether `[::]` is for IPv6 alone.
        pub only_ipv6: bool = false,
    }
}

impl Config for TrackerConfig {
    fn rewrite_old_spellings(old: &mut OldSpellings<'_, '_>) {
        old.merge_network_addresses();
    }

    fn check(&self, checks: &mut Checks) {
        let NetworkConfig { address, only_ipv6 } = &self.network;
        address.check_only_ipv6(*only_ipv6, checks);
    }

    fn log_level(&self) -> LogLevel {
        LogLevel::Off
    }
}

/// The configuration and the warnings about it.
fn deprecated(text: &str) -> (TrackerConfig, Vec<String>) {
    let loaded = load(text).unwrap_or_else(|error| panic!("{text}\n{error}"));
    (loaded.config, loaded.warnings)
}

fn addresses(config: &TrackerConfig) -> Vec<String> {
    let addresses = config.network.address.iter();
    addresses.map(|address| address.to_string()).collect()
}

/// What 0.9 served with such files, and by default.
#[test]
fn an_only_address_of_all_ipv6_serves_ipv4_too_unless_told_otherwise() {
    for text in [
        "address = '[::]:1'",
        "address = '[0:0::0]:1'",
        "address = ['[::]:1']",
        "address = '[::]:1'\nonly_ipv6 = false",
        "use_ipv4 = false\naddress_ipv6 = '[::]:1'\nset_only_ipv6 = false",
    ] {
        let (config, warnings) = deprecated(&format!("[network]\n{text}"));
        assert_eq!(addresses(&config), ["0.0.0.0:1", "[::]:1"], "{text}");
        let last = warnings.last().unwrap();
        assert!(last.contains("serves IPv4, too"), "{last}");
        assert!(last.starts_with("line "), "{last}");
        let today = "`network.address = [\"0.0.0.0:1\", \"[::]:1\"]`";
        assert!(last.contains(today), "{last}");
    }
    for text in [
        "address = '[::]:1'\nonly_ipv6 = true",
        "only_ipv6 = true\naddress = ['[::]:1']",
        "use_ipv4 = false\naddress_ipv6 = '[::]:1'",
        "use_ipv4 = false\naddress_ipv6 = '[::]:1'\nset_only_ipv6 = true",
    ] {
        let (config, warnings) = deprecated(&format!("[network]\n{text}"));
        assert_eq!(addresses(&config), ["[::]:1"], "{text}");
        assert!(config.network.only_ipv6, "{text}");
        let says_both = |warning: &String| warning.contains("serves IPv4");
        assert!(!warnings.iter().any(says_both), "{warnings:?}");
    }
    for (text, expected) in [
        ("'[::1]:1'", &["[::1]:1"][..]),
        ("'0.0.0.0:1'", &["0.0.0.0:1"]),
        ("['[::]:1', '0.0.0.0:2']", &["[::]:1", "0.0.0.0:2"]),
    ] {
        let text = format!("[network]\nonly_ipv6 = false\naddress = {text}");
        let (config, warnings) = deprecated(&text);
        assert_eq!(addresses(&config), expected);
        assert_eq!(warnings, Vec::<String>::new(), "{text}");
    }
}

#[test]
fn only_ipv6_with_an_ipv4_address_is_pointed_out() {
    let (config, warnings) = deprecated("[network]\nonly_ipv6 = true");
    assert_eq!(addresses(&config), ["0.0.0.0:3000", "[::]:3000"]);
    assert_eq!(
        warnings,
        [
            "line 2: `network.only_ipv6` is about `[::]` as the only address: 0.0.0.0:3000 is \
             served, too; to serve IPv6 alone, write `network.address = \"[::]:3000\"`"
        ]
    );
    let not_boolean = load::<TrackerConfig>("network.only_ipv6 = 1\nnetwork.address = '[::]:1'");
    assert_eq!(not_boolean.unwrap_err().problems.len(), 1);
}

#[test]
fn addresses_are_known_to_be_named_even_if_they_are_the_default_ones() {
    assert!(deprecated("").0.network.address.are_default());
    for text in [
        "network.address = ['0.0.0.0:3000', '[::]:3000']",
        "network.address = '[::]:3000'",
        "network.use_ipv4 = true",
    ] {
        let named = deprecated(text).0.network.address;
        assert!(!named.are_default(), "{text}");
        assert_eq!(named, Addresses::default());
    }
}

/// 0.9 listened on such an address by a socket of both IP versions.
#[test]
fn an_ipv4_mapped_address_is_ipv4() {
    let (config, warnings) = deprecated("[network]\naddress = '[::ffff:192.0.2.1]:5'");
    assert_eq!(addresses(&config), ["192.0.2.1:5"]);
    assert_eq!(
        warnings,
        ["line 2: `[::ffff:192.0.2.1]:5` is an IPv4 address: write \
             `network.address = \"192.0.2.1:5\"`"]
    );
}

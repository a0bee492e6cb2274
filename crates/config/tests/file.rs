//! A configuration as a daemon has it: printed, read, and refused in words.

use aquatic_config::{
    AccessListConfig, AccessListMode, Addresses, Checks, Config, LimitsConfig, LogLevel,
    OldSpellings, PrivilegeConfig, load, section, to_documented_toml,
};

use proptest::prelude::{any, prop, proptest};

section! {
    /// A tracker for tests.
    ///
    /// With a second paragraph.
    pub struct TrackerConfig {
        /// Threads that read sockets.
        ///
        /// 0 means one per CPU.
        pub socket_workers: u16 = 1,
        /// How much is logged.
        pub log_level: LogLevel = LogLevel::default(),
        pub network: NetworkConfig,
        /// Chance that a peer is a seeder.
        pub seeder_probability: f64 = 0.75,
        pub statistics: StatisticsConfig,
        pub privileges: PrivilegeConfig,
        pub access_list: AccessListConfig,
        pub limits: LimitsConfig,
    }
}

section! {
    /// Sockets.
    pub struct NetworkConfig {
        /// Where to listen.
        pub address: Addresses = Addresses::default(),
        /// Whether `[::]` is for IPv6 alone.
        pub only_ipv6: bool = false,
        /// Bytes.
        pub socket_recv_buffer_size: u64 = 8_000_000,
        /// The system interface.
        pub backend: String = "auto".to_owned(),
        pub tls: TlsConfig,
    }
}

section! {
    /// Encryption.
    pub struct TlsConfig {
        /// Whether to encrypt.
        pub enable: bool = false,
    }
}

section! {
    /// What is counted.
    pub struct StatisticsConfig {
        /// Seconds between reports.
        pub interval: u64 = 5,
        #[flatten]
        pub times: TimesConfig,
    }
}

section! {
    /// Times that several sections have.
    pub struct TimesConfig {
        /// Seconds that a report may take.
        pub deadline: u64 = 1,
    }
}

impl Config for TrackerConfig {
    fn rewrite_old_spellings(old: &mut OldSpellings<'_, '_>) {
        old.rename("metrics", "statistics");
        old.rename("network.recv_buffer", "network.socket_recv_buffer_size");
        old.replace("network.use_io_uring", "network.backend", |wanted: bool| {
            if wanted { "io_uring" } else { "mio" }
        });
        old.ignore("cpu_pinning", "pin the process with taskset");
        old.replace_negative("statistics.interval", "7");
        old.replace_beyond_32_bits("network.socket_recv_buffer_size", "999999999");
        old.merge_network_addresses();
    }

    fn clamp(&mut self, checks: &mut Checks) {
        let size = &mut self.network.socket_recv_buffer_size;
        let reason = "a packet must fit";
        checks.clamp(
            size,
            1..=1_000_000_000,
            "network.socket_recv_buffer_size",
            reason,
        );
        checks.clamp(
            &mut self.seeder_probability,
            0.0..=1.0,
            "seeder_probability",
            "it is a share",
        );
    }

    fn check(&self, checks: &mut Checks) {
        let StatisticsConfig {
            interval,
            ref times,
        } = self.statistics;
        checks.require(interval > 0, "statistics.interval", "must be at least 1");
        checks.require(
            times.deadline < interval,
            "statistics.deadline",
            format!("must be less than `statistics.interval`, which is {interval}"),
        );
    }

    fn log_level(&self) -> LogLevel {
        self.log_level
    }
}

fn config(text: &str) -> TrackerConfig {
    load(text)
        .unwrap_or_else(|error| panic!("{text}\n{error}"))
        .config
}

/// The configuration and the warnings about it.
fn deprecated(text: &str) -> (TrackerConfig, Vec<String>) {
    let loaded = load(text).unwrap_or_else(|error| panic!("{text}\n{error}"));
    (loaded.config, loaded.warnings)
}

fn problems(text: &str) -> Vec<String> {
    let error = load::<TrackerConfig>(text).expect_err(text);
    error.to_string().lines().map(str::to_owned).collect()
}

fn addresses(config: &TrackerConfig) -> Vec<String> {
    config
        .network
        .address
        .iter()
        .map(|address| address.to_string())
        .collect()
}

#[test]
fn the_printed_default_is_documented() {
    let text = to_documented_toml(&TrackerConfig::default());
    let expected = "\
# A tracker for tests.
#
# With a second paragraph.

# Threads that read sockets.
#
# 0 means one per CPU.
socket_workers = 1

# How much is logged.
log_level = \"warn\"

# Chance that a peer is a seeder.
seeder_probability = 0.75

# Sockets.
[network]
# Where to listen.
address = [\"0.0.0.0:3000\", \"[::]:3000\"]

# Whether `[::]` is for IPv6 alone.
only_ipv6 = false

# Bytes.
socket_recv_buffer_size = 8000000

# The system interface.
backend = \"auto\"

# Encryption.
[network.tls]
# Whether to encrypt.
enable = false

# What is counted.
[statistics]
# Seconds between reports.
interval = 5

# Seconds that a report may take.
deadline = 1

# Giving up rights once all sockets are bound";
    assert!(text.starts_with(expected), "{text}");
    for line in [
        "chroot_path = \".\"",
        "group = \"nogroup\"",
        "mode = \"off\"",
        "max_peers = 0",
    ] {
        assert!(
            text.lines().any(|printed| printed == line),
            "no line {line}\n{text}"
        );
    }
}

#[test]
fn what_is_printed_loads_to_the_same() {
    let default = TrackerConfig::default();
    assert_eq!(
        deprecated(&to_documented_toml(&default)),
        (default.clone(), vec![])
    );
    assert_eq!(config(""), default);

    let mut changed = default;
    changed.socket_workers = 7;
    changed.seeder_probability = 1.0;
    changed.log_level = LogLevel::Trace;
    changed.network.address = Addresses::new(vec!["[2001:db8::1]:1".parse().unwrap()]).unwrap();
    changed.network.backend = "a \"quoted\" \\ back-slashed\nline".to_owned();
    changed.network.tls.enable = true;
    changed.access_list.mode = AccessListMode::Deny;
    changed.access_list.path = "/ünï/list.txt".into();
    changed.limits.max_torrents = 10_000_000;
    assert_eq!(config(&to_documented_toml(&changed)), changed);
}

#[test]
fn every_toml_notation_of_a_section_is_read() {
    for text in [
        "[network]\nbackend = 'mio'\n[network.tls]\nenable = true",
        "network.backend = 'mio'\nnetwork.tls.enable = true",
        "network = { backend = 'mio', tls = { enable = true } }",
    ] {
        let network = config(text).network;
        assert_eq!(network.backend, "mio");
        assert!(network.tls.enable);
        assert_eq!(network.socket_recv_buffer_size, 8_000_000);
    }
}

#[test]
fn unknown_names_are_refused_with_a_suggestion() {
    assert_eq!(
        problems("socket_workers = 1\n\n[network]\n  adress = '0.0.0.0:1'"),
        ["line 4, column 3: unknown key `network.adress`; did you mean `network.address`?"]
    );
    assert_eq!(
        problems("[netwrok]\naddress = '0.0.0.0:1'"),
        ["line 1, column 2: unknown section `[netwrok]`; did you mean `[network]`?"]
    );
    assert_eq!(
        problems("zzz = 1"),
        ["line 1, column 1: unknown key `zzz`; -p prints every key that there is"]
    );
    assert_eq!(
        problems("[network]\nfoo = 1"),
        ["line 2, column 1: unknown key `network.foo`; -p prints every key that there is"]
    );
    assert_eq!(
        problems("[zzz]"),
        ["line 1, column 2: unknown section `[zzz]`; -p prints every section that there is"]
    );
}

#[test]
fn a_key_in_the_wrong_section_is_sent_to_the_right_one() {
    assert_eq!(
        problems("[network]\ninterval = 5"),
        ["line 2, column 1: unknown key `network.interval`; \
             did you mean `statistics.interval`?"]
    );
}

#[test]
fn all_mistakes_are_reported_in_the_order_of_the_file() {
    let text = "\
log_level = 'loud'
socket_workers = 70000
statistics = 3
typo = 1

[network]
socket_recv_buffer_size = -1
backend = true
tls.enable = 'yes'
";
    assert_eq!(
        problems(text),
        [
            "line 1, column 13: `log_level`: unknown variant `loud`, expected one of `off`, \
             `error`, `warn`, `info`, `debug`, `trace`",
            "line 2, column 18: `socket_workers`: invalid value: integer `70000`, expected a \
             whole number from 0 to 65535",
            "line 3, column 14: `statistics` is a section, not a key: write `[statistics]` above \
             its keys",
            "line 4, column 1: unknown key `typo`; -p prints every key that there is",
            "line 7, column 27: `network.socket_recv_buffer_size`: invalid value: integer `-1`, \
             expected a whole number, 0 or more",
            "line 8, column 11: `network.backend`: invalid type: boolean `true`, expected a text \
             in quotes",
            "line 9, column 14: `network.tls.enable`: invalid type: string \"yes\", expected true \
             or false; write true, without quotes",
        ]
    );
}

#[test]
fn text_that_is_not_toml_is_refused_with_its_place() {
    assert_eq!(
        problems("[network]\n  address = 0.0.0.0:3000\n"),
        [
            "line 2, column 16: this is not TOML: invalid float, expected nothing, in \
             `address = 0.0.0.0:3000`; put it in quotes: `address = \"0.0.0.0:3000\"`"
        ]
    );
}

#[test]
fn a_key_that_is_set_twice_is_refused() {
    let [problem] = &problems("socket_workers = 1\nsocket_workers = 2")[..] else {
        panic!("one")
    };
    assert!(
        problem.starts_with("line 2, column 1: this is not TOML: duplicate key"),
        "{problem}"
    );
}

#[test]
fn checks_are_reported_together_and_at_the_place_of_the_key() {
    assert_eq!(
        problems("[statistics]\ninterval = 0"),
        [
            "`deadline` in [statistics] (not in the file, so 1): must be less than \
             `statistics.interval`, which is 0",
            "line 2, column 1: `statistics.interval`: must be at least 1",
        ]
    );
    assert_eq!(Checks::run(&TrackerConfig::default()), Ok(()));
    let mut config = TrackerConfig::default();
    config.statistics.interval = 0;
    assert_eq!(Checks::run(&config).unwrap_err().problems.len(), 2);
}

#[test]
fn a_number_that_toml_cannot_hold_is_refused() {
    assert_eq!(
        config("statistics.interval = 0x7fff_ffff_ffff_ffff")
            .statistics
            .interval,
        i64::MAX.cast_unsigned()
    );
    for text in ["9223372036854775808", "0x8000_0000_0000_0000"] {
        assert_eq!(
            problems(&format!("statistics.interval = {text}")),
            ["line 1, column 23: `statistics.interval`: too large: at most 9223372036854775807"]
        );
    }
}

#[test]
fn addresses_are_one_or_a_list() {
    assert_eq!(addresses(&config("")), ["0.0.0.0:3000", "[::]:3000"]);
    let (one, warnings) = deprecated("network.address = '0.0.0.0:3000'");
    assert_eq!(addresses(&one), ["0.0.0.0:3000"]);
    assert!(warnings.is_empty());
    let many = "network.address = ['[::]:1', '127.0.0.1:1', '127.0.0.1:2', '0.0.0.0:3']";
    assert_eq!(
        addresses(&config(many)),
        ["[::]:1", "127.0.0.1:1", "127.0.0.1:2", "0.0.0.0:3"]
    );
}

#[test]
fn unusable_addresses_are_refused() {
    for (value, reason) in [
        ("[]", "needs at least one address"),
        (
            "['1.2.3.4:1', '1.2.3.4:1']",
            "1.2.3.4:1 occurs twice: remove one",
        ),
        (
            "['127.0.0.1:1', '[::]:1', '0.0.0.0:1']",
            "0.0.0.0:1 includes 127.0.0.1:1: leave one of them out",
        ),
        (
            "['[::]:1', '[::1]:1']",
            "[::]:1 includes [::1]:1: leave one of them out",
        ),
        ("['[::ffff:1.2.3.4]:5']", "write 1.2.3.4:5"),
        ("'0.0.0.0'", "\"0.0.0.0\" is not an IP address with a port"),
        (
            "['[::1]:1', 'example.com:80']",
            "\"example.com:80\" is not an IP address with a port",
        ),
        (
            "3000",
            "expected an address and port such as \"0.0.0.0:3000\"",
        ),
        ("[3000]", "expected a text in quotes"),
    ] {
        let [problem] = &problems(&format!("network.address = {value}"))[..] else {
            panic!("one problem with {value}")
        };
        assert!(problem.contains("`network.address`: "), "{problem}");
        assert!(problem.contains(reason), "{problem}");
    }
}

#[test]
fn renamed_keys_and_sections_load_with_a_warning() {
    let (config, warnings) = deprecated("\n[metrics]\ninterval = 9");
    assert_eq!(config.statistics.interval, 9);
    assert_eq!(warnings, ["line 2: `metrics` is now called `statistics`"]);

    let (config, warnings) = deprecated("[network]\nrecv_buffer = 1");
    assert_eq!(config.network.socket_recv_buffer_size, 1);
    assert_eq!(
        warnings,
        ["line 2: `network.recv_buffer` is now called `network.socket_recv_buffer_size`"]
    );
}

#[test]
fn mistakes_in_renamed_keys_keep_their_place() {
    assert_eq!(
        problems("[metrics]\nintervall = 1\ninterval = 'x'"),
        [
            "line 2, column 1: unknown key `metrics.intervall`; did you mean `metrics.interval`?",
            "line 3, column 12: `metrics.interval`: invalid type: string \"x\", expected a \
             whole number, 0 or more; write a number of seconds",
        ]
    );
}

#[test]
fn both_spellings_at_once_are_refused() {
    assert_eq!(
        problems("[statistics]\n[metrics]"),
        [
            "line 2, column 1: `metrics` is the former name of `statistics`, which is set too: \
             remove `metrics`"
        ]
    );
    assert_eq!(
        problems("[network]\naddress = '1.1.1.1:1'\naddress_ipv4 = '1.1.1.1:2'").len(),
        1
    );
}

#[test]
fn replaced_values_load_with_a_warning() {
    let (config, warnings) = deprecated("[network]\nuse_io_uring = true");
    assert_eq!(config.network.backend, "io_uring");
    assert_eq!(
        warnings,
        ["line 2: instead of `network.use_io_uring`, write `network.backend = \"io_uring\"`"]
    );
    assert_eq!(
        deprecated("network.use_io_uring = false").0.network.backend,
        "mio"
    );
    assert_eq!(
        problems("network.use_io_uring = 1"),
        [
            "line 1, column 24: `network.use_io_uring`: invalid type: integer `1`, expected true \
             or false"
        ]
    );
}

#[test]
fn keys_without_meaning_are_ignored_with_a_warning() {
    let (config, warnings) = deprecated("[cpu_pinning]\nactive = true");
    assert_eq!(config, TrackerConfig::default());
    assert_eq!(
        warnings,
        ["line 1: `cpu_pinning` is ignored: pin the process with taskset"]
    );
}

#[test]
fn each_old_form_of_the_address_loads() {
    for (text, expected) in [
        (
            "address_ipv4 = '1.2.3.4:5'",
            &["1.2.3.4:5", "[::]:3000"][..],
        ),
        ("address_ipv6 = '[::1]:5'", &["0.0.0.0:3000", "[::1]:5"]),
        (
            "address_ipv4 = '1.2.3.4:5'\naddress_ipv6 = '[::1]:5'",
            &["1.2.3.4:5", "[::1]:5"],
        ),
        ("use_ipv4 = true", &["0.0.0.0:3000", "[::]:3000"]),
        ("use_ipv4 = false", &["[::]:3000"]),
        ("use_ipv6 = false", &["0.0.0.0:3000"]),
        (
            "use_ipv6 = false\naddress_ipv6 = '[::1]:5'",
            &["0.0.0.0:3000"],
        ),
        ("use_ipv4 = false\naddress_ipv6 = '[::1]:5'", &["[::1]:5"]),
    ] {
        let (config, warnings) = deprecated(&format!("[network]\n{text}"));
        assert_eq!(addresses(&config), expected, "{text}");
        let [warning] = &warnings[..] else {
            panic!("one warning, not {warnings:?}")
        };
        assert!(warning.contains("write `network.address = ["), "{warning}");
    }
    assert_eq!(
        deprecated("[network]\nuse_ipv6 = false").1,
        ["line 2: instead of `network.use_ipv6`, write `network.address = [\"0.0.0.0:3000\"]`"]
    );
}

#[test]
fn old_forms_of_the_address_are_read_strictly() {
    for (text, expected) in [
        (
            "use_ipv4 = false\nuse_ipv6 = false",
            "needs at least one address",
        ),
        ("use_ipv4 = 1", "`network.use_ipv4`: invalid type"),
        ("address_ipv4 = 5", "`network.address_ipv4`: invalid type"),
        (
            "address_ipv4 = 'x'",
            "\"x\" is not an IP address with a port",
        ),
    ] {
        let [problem] = &problems(&format!("[network]\n{text}"))[..] else {
            panic!("one problem with {text}")
        };
        assert!(problem.starts_with("line 2, "), "{problem}");
        assert!(problem.contains(expected), "{problem}");
    }
}

#[test]
fn numbers_out_of_bounds_are_clamped_with_a_warning_that_names_both() {
    let (config, warnings) = deprecated(
        "seeder_probability = 1.5\n[network]\nsocket_recv_buffer_size = 0\n\
         [statistics]\ninterval = -3",
    );
    assert_eq!(config.seeder_probability, 1.0);
    assert_eq!(config.network.socket_recv_buffer_size, 1);
    assert_eq!(config.statistics.interval, 7);
    assert_eq!(
        warnings,
        [
            "line 5: `statistics.interval` = -3 is too small, 7 is used",
            "line 1: `seeder_probability` = 1.5 is too large, 1 is used: it is a share",
            "line 3: `network.socket_recv_buffer_size` = 0 is too small, 1 is used: a packet must \
             fit",
        ]
    );
    for (number, used) in [
        ("1_000_000_001", 1_000_000_000),
        ("0xffff_ffff", 1_000_000_000),
        ("0x1_0000_0000", 999_999_999),
        ("9223372036854775807", 999_999_999),
    ] {
        let (config, warnings) = deprecated(&format!("network.socket_recv_buffer_size = {number}"));
        assert_eq!(config.network.socket_recv_buffer_size, used);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
    }
    assert_eq!(
        deprecated("network.socket_recv_buffer_size = 4_294_967_296").1,
        ["line 1: `network.socket_recv_buffer_size` = 4294967296 is too large, 999999999 is used"]
    );
}

proptest! {
    /// Files near to a good one: with a few characters replaced, and with lines in another order.
    #[test]
    fn whatever_loads_is_printed_and_loads_again(
        edits in prop::collection::vec((any::<prop::sample::Index>(), "[\\PC\n]{0,3}"), 0..4),
        line_order in prop::option::of(any::<usize>()),
    ) {
        let mut text = to_documented_toml(&TrackerConfig::default());
        if let Some(multiplier) = line_order {
            let mut lines: Vec<_> = text.lines().collect();
            lines.sort_by_key(|line| line.len().wrapping_mul(multiplier));
            text = lines.join("\n");
        }
        let mut characters: Vec<String> = text.chars().map(String::from).collect();
        for (place, replacement) in edits {
            *place.get_mut(&mut characters) = replacement;
        }
        if let Ok(loaded) = load::<TrackerConfig>(&characters.concat()) {
            assert_eq!(config(&to_documented_toml(&loaded.config)), loaded.config);
        }
    }
}

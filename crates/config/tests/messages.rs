//! What an operator is told who has made a usual mistake, word for word.

use std::net::SocketAddr;
use std::path::PathBuf;

use aquatic_config::{
    AccessListConfig, Checks, Config, LogLevel, MemoryLimit, OldSpellings, inspect, load, section,
};
use serde::{Deserialize, Serialize};

section! {
    /// A tracker for tests.
    pub struct TrackerConfig {
        /// How much is logged.
        pub log_level: LogLevel = LogLevel::default(),
        pub network: NetworkConfig,
        pub metrics: MetricsConfig,
        pub cleaning: CleaningConfig,
        pub access_list: AccessListConfig,
    }
}

section! {
    /// Sockets.
    pub struct NetworkConfig {
        /// Where to listen.
        pub address: String = "0.0.0.0:3000".to_owned(),
        /// Whether to trust.
        pub trusts: bool = false,
        /// Whom to trust.
        pub friends: Vec<String> = Vec::new(),
        /// Bytes of buffer.
        pub buffer: usize = 100,
        /// A file.
        pub file: PathBuf = PathBuf::from("file"),
        /// Memory.
        pub memory: MemoryLimit = MemoryLimit::Share(50),
        /// Who watches.
        pub guard: Guard = Guard::Off,
        /// How the guard does so.
        pub guard_mode: GuardMode = GuardMode::Auto,
        /// Whom to watch.
        pub guard_interfaces: Vec<String> = Vec::new(),
        /// How much is let through.
        pub guard_answers_per_second: u32 = 5,
        /// How often it may be wrong.
        pub guard_errors_per_second: u32 = 5,
    }
}

/// Who watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Guard {
    /// Nobody.
    Off,
    /// Who throws some out.
    Filter,
    /// Who throws all out.
    Full,
}

/// How the guard watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuardMode {
    /// As well as it can.
    Auto,
    /// By itself.
    Native,
}

section! {
    /// What is counted.
    pub struct MetricsConfig {
        /// Where to serve them.
        pub prometheus_endpoint_address: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 9_000)),
    }
}

section! {
    /// Expiry and cleaning intervals.
    pub struct CleaningConfig {
        /// Seconds after which a peer is forgotten.
        pub max_peer_age: u32 = 1_200,
        /// Seconds between announces.
        pub interval: u32 = 900,
    }
}

impl Config for TrackerConfig {
    fn rewrite_old_spellings(old: &mut OldSpellings<'_, '_>) {
        old.rename("statistics", "metrics");
        old.rename("cleaning.age", "cleaning.max_peer_age");
    }

    fn check(&self, checks: &mut Checks) {
        let CleaningConfig {
            max_peer_age,
            interval,
        } = self.cleaning;
        checks.require(
            interval < max_peer_age,
            "cleaning.interval",
            "must be less than `cleaning.max_peer_age`",
        );
        checks.advise(self.network.buffer > 10, "network.buffer", "is small");
        let port = self.metrics.prometheus_endpoint_address.port();
        checks.advise(port > 1, "metrics.prometheus_endpoint_address", "is odd");
    }

    fn inspect(&self, checks: &mut Checks) {
        let friend: Result<(), _> = self
            .network
            .friends
            .iter()
            .try_for_each(|friend| friend.parse::<u8>().map(drop));
        checks.require_ok(friend, "network.friends");
        checks.advise(
            self.network.file.is_absolute(),
            "network.file",
            "is relative",
        );
        checks.not_looked_at("the weather");
    }

    fn log_level(&self) -> LogLevel {
        self.log_level
    }
}

/// The one thing that is wrong.
#[track_caller]
fn problem(text: &str) -> String {
    let error = load::<TrackerConfig>(text).expect_err(text);
    assert_eq!(error.problems.len(), 1, "{error}");
    error.to_string()
}

#[test]
fn an_address_without_quotes() {
    assert_eq!(
        problem("[network]\naddress = [::]:3000"),
        "line 2, column 15: this is not TOML: unexpected key or value, expected newline, `#`, in \
         `address = [::]:3000`; put it in quotes: `address = \"[::]:3000\"`"
    );
    assert_eq!(
        problem("[access_list]\npath = /etc/list.txt # ours"),
        "line 2, column 8: this is not TOML: string values must be quoted, expected literal \
         string, in `path = /etc/list.txt # ours`; put it in quotes: `path = \"/etc/list.txt\"`"
    );
}

#[test]
fn a_port_instead_of_an_address() {
    for (value, rest) in [
        ("9000", "write for example \"127.0.0.1:9000\""),
        (
            "localhost:9",
            "names are not looked up: write \"127.0.0.1:9\"",
        ),
        (
            "tracker.example:9",
            "names are not looked up: write for example \"127.0.0.1:9000\"",
        ),
        (
            "::1:90",
            "IPv6 addresses need brackets: write for example \"127.0.0.1:9000\"",
        ),
        (
            "2001:db8::1:9000",
            "IPv6 addresses need brackets: write \"[2001:db8::1]:9000\"",
        ),
    ] {
        assert_eq!(
            problem(&format!("metrics.prometheus_endpoint_address = {value:?}")),
            format!(
                "line 1, column 39: `metrics.prometheus_endpoint_address`: {value:?} is not an IP \
                 address with a port: {rest}"
            )
        );
    }
}

#[test]
fn a_time_with_a_unit() {
    assert_eq!(
        problem("cleaning.max_peer_age = \"20m\""),
        "line 1, column 25: `cleaning.max_peer_age`: invalid type: string \"20m\", expected a \
         whole number from 0 to 4294967295; write 1200: it is a number of seconds"
    );
    assert_eq!(
        problem("cleaning.max_peer_age = \"long\""),
        "line 1, column 25: `cleaning.max_peer_age`: invalid type: string \"long\", expected a \
         whole number from 0 to 4294967295; write a number of seconds"
    );
}

#[test]
fn amounts_of_memory() {
    for (value, limit) in [
        ("\"25%\"", MemoryLimit::Share(25)),
        ("'64MiB'", MemoryLimit::Bytes(64 << 20)),
        ("'off'", MemoryLimit::Off),
    ] {
        let loaded = load::<TrackerConfig>(&format!("network.memory = {value}")).unwrap();
        assert_eq!(loaded.config.network.memory, limit);
    }
    assert_eq!(
        problem("[network]\nmemory = \"12 parrots\""),
        "line 2, column 10: `network.memory`: \"12 parrots\" is not an amount of memory: write \
         for example \"50%\", \"512 MiB\", \"4 GiB\" or \"off\""
    );
    assert_eq!(
        problem("[network]\nmemory = 512"),
        "line 2, column 10: `network.memory`: invalid type: integer `512`, expected an amount of \
         memory in quotes; write for example \"50%\", \"512 MiB\", \"4 GiB\" or \"off\""
    );
    assert_eq!(
        problem("[network]\nmemroy = \"off\""),
        "line 2, column 1: unknown key `network.memroy`; did you mean `network.memory`?"
    );
}

#[test]
fn words_in_capitals_are_taken() {
    for word in ["INFO", "Info", "info"] {
        let loaded = load::<TrackerConfig>(&format!("log_level = '{word}'")).unwrap();
        assert_eq!(loaded.config.log_level, LogLevel::Info);
    }
    assert!(load::<TrackerConfig>("access_list.mode = 'Deny'").is_ok());
    assert_eq!(
        problem("log_level = 'LOUD'"),
        "line 1, column 13: `log_level`: unknown variant `LOUD`, expected one of `off`, `error`, \
         `warn`, `info`, `debug`, `trace`"
    );
}

#[test]
fn keys_of_other_programs() {
    assert_eq!(
        problem("[network]\nenable_tls = true"),
        "line 2, column 1: unknown `network.enable_tls`: aquatic_http and aquatic_ws have it, \
         this program has not"
    );
    assert_eq!(
        problem("[cleaning]\nmax_connection_age = 60"),
        "line 2, column 1: unknown `cleaning.max_connection_age`: aquatic_udp has it, this program \
         has not"
    );
}

#[test]
fn what_the_file_leaves_out_is_shown_with_its_section() {
    assert_eq!(
        problem("[cleaning]\nmax_peer_age = 60"),
        "`interval` in [cleaning] (not in the file, so 900): must be less than \
         `cleaning.max_peer_age`"
    );
}

#[test]
fn errors_use_the_names_of_the_file() {
    assert_eq!(
        problem("[cleaning]\nage = 60\ninterval = 60"),
        "line 3, column 1: `cleaning.interval`: must be less than `cleaning.age`"
    );
    assert_eq!(
        problem("[statistics]\nprometheus_endpoint_adress = '1.2.3.4:5'"),
        "line 2, column 1: unknown key `statistics.prometheus_endpoint_adress`; did you mean \
         `statistics.prometheus_endpoint_address`?"
    );
}

#[test]
fn words_and_forms_of_other_programs() {
    for (text, expected) in [
        (
            "access_list.mode = 'blacklist'",
            "line 1, column 20: `access_list.mode`: unknown variant `blacklist`, expected one of \
             `off`, `allow`, `deny`; write `deny`",
        ),
        (
            "log_level = 'Warning'",
            "line 1, column 13: `log_level`: unknown variant `Warning`, expected one of `off`, \
             `error`, `warn`, `info`, `debug`, `trace`; write `warn`",
        ),
        (
            "network.buffer = 1e6",
            "line 1, column 18: `network.buffer`: invalid type: floating point `1000000.0`, \
             expected a whole number, 0 or more; write 1000000",
        ),
        (
            "enable_tls = true",
            "line 1, column 1: unknown `enable_tls`: aquatic_http and aquatic_ws have it, this \
             program has not",
        ),
        (
            "metrics.prometheus_endpoint_address = 'http://127.0.0.1:9000'",
            "line 1, column 39: `metrics.prometheus_endpoint_address`: \"http://127.0.0.1:9000\" \
             is not an IP address with a port but a URL: write for example \"127.0.0.1:9000\"",
        ),
        (
            "metrics.prometheus_endpoint_address = '::1:9000'",
            "line 1, column 39: `metrics.prometheus_endpoint_address`: \"::1:9000\" is not an IP \
             address with a port: IPv6 addresses need brackets: write \"[::1]:9000\"",
        ),
        (
            "metrics.prometheus_endpoint_address = '127.0.0.1:90000'",
            "line 1, column 39: `metrics.prometheus_endpoint_address`: \"127.0.0.1:90000\" is not \
             an IP address with a port: ports go up to 65535: write for example \"127.0.0.1:9000\"",
        ),
        (
            "[network]\n[access_list]\n[network]",
            "line 3, column 2: this is not TOML: duplicate key, in `[network]`; each section may \
             occur once: join them",
        ),
        (
            "{\"network\": {}}",
            "line 1, column 1: this is not TOML: invalid key-value pair, expected key, in \
             `{\"network\": {}}`; write the file as -p prints it, not as JSON",
        ),
    ] {
        assert_eq!(problem(text), expected);
    }
}

#[test]
fn part_of_a_name_is_enough_to_be_understood() {
    for (text, unknown, known) in [
        (
            "[metrics]\nendpoint_address = '127.0.0.1:9000'",
            "2, column 1: unknown key `metrics.endpoint_address`",
            "`metrics.prometheus_endpoint_address`",
        ),
        (
            "[cleaning]\ninterval_seconds = 5",
            "2, column 1: unknown key `cleaning.interval_seconds`",
            "`cleaning.interval`",
        ),
        (
            "[metrics.prometheus]\naddress = '127.0.0.1:9000'",
            "1, column 10: unknown section `[metrics.prometheus]`",
            "`prometheus_endpoint_address` in `[metrics]`",
        ),
        (
            "[log]\nlevel = 'info'",
            "1, column 2: unknown section `[log]`",
            "`log_level`, above all sections",
        ),
    ] {
        let expected = format!("line {unknown}; did you mean {known}?");
        assert_eq!(problem(text), expected);
    }
}

/// Even if one key is the beginning of others, and if a name is so short that one slip is much.
#[test]
fn of_all_keys_the_nearest_one_is_offered() {
    for (typed, meant) in [
        ("guard_interface", "guard_interfaces"),
        ("guard_error_per_second", "guard_errors_per_second"),
        ("guard_answers_per_sec", "guard_answers_per_second"),
        ("guard_answers_per_s", "guard_answers_per_second"),
        ("guard_mod", "guard_mode"),
        ("guard_of_mine", "guard"),
        ("gaurd", "guard"),
        ("ugard", "guard"),
        ("flie", "file"),
        ("Guard", "guard"),
    ] {
        let expected = format!(
            "line 1, column 9: unknown key `network.{typed}`; did you mean `network.{meant}`?"
        );
        assert_eq!(problem(&format!("network.{typed} = 5")), expected);
    }
    for typed in ["xyz", "fire_wall"] {
        let problem = problem(&format!("network.{typed} = 5"));
        assert!(
            problem.ends_with("; -p prints every key that there is"),
            "{problem}"
        );
    }
}

#[test]
fn names_of_other_trackers() {
    for (text, key) in [
        ("[network]\nport = 3000", "network.address"),
        ("listen = '0.0.0.0:3000'", "network.address"),
        ("[access_list]\nBlacklist = 'x'", "access_list.path"),
    ] {
        let problem = problem(text);
        let end = format!("; did you mean `{key}`?");
        assert!(
            problem.contains(": unknown key `") && problem.ends_with(&end),
            "{problem}"
        );
    }
}

#[test]
fn values_of_another_kind() {
    assert_eq!(
        problem("network.trusts = 'Yes'"),
        "line 1, column 18: `network.trusts`: invalid type: string \"Yes\", expected true or \
         false; write true, without quotes"
    );
    assert_eq!(
        problem("network.friends = 'me'"),
        "line 1, column 19: `network.friends`: invalid type: string \"me\", expected a list; \
         write [\"me\"]"
    );
    for (text, list) in [
        ("me, you", r#"["me", "you"]"#),
        ("me,you,", r#"["me", "you"]"#),
        (" me ", r#"["me"]"#),
        ("", "[]"),
    ] {
        let problem = problem(&format!("network.friends = {text:?}"));
        let end = format!("expected a list; write {list}");
        assert!(problem.ends_with(&end), "{problem}");
    }
    assert_eq!(
        problem("access_list.path = 5"),
        "line 1, column 20: `access_list.path`: invalid type: integer `5`, expected a path in \
         quotes"
    );
}

/// What there is to choose from is said whatever stands there.
#[test]
fn values_of_another_kind_where_a_word_is_wanted() {
    let words = "expected a text in quotes: \"off\", \"filter\" or \"full\"";
    for (value, told) in [
        ("true", "invalid type: boolean `true`, "),
        ("5", "invalid type: integer `5`, "),
        ("0x1f", "invalid type: integer `31`, "),
        ("1.5", "invalid type: floating point `1.5`, "),
        ("['filter']", "invalid type: sequence, "),
    ] {
        assert_eq!(
            problem(&format!("network.guard = {value}")),
            format!("line 1, column 17: `network.guard`: {told}{words}")
        );
    }
    assert_eq!(
        problem("network.guard = false"),
        format!(
            "line 1, column 17: `network.guard`: invalid type: boolean `false`, {words}; write \
             \"off\""
        )
    );
    assert_eq!(
        problem("network.guard_mode = false"),
        "line 1, column 22: `network.guard_mode`: invalid type: boolean `false`, expected a text \
         in quotes: \"auto\" or \"native\""
    );
}

#[test]
fn a_word_of_another_key_is_recognised() {
    for (key, value, other) in [
        ("network.guard", "native", "network.guard_mode"),
        ("network.guard", "Auto", "network.guard_mode"),
        ("network.guard_mode", "full", "network.guard"),
    ] {
        let problem = problem(&format!("{key} = '{value}'"));
        let end = format!("; `{value}` is a value of `{other}`");
        assert!(problem.ends_with(&end), "{problem}");
    }
    for word in ["deny", "me"] {
        let problem = problem(&format!("network.guard = '{word}'"));
        assert!(problem.ends_with("`full`"), "{problem}");
    }
}

#[test]
fn advice_is_given_in_the_order_of_the_file_and_harms_nothing() {
    let text = "[statistics]\nprometheus_endpoint_address = '1.1.1.1:1'\n[network]\nbuffer = 1";
    let loaded = load::<TrackerConfig>(text).unwrap();
    assert_eq!(
        loaded.advice,
        [
            "line 2: `statistics.prometheus_endpoint_address`: is odd",
            "line 4: `network.buffer`: is small",
        ]
    );
}

#[test]
fn an_inspection_finds_everything() {
    let text = "network.friends = ['x']\ncleaning.interval = 5000\nnetwork.buffer = 5";
    let inspection = inspect::<TrackerConfig>(text);
    let problems: Vec<_> = inspection
        .problems
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        problems,
        [
            "line 1, column 9: `network.friends`: invalid digit found in string",
            "line 2, column 10: `cleaning.interval`: must be less than `cleaning.max_peer_age`",
        ]
    );
    assert_eq!(
        inspection.advice,
        [
            "`file` in [network] (not in the file, so \"file\"): is relative",
            "line 3: `network.buffer`: is small",
        ]
    );
    assert_eq!(inspection.not_looked_at, ["the weather"]);

    // Defaults that stand in for mistakes are not judged.
    let inspection = inspect::<TrackerConfig>("network.freinds = ['x']\nnetwork.buffer = 5");
    assert_eq!(inspection.problems.len(), 1);
    assert!(inspection.advice.is_empty());
    let [not_looked_at] = &inspection.not_looked_at[..] else {
        panic!("one")
    };
    assert!(not_looked_at.contains("when each value alone is right"));

    assert_eq!(
        inspect::<TrackerConfig>("").advice,
        ["`network.file`: is relative"]
    );
}

/// A reload may find anything in the place of the file, and the log has to bear it.
#[test]
fn a_line_that_nobody_wants_to_read() {
    let text = format!("address = [{}", "[é, ".repeat(100_000));
    let told = problem(&text);
    assert!(told.len() < 500, "{} bytes", told.len());
    assert!(
        told.contains("in `address = [[é, ") && told.contains("...`"),
        "{told}"
    );
}

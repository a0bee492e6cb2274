//! How each tracker is configured and started, and what load testers make of their settings.
//!
//! The descriptions are data (`trackers.toml`); a plan can bring more of them. What a run decides
//! stands in them between `@` signs, which none of these configurations have otherwise.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::sync::OnceLock;

use aquatic_config::{Checks, Config, LogLevel, load, section};
use aquatic_load_test::{http, udp, ws};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What a load tester and a tracker speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// BEP 15.
    Udp,
    /// BEP 3, with or without TLS.
    Http,
    /// WebTorrent, with or without TLS.
    Ws,
}

/// A tracker, and how it is told what to do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tracker {
    /// What plans call it.
    pub name: String,
    /// What it is, for people.
    pub text: String,
    /// What it speaks.
    pub protocols: Vec<Protocol>,
    /// Whether it speaks that over TLS, too.
    #[serde(default)]
    pub tls: bool,
    /// Its program: a file name, or a path.
    pub program: String,
    /// Whether a program of that name beside this one is another: it is looked for in the folder
    /// of other trackers only.
    #[serde(default)]
    pub is_other: bool,
    /// Its arguments.
    #[serde(default = "config_arguments")]
    pub arguments: Vec<String>,
    /// Its environment, besides ours.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// The arguments that make it print its version. None: it has no such arguments.
    #[serde(default = "version_arguments")]
    pub version: Vec<String>,
    /// Its configuration file.
    #[serde(default)]
    pub config: String,
    /// Lines of that if it is over TLS.
    #[serde(default)]
    pub tls_lines: String,
}

fn config_arguments() -> Vec<String> {
    vec!["-c".to_owned(), "@config@".to_owned()]
}

fn version_arguments() -> Vec<String> {
    vec!["--version".to_owned()]
}

section! {
    /// Descriptions of trackers.
    pub struct Trackers {
        /// All of them.
        pub trackers: Vec<Tracker> = Vec::new(),
    }
}

impl Config for Trackers {
    fn check(&self, _: &mut Checks) {}

    fn log_level(&self) -> LogLevel {
        LogLevel::Warn
    }
}

/// The descriptions that are built in.
///
/// # Panics
/// Never: a test reads them.
pub fn built_in() -> &'static [Tracker] {
    static TRACKERS: OnceLock<Vec<Tracker>> = OnceLock::new();
    TRACKERS.get_or_init(|| {
        let loaded = load::<Trackers>(include_str!("trackers.toml"));
        loaded
            .expect("a test reads the descriptions")
            .config
            .trackers
    })
}

impl Display for Protocol {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "udp",
            Self::Http => "http",
            Self::Ws => "ws",
        })
    }
}

impl Protocol {
    /// The name of its load tester's program.
    #[must_use]
    pub fn tester(self) -> String {
        format!("aquatic_{self}_load_test")
    }
}

/// Puts what a run has decided in place of the words between `@` signs. What is put in may have
/// such words, too.
#[must_use]
pub fn fill_in(text: &str, values: &BTreeMap<&'static str, String>) -> String {
    let mut text = text.to_owned();
    // Values of values: TLS lines name files.
    for _ in 0..2 {
        for (word, value) in values {
            text = text.replace(&format!("@{word}@"), value);
        }
    }
    text
}

/// Keys of a load tester's configuration that the run decides.
const DECIDED: [(&str, &str); 6] = [
    ("server_address", "the run chooses an address"),
    ("duration_seconds", "write `seconds` in the set"),
    ("warm_up_seconds", "write it in the set"),
    ("tracker_pid", "the run knows it"),
    ("print_json", "the run reads the report"),
    ("show_progress", "the run shows its own"),
];

/// What is wrong with settings of the load tester of a protocol.
#[must_use]
pub fn tester_mistake(protocol: Protocol, settings: &toml::Table) -> Option<String> {
    for (key, reason) in DECIDED {
        if settings.contains_key(key) {
            return Some(format!("`{key}` has no place here: {reason}"));
        }
    }
    let text = settings.to_string();
    let problems = match protocol {
        Protocol::Udp => problems::<udp::config::LoadTestConfig>(&text),
        Protocol::Http => problems::<http::config::LoadTestConfig>(&text),
        Protocol::Ws => problems::<ws::config::LoadTestConfig>(&text),
    };
    (!problems.is_empty()).then(|| problems.join("; "))
}

/// Without lines: they are those of a part that was written anew.
fn problems<C: Config>(text: &str) -> Vec<String> {
    match load::<C>(text) {
        Ok(_) => Vec::new(),
        Err(error) => {
            let text = error.to_string();
            let lines = text.lines();
            lines.map(|line| without_line(line).to_owned()).collect()
        }
    }
}

fn without_line(problem: &str) -> &str {
    match problem.split_once(": ") {
        Some((place, rest)) if place.starts_with("line ") => rest,
        _ => problem,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_description_is_whole() {
        let names: BTreeSet<_> = built_in().iter().map(|tracker| &tracker.name).collect();
        assert_eq!(names.len(), built_in().len());
        for tracker in built_in() {
            assert!(!tracker.protocols.is_empty(), "{tracker:?}");
            let values = tracker.environment.values();
            let mut texts = tracker.arguments.iter().chain(values);
            let uses_config = texts.any(|text| text == "@config@");
            assert_eq!(uses_config, !tracker.config.is_empty(), "{tracker:?}");
            assert_eq!(tracker.tls, !tracker.tls_lines.is_empty(), "{tracker:?}");
            assert_eq!(
                tracker.tls,
                tracker.config.contains("@tls_lines@"),
                "{tracker:?}"
            );
        }
    }

    #[test]
    fn words_are_filled_in_even_within_others() {
        let values = [
            ("tls_lines", "cert = @key@".to_owned()),
            ("key", "/k".to_owned()),
        ];
        let text = fill_in("a\n@tls_lines@\n@other@", &values.into_iter().collect());
        assert_eq!(text, "a\ncert = /k\n@other@");
    }
}

//! Plans: which trackers are measured under which loads.
//!
//! A plan is a TOML file that is read strictly: what is wrong in it is said at once, with its line,
//! and before anything is measured. Its parts of a load tester's configuration are read by that
//! tester's own reader.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use aquatic_config::{Checks, Config, LogLevel, load, section};
use serde::{Deserialize, Serialize};

use crate::pin;
use crate::trackers::{Protocol, Tracker, tester_mistake};

/// The plans that are built in, by name.
const BUILT_IN: [(&str, &str); 5] = [
    ("quick", include_str!("../plans/quick.toml")),
    ("udp", include_str!("../plans/udp.toml")),
    ("http", include_str!("../plans/http.toml")),
    ("ws", include_str!("../plans/ws.toml")),
    ("all", include_str!("../plans/all.toml")),
];

/// The most rounds of a set, and seconds of a run: a mistaken zero must not take a week.
const ROUNDS_MAX: u32 = 1_000;
const SECONDS_MAX: u32 = 3_600;

section! {
    /// A plan of measurements.
    pub struct Plan {
        /// The heading of its page.
        pub title: String = String::new(),
        /// What is measured and how, in sentences, for the reader of the page.
        pub text: String = String::new(),
        /// Other plans, by name, that are run instead. Each makes a page of its own.
        pub plans: Vec<String> = Vec::new(),
        /// How often each set is run; in each round, every tracker has its turn.
        pub rounds: u32 = 3,
        /// How long each run is measured, in seconds.
        pub seconds: u32 = 10,
        /// How long the load lasts before that, in seconds.
        pub warm_up_seconds: u32 = 3,
        /// The CPUs of trackers, such as "0" or "0,2-3". Empty: any.
        pub tracker_cpus: String = "0".to_owned(),
        /// The CPUs of load testers.
        pub tester_cpus: String = "1".to_owned(),
        /// What is measured: trackers under one load.
        pub sets: Vec<Set> = Vec::new(),
        /// Trackers that are not built in (`aquatic_bench list` prints those that are).
        pub trackers: Vec<Tracker> = Vec::new(),
        /// Published figures that come from elsewhere, for completeness.
        pub elsewhere: Vec<Elsewhere> = Vec::new(),
    }
}

/// Trackers that are compared under the same load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Set {
    /// A short name: part of the plot's file name.
    pub name: String,
    /// The heading above its table.
    pub title: String,
    /// What the reader should know about the load.
    #[serde(default)]
    pub text: String,
    /// What the load tester speaks.
    pub protocol: Protocol,
    /// Whether it is over TLS.
    #[serde(default)]
    pub tls: bool,
    /// The trackers. The first is what the others are compared with.
    pub contenders: Vec<Contender>,
    /// Configuration of the load tester, but for what the run decides (address, times).
    #[serde(default)]
    pub load: toml::Table,
    /// The same for a run of the tester before that, against the same process, to fill the tracker.
    /// Nothing but its success matters.
    #[serde(default)]
    pub before: Option<toml::Table>,
    /// Runs tracker and load tester at real-time priority (by `chrt`, as root).
    #[serde(default)]
    pub real_time: bool,
    /// Instead of the plan's.
    #[serde(default)]
    pub rounds: Option<u32>,
    /// Instead of the plan's.
    #[serde(default)]
    pub seconds: Option<u32>,
    /// Instead of the plan's.
    #[serde(default)]
    pub warm_up_seconds: Option<u32>,
}

/// A tracker as it takes part in a set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contender {
    /// Its name among the descriptions.
    pub tracker: String,
    /// What it is called in tables; its name, if that is empty.
    #[serde(default)]
    pub label: String,
    /// Its socket workers.
    #[serde(default = "one")]
    pub workers: u32,
    /// Its swarm workers, where it has such a choice.
    #[serde(default)]
    pub swarm_workers: u32,
    /// Its CPUs, instead of the plan's.
    #[serde(default)]
    pub cpus: Option<String>,
    /// The CPUs of the load tester while it is this one's turn, instead of the plan's.
    #[serde(default)]
    pub tester_cpus: Option<String>,
}

/// A published figure that this program does not measure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Elsewhere {
    /// What is shown.
    pub figure: String,
    /// How to measure it.
    pub how: String,
}

fn one() -> u32 {
    1
}

impl Contender {
    /// What it is called in tables.
    #[must_use]
    pub fn label(&self) -> &str {
        if self.label.is_empty() {
            &self.tracker
        } else {
            &self.label
        }
    }
}

impl Plan {
    /// A plan that is built in, or that of a file. Its name is that of the file, without `.toml`.
    ///
    /// # Errors
    /// If there is no such plan, or something is wrong in it.
    pub fn open(name_or_path: &str) -> anyhow::Result<(String, Self)> {
        if let Some((name, text)) = BUILT_IN.iter().find(|(name, _)| *name == name_or_path) {
            return Ok(((*name).to_owned(), Self::parse(name, text)?));
        }
        let path = Path::new(name_or_path);
        let names = BUILT_IN.map(|(name, _)| name).join(", ");
        let text = fs::read_to_string(path)
            .with_context(|| format!("cannot read the plan {name_or_path:?} (or name: {names})"))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        Ok((name.clone().into_owned(), Self::parse(name_or_path, &text)?))
    }

    /// Names of the plans that are built in.
    #[must_use]
    pub fn names() -> Vec<&'static str> {
        BUILT_IN.iter().map(|(name, _)| *name).collect()
    }

    fn parse(name: &str, text: &str) -> anyhow::Result<Self> {
        match load::<Self>(text) {
            Ok(loaded) => Ok(loaded.config),
            Err(error) => bail!("plan {name}: {error}"),
        }
    }

    /// The description of a tracker: one of the plan's, or one that is built in.
    #[must_use]
    pub fn tracker<'a>(&'a self, name: &str, built_in: &'a [Tracker]) -> Option<&'a Tracker> {
        let mut all = self.trackers.iter().chain(built_in);
        all.find(|tracker| tracker.name == name)
    }

    /// How often a set is run.
    #[must_use]
    pub fn rounds(&self, set: &Set) -> u32 {
        set.rounds.unwrap_or(self.rounds)
    }

    /// Seconds as below, with those of the plans that it names.
    ///
    /// # Errors
    /// If one of them is wrong.
    pub fn total_seconds(&self) -> anyhow::Result<u64> {
        let named = self.plans.iter().map(|name| Self::open(name));
        let named: anyhow::Result<Vec<_>> = named.collect();
        let of_named: u64 = named?.iter().map(|(_, plan)| plan.seconds_min()).sum();
        Ok(self.seconds_min() + of_named)
    }

    /// Seconds that the runs of the plan take, without starting and stopping.
    #[must_use]
    pub fn seconds_min(&self) -> u64 {
        let seconds = |set: &Set| {
            let each = u64::from(set.seconds.unwrap_or(self.seconds))
                + u64::from(set.warm_up_seconds.unwrap_or(self.warm_up_seconds));
            let contenders = u64::try_from(set.contenders.len()).unwrap_or(u64::MAX);
            each * contenders * u64::from(self.rounds(set))
        };
        self.sets.iter().map(seconds).sum()
    }
}

impl Config for Plan {
    fn check(&self, checks: &mut Checks) {
        let is_list = !self.plans.is_empty();
        checks.require(
            is_list == self.sets.is_empty() || (!is_list && !self.elsewhere.is_empty()),
            "sets",
            "a plan has either `sets` or `plans`",
        );
        for name in &self.plans {
            let is_known = BUILT_IN.iter().any(|(known, _)| known == name);
            checks.require(is_known, "plans", format!("there is no plan {name:?}"));
        }
        let times = (self.rounds, self.seconds, self.warm_up_seconds);
        if let Some((key, reason)) = time_mistake(times) {
            checks.require(false, key, reason);
        }
        checks.require_ok(pin::parse(&self.tracker_cpus), "tracker_cpus");
        checks.require_ok(pin::parse(&self.tester_cpus), "tester_cpus");
        let built_in = crate::trackers::built_in();
        let mut names = BTreeSet::new();
        for set in &self.sets {
            let is_new = names.insert(&set.name);
            checks.require(is_new, "sets", format!("two are called {:?}", set.name));
            if let Err(mistake) = self.check_set(set, built_in) {
                checks.require(false, "sets", format!("{:?}: {mistake}", set.name));
            }
        }
    }

    fn log_level(&self) -> LogLevel {
        LogLevel::Warn
    }
}

/// Which of these times is out of bounds, and how.
fn time_mistake((rounds, seconds, warm_up): (u32, u32, u32)) -> Option<(&'static str, String)> {
    let bounds = [
        ("rounds", rounds, 1, ROUNDS_MAX),
        ("seconds", seconds, 1, SECONDS_MAX),
        ("warm_up_seconds", warm_up, 0, SECONDS_MAX),
    ];
    let mut wrong = bounds
        .into_iter()
        .filter(|(_, value, min, max)| !(min..=max).contains(&value));
    let (key, _, min, max) = wrong.next()?;
    Some((key, format!("must be from {min} to {max}")))
}

impl Plan {
    fn check_set(&self, set: &Set, built_in: &[Tracker]) -> Result<(), String> {
        let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if set.name.is_empty() || !set.name.bytes().all(is_name) {
            return Err("`name` must be of small letters, digits and hyphens".to_owned());
        }
        let times = (
            self.rounds(set),
            set.seconds.unwrap_or(self.seconds),
            set.warm_up_seconds.unwrap_or(self.warm_up_seconds),
        );
        if let Some((key, reason)) = time_mistake(times) {
            return Err(format!("`{key}` {reason}"));
        }
        if set.contenders.is_empty() {
            return Err("`contenders` must have at least one".to_owned());
        }
        let mut labels = BTreeSet::new();
        for contender in &set.contenders {
            let name = &contender.tracker;
            let tracker = self.tracker(name, built_in);
            let tracker = tracker.ok_or(format!("there is no tracker {name:?}"))?;
            if !tracker.protocols.contains(&set.protocol) {
                return Err(format!("{name:?} does not speak {}", set.protocol));
            }
            if set.tls && !tracker.tls {
                return Err(format!("{name:?} has no TLS"));
            }
            if !labels.insert(contender.label()) {
                let label = contender.label();
                return Err(format!(
                    "two contenders are called {label:?}: give one a `label`"
                ));
            }
            for cpus in [&contender.cpus, &contender.tester_cpus] {
                pin::parse(cpus.as_deref().unwrap_or_default())?;
            }
        }
        for (key, settings) in [("load", Some(&set.load)), ("before", set.before.as_ref())] {
            let mistake = settings.and_then(|settings| tester_mistake(set.protocol, settings));
            if let Some(mistake) = mistake {
                return Err(format!("`{key}`: {mistake}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET: &str = "
        [[sets]]
        name = \"a\"
        title = \"A\"
        protocol = \"udp\"
        contenders = [{ tracker = \"udp-mio\" }, { tracker = \"udp-io_uring\", workers = 2 }]
        ";

    fn refused(text: &str) -> String {
        Plan::parse("p", text).unwrap_err().to_string()
    }

    #[test]
    fn every_plan_that_is_built_in_is_in_order() {
        for name in Plan::names() {
            let (_, plan) = Plan::open(name).unwrap();
            assert!(!plan.title.is_empty(), "{name}");
        }
    }

    #[test]
    fn the_quick_plan_takes_two_minutes() {
        let (_, plan) = Plan::open("quick").unwrap();
        assert!(plan.seconds_min() <= 90, "{}", plan.seconds_min());
    }

    #[test]
    fn a_set_has_the_times_of_its_plan_or_its_own() {
        let text = format!("rounds = 7\nseconds = 2\nwarm_up_seconds = 1\n{SET}");
        let plan = Plan::parse("p", &text).unwrap();
        assert_eq!(plan.rounds(&plan.sets[0]), 7);
        assert_eq!(plan.seconds_min(), 7 * 2 * 3);
        let text = format!("seconds = 2\nwarm_up_seconds = 1\n{SET}rounds = 1\nseconds = 9\n");
        let plan = Plan::parse("p", &text).unwrap();
        assert_eq!(plan.seconds_min(), 20);
        assert_eq!(plan.sets[0].contenders[1].workers, 2);
        assert_eq!(plan.sets[0].contenders[0].label(), "udp-mio");
    }

    #[test]
    fn each_mistake_is_named_with_its_line() {
        let has = |text: &str, words: &[&str]| {
            let error = refused(text);
            for word in words {
                assert!(error.contains(word), "{text}\n=> {error}");
            }
        };
        has("", &["`sets`", "either `sets` or `plans`"]);
        has("plans = [\"nothing\"]", &["no plan \"nothing\""]);
        has(&format!("round = 2{SET}"), &["line 1", "`round`", "rounds"]);
        has(&format!("rounds = 0{SET}"), &["line 1", "from 1 to 1000"]);
        has(&format!("tracker_cpus = \"x\"{SET}"), &["line 1", "\"x\""]);
        has(&format!("{SET}{SET}"), &["line 2", "two are called \"a\""]);
        has(&format!("{SET}nane = 1"), &["nane"]);
        has(&format!("{SET}seconds = 0"), &["`seconds`", "from 1"]);
        has(&format!("{SET}tls = true"), &["\"udp-mio\" has no TLS"]);
        has(&SET.replace("io_uring", "mio"), &["two contenders"]);
        has(&SET.replace("\"udp\"", "\"ftp\""), &["ftp"]);
        has(&SET.replace("udp-mio", "no"), &["no tracker \"no\""]);
        has(&SET.replace("\"a\"", "\"a/b\""), &["small letters"]);
        let http = SET.replace("\"udp\"", "\"http\"");
        has(&http, &["\"udp-mio\" does not speak http"]);
    }

    #[test]
    fn the_load_is_read_as_its_tester_will() {
        let load = |line: &str| format!("{SET}[sets.load]\n{line}");
        Plan::parse("p", &load("requests.number_of_torrents = 5")).unwrap();
        let error = refused(&load("requests.number_of_torrent = 5"));
        assert!(
            error.contains("\"a\": `load`") && error.contains("number_of_torrents"),
            "{error}"
        );
        let error = refused(&load("network.sockets_per_worker = 0"));
        assert!(error.contains("must be from 1 to 1024"), "{error}");
        let error = refused(&load("duration_seconds = 5"));
        assert!(error.contains("`seconds`"), "{error}");
    }
}

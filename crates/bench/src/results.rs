//! Results, as they are kept: lines of JSON, each written as soon as it is known, so that an
//! interrupted run has what it has.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::figures::Figures;
use crate::machine::Machine;
use crate::plan::Elsewhere;
use crate::trackers::Protocol;

/// A line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// The first one.
    Head(Head),
    /// What the lines below are about.
    Set(SetHead),
    /// A run with figures.
    Run {
        /// From 0.
        round: u32,
        /// The place among the set's contenders, from 0.
        contender: usize,
        /// What came out.
        figures: Figures,
    },
    /// A run without.
    Failure {
        /// From 0.
        round: u32,
        /// The place among the set's contenders, from 0.
        contender: usize,
        /// Why.
        error: String,
    },
}

/// What all sets have in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// The plan's name.
    pub plan: String,
    /// Its heading.
    pub title: String,
    /// What is measured and how.
    pub text: String,
    /// When, as 2026-11-28 13:00 UTC.
    pub date: String,
    /// The commit of the working tree from which it was run; may be empty.
    pub commit: String,
    /// The command that repeats it.
    pub command: String,
    /// Where.
    pub machine: Machine,
    /// Published figures that come from elsewhere.
    pub elsewhere: Vec<Elsewhere>,
}

/// A set, before it is run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetHead {
    /// Its short name.
    pub name: String,
    /// Its heading.
    pub title: String,
    /// What the reader should know.
    pub text: String,
    /// What the load tester speaks.
    pub protocol: Protocol,
    /// Whether it is over TLS.
    pub tls: bool,
    /// Whether at real-time priority.
    pub real_time: bool,
    /// How often.
    pub rounds: u32,
    /// How long each run is measured, in seconds.
    pub seconds: u32,
    /// How long the load lasts before, in seconds.
    pub warm_up_seconds: u32,
    /// Settings of the load tester, as TOML.
    pub load: String,
    /// Settings of the load tester's run before that; may be empty.
    pub before: String,
    /// Who takes part.
    pub contenders: Vec<Entry>,
    /// Who is missing, and why.
    pub missing: Vec<(String, String)>,
}

/// A tracker that takes part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// What it is called.
    pub label: String,
    /// What it is.
    pub text: String,
    /// What it says about its version.
    pub version: String,
    /// Its socket workers.
    pub workers: u32,
    /// Its swarm workers.
    pub swarm_workers: u32,
    /// Its CPUs; empty: any.
    pub cpus: String,
    /// The load tester's; empty: any.
    pub tester_cpus: String,
}

/// All lines, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Results {
    /// What all sets have in common.
    pub head: Head,
    /// The sets.
    pub sets: Vec<SetResults>,
}

/// What a set has come to.
#[derive(Clone, Debug, PartialEq)]
pub struct SetResults {
    /// What was to be done.
    pub set: SetHead,
    /// Round, contender and figures of each run that has some.
    pub runs: Vec<(u32, usize, Figures)>,
    /// Round, contender and reason of each run that has none.
    pub failures: Vec<(u32, usize, String)>,
}

impl Results {
    /// Reads the lines.
    ///
    /// # Errors
    /// Which line is none, or out of place.
    pub fn read(text: &str) -> anyhow::Result<Self> {
        let mut head = None;
        let mut sets: Vec<SetResults> = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = serde_json::from_str(line).with_context(|| format!("line {number}"))?;
            match (line, sets.last_mut()) {
                (Line::Head(line), _) if number == 1 => head = Some(line),
                (Line::Set(set), _) => sets.push(SetResults {
                    set,
                    runs: Vec::new(),
                    failures: Vec::new(),
                }),
                (
                    Line::Run {
                        round,
                        contender,
                        figures,
                    },
                    Some(set),
                ) if contender < set.set.contenders.len() => {
                    set.runs.push((round, contender, figures));
                }
                (
                    Line::Failure {
                        round,
                        contender,
                        error,
                    },
                    Some(set),
                ) if contender < set.set.contenders.len() => {
                    set.failures.push((round, contender, error));
                }
                _ => bail!("line {number} is out of place"),
            }
        }
        let head = head.context("line 1 must be the head")?;
        Ok(Self { head, sets })
    }
}

impl SetResults {
    /// A figure of a contender in each round that has it.
    pub fn values(
        &self,
        contender: usize,
        figure: impl Fn(&Figures) -> Option<f64>,
    ) -> impl Iterator<Item = f64> {
        let runs = self.runs.iter().filter(move |run| run.1 == contender);
        runs.filter_map(move |(_, _, figures)| figure(figures))
    }

    /// A figure of two contenders, round by round.
    pub fn pairs(
        &self,
        (one, other): (usize, usize),
        figure: impl Fn(&Figures) -> Option<f64>,
    ) -> impl Iterator<Item = (Option<f64>, Option<f64>)> {
        let value = move |round: u32, contender: usize| {
            let mut runs = self.runs.iter();
            let run = runs.find(|run| (run.0, run.1) == (round, contender))?;
            figure(&run.2)
        };
        (0..self.set.rounds).map(move |round| (value(round, one), value(round, other)))
    }
}

/// Writes lines to a file.
#[derive(Debug)]
pub struct Writer {
    file: File,
}

impl Writer {
    /// Begins a file anew.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn create(path: &Path, head: Head) -> anyhow::Result<Self> {
        let file =
            File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        let mut writer = Self { file };
        writer.write(&Line::Head(head))?;
        Ok(writer)
    }

    /// Adds a line.
    ///
    /// # Errors
    /// If the disk has no room.
    pub fn write(&mut self, line: &Line) -> anyhow::Result<()> {
        let text = serde_json::to_string(line)? + "\n";
        let written = self.file.write_all(text.as_bytes());
        written.context("cannot write the results")
    }
}

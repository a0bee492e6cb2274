//! All sets of a plan, one after the other.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use aquatic_daemon::clock;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::bounds::Bounds;
use crate::child::Interrupt;
use crate::contest::Contest;
use crate::figures::Figures;
use crate::find::{self, Folders};
use crate::machine::{self, Machine};
use crate::materials::RecvBuffers;
use crate::order::{self, Turn};
use crate::pin;
use crate::plan::{Contender, Plan, Set};
use crate::report;
use crate::results::{Entry, Head, Line, SetHead, Writer};
use crate::trackers::{self, Tracker};

/// How a plan is run.
#[derive(Clone, Debug)]
pub struct Runner {
    /// Where programs are.
    pub folders: Folders,
    /// The folder that results, tables and plots go to.
    pub output: PathBuf,
    /// How long plans may take.
    pub bounds: Bounds,
    /// How long all of them take without bounds.
    pub total_seconds: u64,
    /// What repeats this.
    pub command: String,
    /// Set by Ctrl-C.
    pub interrupt: Interrupt,
}

/// A contender whose program is there.
struct Ready<'a> {
    contender: &'a Contender,
    tracker: &'a Tracker,
    program: PathBuf,
}

impl Runner {
    /// Runs a plan and writes its page; or those of the plans that it names.
    ///
    /// # Errors
    /// If the results cannot be written, a load tester is missing, or we are interrupted. The page
    /// of what was measured until then is written in any case.
    pub fn run(&self, name: &str, plan: &Plan) -> anyhow::Result<()> {
        for name in &plan.plans {
            let (name, plan) = Plan::open(name)?;
            self.run(&name, &plan)?;
        }
        if plan.sets.is_empty() && plan.elsewhere.is_empty() {
            return Ok(());
        }
        let plan = &self.bounds.apply(plan, self.total_seconds);
        fs::create_dir_all(&self.output)
            .with_context(|| format!("cannot make the folder {}", self.output.display()))?;
        let path = self.output.join(format!("{name}.jsonl"));
        let mut writer = Writer::create(&path, self.head(name, plan)?)?;
        let _buffers = RecvBuffers::raise();
        let minutes = plan.seconds_min().div_ceil(60);
        eprintln!(
            "{name}: {} sets, {minutes} minutes or more",
            plan.sets.len()
        );
        let done = plan
            .sets
            .iter()
            .try_for_each(|set| self.run_set(plan, set, &mut writer));
        report::write(&path)?;
        done
    }

    fn head(&self, name: &str, plan: &Plan) -> anyhow::Result<Head> {
        let now = Timestamp::try_from(clock::wall_time()).context("the system's clock")?;
        let now = now.to_zoned(TimeZone::UTC);
        Ok(Head {
            plan: name.to_owned(),
            title: plan.title.clone(),
            text: plan.text.trim().to_owned(),
            date: now.strftime("%Y-%m-%d %H:%M UTC").to_string(),
            commit: machine::commit(Path::new(".")),
            command: self.command.clone(),
            machine: Machine::here(),
            elsewhere: plan.elsewhere.clone(),
        })
    }

    fn run_set(&self, plan: &Plan, set: &Set, writer: &mut Writer) -> anyhow::Result<()> {
        let tester = self.folders.tester(set.protocol)?;
        let mut ready = Vec::new();
        let mut missing = Vec::new();
        for contender in &set.contenders {
            let tracker = plan.tracker(&contender.tracker, trackers::built_in());
            let tracker = tracker.context("the plan has been checked")?;
            match self.folders.tracker(tracker) {
                Ok(program) => ready.push(Ready {
                    contender,
                    tracker,
                    program,
                }),
                Err(reason) => {
                    eprintln!("  {}: skipped, {reason}", contender.label());
                    missing.push((contender.label().to_owned(), reason));
                }
            }
        }
        writer.write(&Line::Set(set_head(plan, set, &ready, missing)))?;
        for turn in order::alternating(ready.len(), plan.rounds(set)) {
            let Some(ready) = ready.get(turn.contender) else {
                continue;
            };
            let contest = contest(plan, set, ready, &tester)?;
            let done = contest.run(&self.interrupt);
            self.interrupt.check()?;
            tell(set, ready.contender, turn, &done);
            writer.write(&line(turn, done))?;
        }
        Ok(())
    }
}

fn contest<'a>(
    plan: &Plan,
    set: &'a Set,
    ready: &'a Ready<'a>,
    tester: &'a Path,
) -> anyhow::Result<Contest<'a>> {
    let cpus = |list: Option<&String>, default: &str| {
        pin::parse(list.map_or(default, String::as_str)).map_err(|mistake| anyhow!(mistake))
    };
    Ok(Contest {
        set,
        contender: ready.contender,
        tracker: ready.tracker,
        program: &ready.program,
        tester,
        seconds: set.seconds.unwrap_or(plan.seconds),
        warm_up_seconds: set.warm_up_seconds.unwrap_or(plan.warm_up_seconds),
        tracker_cpus: cpus(ready.contender.cpus.as_ref(), &plan.tracker_cpus)?,
        tester_cpus: cpus(ready.contender.tester_cpus.as_ref(), &plan.tester_cpus)?,
        address: None,
    })
}

fn set_head(
    plan: &Plan,
    set: &Set,
    ready: &[Ready<'_>],
    missing: Vec<(String, String)>,
) -> SetHead {
    let or = |own: Option<&String>, default: &String| own.unwrap_or(default).clone();
    let entry = |ready: &Ready<'_>| Entry {
        label: ready.contender.label().to_owned(),
        text: ready.tracker.text.clone(),
        version: find::version(&ready.program, &ready.tracker.version),
        workers: ready.contender.workers,
        swarm_workers: ready.contender.swarm_workers,
        cpus: or(ready.contender.cpus.as_ref(), &plan.tracker_cpus),
        tester_cpus: or(ready.contender.tester_cpus.as_ref(), &plan.tester_cpus),
    };
    SetHead {
        name: set.name.clone(),
        title: set.title.clone(),
        text: set.text.trim().to_owned(),
        protocol: set.protocol,
        tls: set.tls,
        real_time: set.real_time,
        rounds: plan.rounds(set),
        seconds: set.seconds.unwrap_or(plan.seconds),
        warm_up_seconds: set.warm_up_seconds.unwrap_or(plan.warm_up_seconds),
        load: set.load.to_string(),
        before: set
            .before
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        contenders: ready.iter().map(entry).collect(),
        missing,
    }
}

fn line(turn: Turn, done: anyhow::Result<Figures>) -> Line {
    let Turn { round, contender } = turn;
    match done {
        Ok(figures) => Line::Run {
            round,
            contender,
            figures,
        },
        Err(error) => Line::Failure {
            round,
            contender,
            error: format!("{error:#}"),
        },
    }
}

/// Tells whoever waits how a run has ended.
fn tell(set: &Set, contender: &Contender, turn: Turn, done: &anyhow::Result<Figures>) {
    let what = format!(
        "  {} {}, round {}",
        set.name,
        contender.label(),
        turn.round + 1
    );
    match done {
        Ok(figures) => eprintln!("{what}: {}", report::in_one_line(figures)),
        Err(error) => eprintln!("{what}: FAILED, {error:#}"),
    }
}

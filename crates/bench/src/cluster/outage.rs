//! What clients notice while the server is gone, and how soon all is known after.

use crate::cluster::interruption::{Course, Cut, Interruption, SOON_SECONDS, parse_refresh_or_0};
use crate::cluster::server::Log;
use crate::cluster::{Context, Table, to_f64};
use crate::order::there_and_back;

/// How to measure it.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Options {
    /// outage: announces per second of new peers at each of two nodes.
    #[arg(long, value_name = "RATE", default_value_t = 20_000,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub outage_rate: u32,
    /// outage: for how long the server is gone.
    #[arg(long, value_name = "SECONDS", default_value_t = 60,
        value_parser = clap::value_parser!(u32).range(1..=600))]
    pub outage_seconds: u32,
    /// outage: seconds within which each peer is published again, a power of two. 0: the default.
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = parse_refresh_or_0)]
    pub outage_refresh: u32,
    /// outage: pairs of runs, with an outage and without one.
    #[arg(long, value_name = "PAIRS", default_value_t = 3,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub outage_pairs: u32,
}

impl Options {
    pub(crate) fn run(&self, context: &Context<'_>) -> anyhow::Result<Table> {
        let interruption = Interruption {
            rate: self.outage_rate,
            seconds: self.outage_seconds,
            refresh: self.outage_refresh,
            log: Log::Kept,
        };
        let mut courses: [Vec<Course>; 2] = Default::default();
        for turn in there_and_back(2, self.outage_pairs) {
            let cut = if turn.contender == 0 {
                Cut::Nothing
            } else {
                Cut::Server
            };
            let course = interruption.run(cut, context)?;
            if let Some(courses) = courses.get_mut(turn.contender) {
                courses.push(course);
            }
        }
        let mut table = Table::new("outage");
        tell(&courses, &mut table)?;
        Ok(table)
    }
}

fn tell([without, with]: &[Vec<Course>; 2], table: &mut Table) -> anyhow::Result<()> {
    let (mut p999s, mut grown) = (Vec::new(), Vec::new());
    for (name, courses) in [("without an outage", without), ("with an outage", with)] {
        p999s.push(tell_answers(name, courses, table)?);
        let name = format!("{name}: resident memory grew by");
        table.add_spread(&name, "MiB", of(courses, |it| it.grown_mebibytes));
        grown.push(of(courses, |it| it.grown_mebibytes));
    }
    if let ([without, with], [grown_without, grown_with]) = (p999s.as_slice(), grown.as_slice()) {
        let ratios = with
            .iter()
            .zip(without)
            .map(|(with, without)| with / without);
        table.add_spread("p99.9 with an outage to that without", "", ratios);
        let more = grown_with.iter().zip(grown_without);
        let more = more.map(|(with, without)| with - without);
        table.add_spread("resident memory, more with an outage", "MiB", more);
    }
    let most = "most that waited to be published at a node";
    table.add_spread(most, "MiB", of(with, |it| it.buffered_mebibytes));
    tell_return("the server's return", with, table);
    Ok(())
}

fn of(courses: &[Course], value: fn(&Course) -> f64) -> Vec<f64> {
    courses.iter().map(value).collect()
}

/// Gives p99.9 of all answers, from the beginning of the outage on.
fn tell_answers(name: &str, courses: &[Course], table: &mut Table) -> anyhow::Result<Vec<f64>> {
    let (mut p50s, mut p99s, mut p999s) = (Vec::new(), Vec::new(), Vec::new());
    let (mut answered, mut lost, mut refused) = (0, 0, 0);
    for Course {
        answers,
        during,
        after,
        ..
    } in courses
    {
        let part = answers.part(during.start..after.end);
        p50s.push(part.quantile(0.5)?);
        p99s.push(part.quantile(0.99)?);
        p999s.push(part.quantile(0.999)?);
        answered += part.answered();
        lost += answers.lost();
        refused += answers.refused;
    }
    table.add(format!("{name}: answers"), "answers", to_f64(answered));
    table.add(format!("{name}: lost"), "answers", to_f64(lost));
    table.add(format!("{name}: refused"), "answers", to_f64(refused));
    for (label, values) in [("p50", &p50s), ("p99", &p99s), ("p99.9", &p999s)] {
        let name = format!("{name}: answered after, {label}");
        table.add_spread(&name, "ms", values.iter().copied());
    }
    Ok(p999s)
}

/// How nodes have come to know everybody after that.
pub(crate) fn tell_return(what: &str, courses: &[Course], table: &mut Table) {
    let missing = of(courses, |it| it.missing);
    table.add_spread(
        &format!("peers unknown to a node at {what}"),
        "peers",
        missing,
    );
    let soon = of(courses, |it| it.missing_soon);
    let name = format!("peers unknown to a node {SOON_SECONDS} s after {what}");
    table.add_spread(&name, "peers", soon);
    let seconds = of(courses, |it| it.seconds);
    table.add_spread(
        &format!("all known at all nodes after {what}"),
        "s",
        seconds,
    );
    let replays = of(courses, |it| it.replays);
    table.add_spread(&format!("readings of the log after {what}"), "", replays);
}

//! The page of a plan.

use std::fmt::Write;

use crate::report::figure::{self, Figure, three_digits};
use crate::report::svg;
use crate::results::{Entry, Head, Results, SetHead, SetResults};
use crate::statistics::Spread;

/// The longest reason of a failure that is shown, in characters.
const REASON_MAX: usize = 200;

/// The whole page.
#[must_use]
pub fn page(results: &Results) -> String {
    let mut page = head(&results.head, &results.sets);
    for set in &results.sets {
        page += &section(&results.head.plan, set);
    }
    let elsewhere = &results.head.elsewhere;
    if !elsewhere.is_empty() {
        page += "## Measured elsewhere\n\n| figure | how |\n|---|---|\n";
        for line in elsewhere {
            let _ = writeln!(page, "| {} | {} |", cell(&line.figure), cell(&line.how));
        }
    }
    page
}

fn head(head: &Head, sets: &[SetResults]) -> String {
    let machine = &head.machine;
    let mut page = format!(
        "# {}\n\n<!-- Written by aquatic_bench from {}.jsonl: edit the plan, not this page. -->\n\
         \n",
        head.title, head.plan
    );
    if !head.text.is_empty() {
        let _ = writeln!(page, "{}\n", head.text);
    }
    let memory = three_digits(to_f64(machine.memory_mib) / 1024.0);
    let _ = writeln!(
        page,
        "| | |\n|---|---|\n| machine | {} CPUs, {}, {memory} GiB of memory |\n\
         | system | {}, Linux {} |\n| date | {}; load average before: {} |",
        machine.cpus,
        cell(&machine.cpu_model),
        cell(&machine.system),
        cell(&machine.kernel),
        head.date,
        machine.load_average
    );
    if !head.commit.is_empty() {
        let _ = writeln!(page, "| commit | {} |", head.commit);
    }
    let _ = writeln!(page, "| command | `{}` |", cell(&head.command));
    for (label, text, version) in versions(sets) {
        let _ = writeln!(
            page,
            "| {} | {}: {} |",
            cell(label),
            cell(text),
            cell(version)
        );
    }
    if !sets.is_empty() {
        page += "\nAn absolute figure holds for this machine and day. Each cell has the median of \
                 all rounds, and in\nbrackets the smallest and the largest. A ratio is the first \
                 tracker's figure divided by that of the\nline, taken round by round; again the \
                 median, the smallest and the largest.\n";
    }
    page.push('\n');
    page
}

/// Each tracker that takes part somewhere, once.
fn versions(sets: &[SetResults]) -> Vec<(&str, &str, &str)> {
    let mut versions: Vec<(&str, &str, &str)> = Vec::new();
    for entry in sets.iter().flat_map(|set| &set.set.contenders) {
        if !versions.iter().any(|(label, _, _)| *label == entry.label) {
            versions.push((&entry.label, &entry.text, &entry.version));
        }
    }
    versions
}

fn section(plan: &str, results: &SetResults) -> String {
    let set = &results.set;
    let mut text = format!("## {}\n\n", set.title);
    if !set.text.is_empty() {
        let _ = writeln!(text, "{}\n", set.text);
    }
    let _ = writeln!(text, "{}\n", conditions(set));
    if results.runs.is_empty() {
        text += "No run has figures.\n\n";
    } else {
        let file = svg::file_name(plan, results);
        let _ = writeln!(text, "![{}]({file})\n", set.title);
        text += &table(results);
        text.push('\n');
    }
    for (label, reason) in &set.missing {
        let _ = writeln!(text, "- Skipped: {label} ({reason}).");
    }
    for (round, contender, error) in &results.failures {
        let label = set
            .contenders
            .get(*contender)
            .map_or("", |entry| &entry.label);
        let error: String = cell(error).chars().take(REASON_MAX).collect();
        let _ = writeln!(text, "- Failed: {label}, round {}: {error}", round + 1);
    }
    if !(set.missing.is_empty() && results.failures.is_empty()) {
        text.push('\n');
    }
    text
}

/// How it was measured, in a sentence or two.
fn conditions(set: &SetHead) -> String {
    let SetHead {
        rounds,
        seconds,
        warm_up_seconds,
        ..
    } = set;
    let tls = if set.tls { " over TLS" } else { "" };
    let real_time = if set.real_time {
        ", at real-time priority"
    } else {
        ""
    };
    let mut text = format!(
        "{rounds} rounds of {seconds} s after {warm_up_seconds} s of warm-up, in turn, \
         {}{tls}{real_time}.",
        set.protocol
    );
    if let Some(common) = common_cpus(set) {
        let _ = write!(text, " {common}");
    }
    for entry in &set.contenders {
        let workers = match (entry.workers, entry.swarm_workers) {
            (1, 0) => String::new(),
            (workers, 0) => format!(", {workers} socket workers"),
            (workers, swarm) => format!(", {workers} socket and {swarm} swarm workers"),
        };
        if common_cpus(set).is_none() || !workers.is_empty() {
            let (cpus, tester_cpus) = (on_cpus(&entry.cpus), on_cpus(&entry.tester_cpus));
            let label = &entry.label;
            let _ = write!(
                text,
                "\n- {label}: {cpus}{workers}; load tester: {tester_cpus}."
            );
        }
    }
    for (name, settings) in [("Before", &set.before), ("Load", &set.load)] {
        if !settings.is_empty() {
            let _ = write!(text, "\n\n{name}:\n\n```toml\n{}\n```", settings.trim_end());
        }
    }
    text
}

/// What is said of the CPUs if they are the same for all.
fn common_cpus(set: &SetHead) -> Option<String> {
    let first = set.contenders.first()?;
    let is_first =
        |entry: &Entry| (&entry.cpus, &entry.tester_cpus) == (&first.cpus, &first.tester_cpus);
    set.contenders.iter().all(is_first).then(|| {
        let (cpus, tester_cpus) = (on_cpus(&first.cpus), on_cpus(&first.tester_cpus));
        format!("Tracker: {cpus}; load tester: {tester_cpus}.")
    })
}

fn on_cpus(cpus: &str) -> String {
    match cpus {
        "" => "any CPU".to_owned(),
        cpus if cpus.contains([',', '-']) => format!("CPUs {cpus}"),
        cpu => format!("CPU {cpu}"),
    }
}

fn table(results: &SetResults) -> String {
    let figures: Vec<&Figure> = figure::ALL.iter().filter(|it| it.is_in(results)).collect();
    let compared = |figure: &Figure| figure.is_compared && results.set.contenders.len() > 1;
    let (mut head, mut rule) = ("| tracker |".to_owned(), "|---|".to_owned());
    for figure in &figures {
        let _ = write!(head, " {} |", figure.name);
        rule += "---:|";
        if compared(figure) {
            head += " ratio |";
            rule += "---:|";
        }
    }
    let mut table = format!("{head}\n{rule}\n");
    for (contender, entry) in results.set.contenders.iter().enumerate() {
        let _ = write!(table, "| {} |", cell(&entry.label));
        for figure in &figures {
            let spread = Spread::of(results.values(contender, figure.value));
            let _ = write!(table, " {} |", in_cell(spread, figure));
            if compared(figure) {
                let ratio = match contender {
                    0 => None,
                    _ => Spread::of_ratios(results.pairs((0, contender), figure.value)),
                };
                let text = ratio.map_or(String::new(), ratio_in_cell);
                let _ = write!(table, " {text} |");
            }
        }
        table.push('\n');
    }
    table
}

fn in_cell(spread: Option<Spread>, figure: &Figure) -> String {
    let Some(spread) = spread else {
        return String::new();
    };
    let [median, min, max] = [spread.median, spread.min, spread.max].map(|it| figure.show(it));
    if min == max {
        format!("{median}{}", figure.unit)
    } else {
        format!("{median}{} ({min}–{max})", figure.unit)
    }
}

fn ratio_in_cell(ratio: Spread) -> String {
    let Spread {
        median,
        min,
        max,
        count,
    } = ratio;
    if count == 1 {
        format!("**{median:.2}** (1 pair)")
    } else {
        format!("**{median:.2}** ({min:.2}–{max:.2})")
    }
}

/// Nothing in a cell ends it.
fn cell(text: &str) -> String {
    text.replace('|', "/").replace('\n', " ")
}

#[expect(
    clippy::cast_precision_loss,
    reason = "memory in MiB is far below 2^53"
)]
fn to_f64(mebibytes: u64) -> f64 {
    mebibytes as f64
}

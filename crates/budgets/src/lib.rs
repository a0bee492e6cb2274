//! How many instructions something costs, and may cost. Unlike time, that is the same on every run,
//! so that a change of a few percent shows on any machine. Needs `valgrind`.
//!
//! A bench calls [`report`] from its `main`. The program starts itself under callgrind, twice per
//! case, with different numbers of rounds. The difference is what the rounds cost, without anything
//! that happens once.
//!
//! With `--check` the bench holds each count against [the table of budgets](budget), and fails if
//! there is no row for a case, or if it costs more:
//!
//! ```text
//! cargo bench -p aquatic_budgets --bench swarms -- --check
//! ```

#![forbid(unsafe_code)]

use std::env;
use std::error::Error;
use std::process::Command;

/// What a case is called, and what it does.
pub type Case = (&'static str, Work);

/// What is done in each round.
#[derive(Clone, Copy, Debug)]
pub enum Work {
    /// Something with a buffer that it may fill. The buffer stays as it was left in the round
    /// before.
    Buffer(fn(&mut Vec<u8>)),
    /// Something with what was made before the first round.
    State(fn() -> Box<dyn FnMut()>),
}

const ROUNDS: u64 = 1000;

const BUFFER_BYTES: usize = 64 * 1024;

/// The table: one row for each case of each bench.
const BUDGETS: &str = include_str!("../budgets.md");

/// Prints what one round of each case costs; or, as the program that callgrind watches, runs them.
/// `bench` is what the bench is called in the table of budgets.
///
/// # Errors
///
/// Where valgrind cannot be started, or the program under it fails. With `--check`, where a case
/// costs more than its budget, or has none.
pub fn report(bench: &str, cases: &[Case]) -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [case, rounds] = arguments.as_slice()
        && let Ok(case) = case.parse::<usize>()
    {
        let (_, work) = cases.get(case).ok_or("no such case")?;
        work.run(rounds.parse()?);
        return Ok(());
    }
    let checks = arguments.iter().any(|argument| argument == "--check");
    let mut failures = Vec::new();
    println!("{bench}: instructions per round, and the budget");
    for (case, (name, _)) in cases.iter().enumerate() {
        let rounds = instructions(case, 2 * ROUNDS)? - instructions(case, ROUNDS)?;
        let count = rounds / ROUNDS;
        let budget = budget(BUDGETS, bench, name);
        match budget {
            Some(budget) => println!("{count:>8} {budget:>8}  {name}"),
            None => println!("{count:>8} {:>8}  {name}", "none"),
        }
        if budget.is_none_or(|budget| count > budget) {
            failures.push(format!("{name}: {count} instructions"));
        }
    }
    if checks && !failures.is_empty() {
        let failures = failures.join(", ");
        return Err(format!("above the budget, or without one: {failures}").into());
    }
    Ok(())
}

/// What a case may cost according to a table with rows `| bench | case | instructions |`.
#[must_use]
pub fn budget(table: &str, bench: &str, case: &str) -> Option<u64> {
    table.lines().find_map(|line| {
        let mut cells = line.split('|').map(str::trim).skip(1);
        let is_row = cells.next()? == bench && cells.next()? == case;
        is_row.then(|| cells.next()?.parse().ok())?
    })
}

impl Work {
    fn run(self, rounds: u64) {
        match self {
            Self::Buffer(run) => {
                let mut buffer = Vec::with_capacity(BUFFER_BYTES);
                (0..rounds).for_each(|_| run(&mut buffer));
            }
            Self::State(make) => {
                let mut run = make();
                (0..rounds).for_each(|_| run());
            }
        }
    }
}

/// What callgrind counts in a whole run of this program with one case.
fn instructions(case: usize, rounds: u64) -> Result<u64, Box<dyn Error>> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe()?)
        .args([case.to_string(), rounds.to_string()])
        .output()
        .map_err(|error| format!("cannot start valgrind: {error}"))?;
    let report = String::from_utf8(output.stderr)?;
    let collected = report
        .lines()
        .find_map(|line| line.split_once("Collected : "));
    let Some((_, count)) = collected.filter(|_| output.status.success()) else {
        return Err(report.into());
    };
    Ok(count.trim().parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_found_by_bench_and_case() {
        let table = "| a | read | 10 |\n| b | read | 20 |\n| b | write | many |\n";
        assert_eq!(budget(table, "a", "read"), Some(10));
        assert_eq!(budget(table, "b", "read"), Some(20));
        assert_eq!(budget(table, "b", "write"), None);
        assert_eq!(budget(table, "a", "write"), None);
    }

    #[test]
    fn each_row_has_a_number() {
        let rows = BUDGETS.lines().filter(|line| line.starts_with("| "));
        let rows: Vec<_> = rows.skip(1).collect();
        assert!(rows.len() > 20, "{rows:?}");
        for row in rows {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            let [_, bench, case, _, _] = cells[..] else {
                panic!("not three columns: {row}");
            };
            assert!(budget(BUDGETS, bench, case).is_some(), "{row}");
        }
    }
}

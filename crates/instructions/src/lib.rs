//! How many instructions something costs. Unlike time, that is the same on every run, so that a
//! change of a few percent shows on any machine. Needs `valgrind`.
//!
//! A bench calls [`report`] from its `main`. The program starts itself under callgrind, twice per
//! case, with different numbers of rounds. The difference is what the rounds cost, without anything
//! that happens once.

#![forbid(unsafe_code)]

use std::env;
use std::error::Error;
use std::process::Command;

/// What a case is called, and what it does in each round with a buffer that it may fill. The buffer
/// stays as it was left in the round before.
pub type Case = (&'static str, fn(&mut Vec<u8>));

const ROUNDS: u64 = 1000;

const BUFFER_BYTES: usize = 64 * 1024;

/// Prints what one round of each case costs; or, as the program that callgrind watches, runs them.
///
/// # Errors
///
/// Where valgrind cannot be started, or the program under it fails.
pub fn report(cases: &[Case]) -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [case, rounds] = arguments.as_slice()
        && let Ok(case) = case.parse::<usize>()
    {
        let (_, run) = cases.get(case).ok_or("no such case")?;
        let mut buffer = Vec::with_capacity(BUFFER_BYTES);
        (0..rounds.parse::<u64>()?).for_each(|_| run(&mut buffer));
        return Ok(());
    }
    println!("instructions per round");
    for (case, (name, _)) in cases.iter().enumerate() {
        let rounds = instructions(case, 2 * ROUNDS)? - instructions(case, ROUNDS)?;
        println!("{:>8}  {name}", rounds / ROUNDS);
    }
    Ok(())
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

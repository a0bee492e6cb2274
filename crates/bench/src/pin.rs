//! Which CPUs a process may use.
//!
//! A child has the CPUs of the thread that starts it, from its first instruction on and with all
//! its threads. So the thread takes the child's for a moment.

use anyhow::Context;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The CPUs of a list such as "0,2-3"; `None` if it is empty: any.
///
/// # Errors
/// If it is no such list.
pub fn parse(list: &str) -> Result<Option<Vec<usize>>, String> {
    if list.is_empty() {
        return Ok(None);
    }
    let mut cpus = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<usize>().ok();
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last && last < CpuSet::count() => {
                cpus.extend(first..=last);
            }
            _ => {
                return Err(format!(
                    "{list:?} is no list of CPUs: write for example 0,2-3"
                ));
            }
        }
    }
    Ok(Some(cpus))
}

/// Does something with other CPUs than this thread's own. `None`: with those that it has.
///
/// # Errors
/// If this machine does not have them, or it fails.
pub fn with_cpus<T>(
    cpus: Option<&[usize]>,
    start: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let Some(cpus) = cpus else {
        return start();
    };
    let this_thread = Pid::from_raw(0);
    let own = sched_getaffinity(this_thread).context("cannot read which CPUs we may use")?;
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(*cpu).with_context(|| format!("no CPU {cpu}"))?;
    }
    sched_setaffinity(this_thread, &set)
        .with_context(|| format!("cannot run on CPUs {cpus:?}: does this machine have them?"))?;
    let result = start();
    sched_setaffinity(this_thread, &own).context("cannot return to our own CPUs")?;
    result
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn lists_are_read() {
        assert_eq!(parse(""), Ok(None));
        assert_eq!(parse("0,2-4"), Ok(Some(vec![0, 2, 3, 4])));
        for list in ["x", "1-", "3-1", "0,,1", "99999999"] {
            let error = parse(list).unwrap_err();
            assert!(error.contains(list), "{error}");
        }
    }

    #[test]
    fn a_child_is_pinned_and_its_parent_is_not() {
        let before = sched_getaffinity(Pid::from_raw(0)).unwrap();
        let cpu = (0..CpuSet::count()).find(|cpu| before.is_set(*cpu).unwrap());
        let output = with_cpus(Some(&[cpu.unwrap()]), || {
            Ok(Command::new("cat").arg("/proc/self/status").output()?)
        });
        let status = String::from_utf8(output.unwrap().stdout).unwrap();
        let line = format!("Cpus_allowed_list:\t{}\n", cpu.unwrap());
        assert!(status.contains(&line), "{status}");
        assert_eq!(sched_getaffinity(Pid::from_raw(0)).unwrap(), before);
    }
}

//! Where it was measured.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

use serde::{Deserialize, Serialize};

/// A machine, as far as it matters to figures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// CPUs that may be used.
    pub cpus: usize,
    /// What they call themselves.
    pub cpu_model: String,
    /// Memory, in MiB.
    pub memory_mib: u64,
    /// The kernel.
    pub kernel: String,
    /// The system's name.
    pub system: String,
    /// What else ran: the load average at the beginning (1, 5, 15 minutes).
    pub load_average: String,
}

impl Machine {
    /// This one, as far as it tells.
    #[must_use]
    pub fn here() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let memory_kib = field(&read("/proc/meminfo"), "MemTotal", ':');
        let memory_kib = memory_kib.trim_end_matches(" kB").parse::<u64>();
        let average = read("/proc/loadavg");
        let average: Vec<&str> = average.split(' ').take(3).collect();
        Self {
            cpus: thread::available_parallelism().map_or(0, usize::from),
            cpu_model: field(&read("/proc/cpuinfo"), "model name", ':'),
            memory_mib: memory_kib.unwrap_or(0) / 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            system: field(&read("/etc/os-release"), "PRETTY_NAME", '=')
                .trim_matches('"')
                .to_owned(),
            load_average: average.join(", "),
        }
    }
}

/// The value of the first line that begins with this name.
fn field(text: &str, name: &str, separator: char) -> String {
    let mut values = text.lines().filter_map(|line| {
        let (key, value) = line.split_once(separator)?;
        (key.trim() == name).then(|| value.trim().to_owned())
    });
    values.next().unwrap_or_default()
}

/// The commit of a working tree, with a `+` if files differ from it; empty if there is none.
#[must_use]
pub fn commit(folder: &Path) -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .current_dir(folder)
            .args(arguments)
            .output();
        let output = output.ok().filter(|output| output.status.success())?;
        String::from_utf8(output.stdout).ok()
    };
    let Some(commit) = git(&["rev-parse", "--short=8", "HEAD"]) else {
        return String::new();
    };
    let changes = git(&["status", "--porcelain", "--untracked-files=no"]);
    let mark = if changes.is_some_and(|changes| changes.is_empty()) {
        ""
    } else {
        "+"
    };
    format!("{}{mark}", commit.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found() {
        let text = "processor\t: 0\nmodel name\t: AMD EPYC\nmodel name\t: other\n";
        assert_eq!(field(text, "model name", ':'), "AMD EPYC");
        assert_eq!(field(text, "no such", ':'), "");
    }

    #[test]
    fn this_machine_has_cpus_and_memory() {
        let machine = Machine::here();
        assert!(machine.cpus > 0 && machine.memory_mib > 0, "{machine:?}");
        assert!(!machine.kernel.is_empty());
    }
}

//! What the system knows about this process, under the names that Prometheus gives to it.
//!
//! Memory, threads and open files are read from `/proc` where there is one; elsewhere they are not
//! exported. The file with the first two is opened once, at start: a daemon that changes its root
//! directory would not find it afterwards. Open files are in a directory, and to hold on to one
//! outside the new root would be a way out of it; so they are not exported then.

use std::fs::{self, File};
use std::io::{Read, Seek};
use std::time::Duration;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, rlim_t};
use nix::sys::time::TimeValLike;
use nix::unistd::{SysconfVar, sysconf};

use crate::clock::{Clock, unix_time};
use crate::exposition::{Exposition, Kind};

/// This process, as seen by the system.
#[derive(Debug, Default)]
pub struct Process {
    start_seconds: f64,
    stat: Option<File>,
    clock: Option<Clock>,
    /// When they were counted, and how many there were.
    open_files: Option<(Duration, Option<u64>)>,
}

/// How old their count may be for people.
const OPEN_FILES_AGE_MAX: Duration = Duration::from_secs(15);

/// What is shown to people.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProcessState {
    /// When the process started, in Unix time.
    pub start_seconds: f64,
    /// CPU time that all threads have used.
    pub cpu_time: Option<Duration>,
    /// Memory in use.
    pub resident_bytes: Option<u64>,
    /// Files and sockets that are open.
    pub open_files: Option<u64>,
    /// Files and sockets that may be open.
    pub open_files_max: Option<u64>,
}

/// What `/proc/self/stat` says (proc_pid_stat(5)).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    threads: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Process {
    /// Files that it has open at most.
    pub const FILES_MAX: usize = 2;

    /// To be called at the start of the process, before privileges are dropped.
    #[must_use]
    pub fn open() -> Self {
        Self {
            start_seconds: unix_time().as_secs_f64(),
            stat: File::open("/proc/self/stat").ok(),
            clock: Some(Clock::start()),
            open_files: None,
        }
    }

    /// How many files were open some seconds ago at most: the kernel makes a list of them all, and
    /// a tracker may have hundreds of thousands.
    fn open_files_lately(&mut self) -> Option<u64> {
        let now = self.clock.get_or_insert_with(Clock::start).elapsed();
        match self.open_files {
            Some((at, files)) if now < at + OPEN_FILES_AGE_MAX => files,
            _ => {
                let files = open_files();
                self.open_files = Some((now, files));
                files
            }
        }
    }

    /// What is known now, for people.
    pub fn state(&mut self) -> ProcessState {
        let stat = self.stat();
        ProcessState {
            start_seconds: self.start_seconds,
            cpu_time: cpu_time(),
            resident_bytes: stat.and_then(|stat| stat.resident_pages.checked_mul(page_bytes()?)),
            open_files: self.open_files_lately(),
            open_files_max: getrlimit(Resource::RLIMIT_NOFILE)
                .ok()
                .map(|(soft, _)| whole(soft)),
        }
    }

    /// Writes what is known.
    pub fn write(&mut self, text: &mut Exposition) {
        let mut metric = |name, kind, help, value: Option<f64>| {
            if let Some(value) = value {
                text.family(name, kind, help).sample(&[], value);
            }
        };
        metric(
            "process_start_time_seconds",
            Kind::Gauge,
            "When the process started, in seconds since the beginning of 1970",
            Some(self.start_seconds),
        );
        metric(
            "process_cpu_seconds_total",
            Kind::Counter,
            "CPU time that the process has used, in user and system mode",
            cpu_time().map(|time| time.as_secs_f64()),
        );
        metric(
            "process_max_fds",
            Kind::Gauge,
            "Files that the process may have open",
            getrlimit(Resource::RLIMIT_NOFILE)
                .ok()
                .map(|(soft, _)| limit(soft)),
        );
        metric(
            "process_open_fds",
            Kind::Gauge,
            "Files that the process has open, sockets among them",
            open_files().map(approximate),
        );
        let stat = self.stat();
        let of_stat =
            |value: fn(&Stat) -> Option<u64>| stat.as_ref().and_then(value).map(approximate);
        metric(
            "process_threads",
            Kind::Gauge,
            "Threads of the process",
            of_stat(|stat| Some(stat.threads)),
        );
        metric(
            "process_virtual_memory_bytes",
            Kind::Gauge,
            "Addresses that the process has reserved",
            of_stat(|stat| Some(stat.virtual_bytes)),
        );
        metric(
            "process_resident_memory_bytes",
            Kind::Gauge,
            "Memory that the process has in use",
            of_stat(|stat| stat.resident_pages.checked_mul(page_bytes()?)),
        );
    }

    fn stat(&mut self) -> Option<Stat> {
        let file = self.stat.as_mut()?;
        let mut text = String::new();
        file.rewind().ok()?;
        file.read_to_string(&mut text).ok()?;
        Stat::parse(&text)
    }
}

impl Stat {
    /// The second field is the name of the program, in parentheses, and may hold anything.
    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<_> = rest.split_ascii_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse().ok();
        Some(Self {
            threads: number(20)?,
            virtual_bytes: number(23)?,
            resident_pages: number(24)?,
        })
    }
}

fn open_files() -> Option<u64> {
    let files = fs::read_dir("/proc/self/fd").ok()?.count();
    // One of them is the directory itself.
    Some(u64::try_from(files).ok()?.saturating_sub(1))
}

/// CPU time that the process has used, in user and system mode.
#[must_use]
pub fn cpu_time() -> Option<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let time = usage.user_time() + usage.system_time();
    let micros = u64::try_from(time.num_microseconds()).ok()?;
    Some(Duration::from_micros(micros))
}

fn page_bytes() -> Option<u64> {
    let bytes = sysconf(SysconfVar::PAGE_SIZE).ok()??;
    u64::try_from(bytes).ok()
}

fn limit(soft: rlim_t) -> f64 {
    approximate(whole(soft))
}

/// FreeBSD's limits have a sign, those of Linux and macOS have none.
#[cfg_attr(
    not(target_os = "freebsd"),
    expect(clippy::useless_conversion, reason = "see above")
)]
fn whole(soft: rlim_t) -> u64 {
    u64::try_from(soft).unwrap_or(u64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "nobody needs the 17th digit")]
pub(crate) fn approximate(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_program_may_hold_anything() {
        let text = "7 (a) b (c) R 1 7 7 0 -1 4194304 99 0 0 0 3 4 0 0 20 0 12 0 555 8192 3 18446";
        let expected = Stat {
            threads: 12,
            virtual_bytes: 8_192,
            resident_pages: 3,
        };
        assert_eq!(Stat::parse(text), Some(expected));
        assert_eq!(Stat::parse("7 (a) R 1"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_described_again_and_again() {
        let mut process = Process::open();
        let mut scrape = || {
            let mut text = Exposition::default();
            process.write(&mut text);
            text.into_text()
        };
        let value = |text: &str, name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("no {name} in {text}"))
                .trim()
                .parse()
                .unwrap()
        };
        let before = scrape();
        let memory = vec![1_u8; 64 << 20];
        let files: Vec<_> = (0..10).map(|_| File::open("/dev/null").unwrap()).collect();
        let after = scrape();
        let added = |name| value(&after, name) - value(&before, name);
        assert_eq!(
            memory.iter().filter(|byte| **byte == 1).count(),
            memory.len()
        );
        // Tests of the same process may free something meanwhile.
        assert!(added("process_resident_memory_bytes ") > 32e6);
        assert!(added("process_open_fds ") >= f64::from(u32::try_from(files.len()).unwrap()) / 2.0);
        assert!(value(&after, "process_cpu_seconds_total ") > 0.0);
        assert!(value(&after, "process_threads ") >= 1.0);
        let age = unix_time().as_secs_f64() - value(&after, "process_start_time_seconds ");
        assert!((0.0..3_600.0).contains(&age), "{age}");
        assert!(
            value(&after, "process_virtual_memory_bytes ")
                > value(&after, "process_resident_memory_bytes ")
        );
        assert!(value(&after, "process_max_fds ") >= value(&after, "process_open_fds "));
    }
}

//! What a flood does to the tracker's process, and what the kernel keeps from it (`/proc`, Linux).

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use aquatic_daemon::clock::Clock;
use aquatic_load_test::core::process::Usage;

const SAMPLE_INTERVAL: Duration = Duration::from_millis(50);

/// What the kernel counts in, on all machines but a few.
const PAGE_BYTES: u64 = 4_096;

/// What was seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Observed {
    /// Memory at the start, in bytes.
    pub resident_bytes_before: u64,
    /// The most that it took at any time, in bytes.
    pub resident_bytes_max: u64,
    /// The most that the kernel held for TCP connections, those of the attackers included, and of
    /// other programs, in bytes.
    pub tcp_bytes_max: u64,
    /// CPU time, in thousandths of the time that went by.
    pub cpu_permille: u64,
    /// Packets that the kernel has dropped before the tracker saw them.
    pub dropped_by_kernel: u64,
    /// How often another process was found in its place.
    pub restarts: u32,
    /// There is no process at the end.
    pub is_gone: bool,
}

/// The tracker's process, which may be another one after a restart.
#[derive(Clone, Debug, clap::Args)]
pub struct TrackerProcess {
    /// A file with the process id of the tracker. Whoever restarts it writes the new one there.
    #[arg(long)]
    pub pid_file: PathBuf,
}

impl TrackerProcess {
    /// Its id at the moment.
    ///
    /// # Errors
    /// If the file is not there, or holds no number.
    pub fn pid(&self) -> anyhow::Result<u32> {
        let file = &self.pid_file;
        let text = fs::read_to_string(file);
        let text = text.with_context(|| format!("cannot read {}", file.display()))?;
        let pid = text.trim().parse();
        pid.with_context(|| format!("{} holds no process id", file.display()))
    }
}

/// Watches the tracker until it is told to stop.
///
/// # Errors
/// If there is no such process at first, or no `/proc`.
pub fn watch(
    process: &TrackerProcess,
    tracker: SocketAddr,
    stop: &AtomicBool,
) -> anyhow::Result<Observed> {
    let mut watch = Watch::begin(process, tracker)?;
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(SAMPLE_INTERVAL);
        watch.sample();
    }
    Ok(watch.end())
}

/// What was seen up to now.
struct Watch<'a> {
    process: &'a TrackerProcess,
    tracker: SocketAddr,
    clock: Clock,
    pid: u32,
    /// Of the process that is there now.
    first: Usage,
    last: Usage,
    /// CPU time of those before it.
    cpu_micros: u64,
    /// Up to the beginning.
    dropped: u64,
    observed: Observed,
}

impl<'a> Watch<'a> {
    fn begin(process: &'a TrackerProcess, tracker: SocketAddr) -> anyhow::Result<Self> {
        let pid = process.pid()?;
        let (clock, before) = (Clock::start(), Usage::of_process(pid)?);
        Ok(Self {
            process,
            tracker,
            clock,
            pid,
            first: before,
            last: before,
            cpu_micros: 0,
            dropped: dropped_by_kernel(tracker),
            observed: Observed {
                resident_bytes_before: before.resident_bytes,
                resident_bytes_max: before.resident_bytes,
                ..Observed::default()
            },
        })
    }

    fn sample(&mut self) {
        let now = self.process.pid().unwrap_or(self.pid);
        if now != self.pid {
            self.observed.restarts += 1;
            self.cpu_micros += cpu_micros_between(&self.first, &self.last);
            (self.first, self.last) = Default::default();
            self.pid = now;
        }
        let usage = Usage::of_process(self.pid);
        let observed = &mut self.observed;
        observed.is_gone = usage.is_err();
        if let Ok(usage) = usage {
            self.last = usage;
            let most = observed.resident_bytes_max.max(usage.resident_bytes);
            observed.resident_bytes_max = most;
        }
        observed.tcp_bytes_max = observed.tcp_bytes_max.max(tcp_bytes());
    }

    fn end(self) -> Observed {
        let cpu_micros = self.cpu_micros + cpu_micros_between(&self.first, &self.last);
        let elapsed = u64::try_from(self.clock.elapsed().as_micros()).unwrap_or(u64::MAX);
        Observed {
            cpu_permille: (cpu_micros * 1_000).checked_div(elapsed).unwrap_or(0),
            dropped_by_kernel: dropped_by_kernel(self.tracker).saturating_sub(self.dropped),
            ..self.observed
        }
    }
}

fn cpu_micros_between(first: &Usage, last: &Usage) -> u64 {
    let used = last.since(first);
    used.user_micros + used.system_micros
}

/// Bytes of the kernel's TCP buffers.
fn tcp_bytes() -> u64 {
    tcp_pages(&fs::read_to_string("/proc/net/sockstat").unwrap_or_default()) * PAGE_BYTES
}

/// A line such as `TCP: inuse 5 orphan 0 tw 1 alloc 7 mem 3`, in pages.
fn tcp_pages(table: &str) -> u64 {
    let line = table.lines().find(|line| line.starts_with("TCP: "));
    let pages = line.and_then(|line| line.rsplit_once(" mem ")?.1.parse().ok());
    pages.unwrap_or(0)
}

/// Datagrams that did not fit into the receive buffers of this port, and connections for which
/// there was no room in a backlog, on the whole machine (or network namespace).
fn dropped_by_kernel(tracker: SocketAddr) -> u64 {
    let read = |file| fs::read_to_string(file).unwrap_or_default();
    udp_drops(&read("/proc/net/udp"), tracker.port()) + listen_drops(&read("/proc/net/netstat"))
}

/// The last column of the rows whose local address has this port, such as `0100007F:0BB8`.
fn udp_drops(table: &str, port: u16) -> u64 {
    let suffix = format!(":{port:04X}");
    let drops = table.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let is_tracker = fields.nth(1)?.ends_with(&suffix);
        is_tracker.then(|| fields.last()?.parse::<u64>().ok())?
    });
    drops.sum()
}

/// A line of names and one of values, both of which begin with `TcpExt:`.
fn listen_drops(table: &str) -> u64 {
    let mut lines = table.lines().filter(|line| line.starts_with("TcpExt:"));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else {
        return 0;
    };
    let mut pairs = names.split(' ').zip(values.split(' '));
    let value = pairs.find_map(|(name, value)| (name == "ListenDrops").then_some(value));
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_of_the_trackers_port_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   \
                     uid  timeout inode ref pointer drops\n\
                     1: 0100007F:0BB8 00000000:0000 07 0:0 00:0 0 0 0 5 2 0 17\n\
                     2: 0100007F:0BB8 00000000:0000 07 0:0 00:0 0 0 0 6 2 0 4\n\
                     3: 0100007F:0BB9 00000000:0000 07 0:0 00:0 0 0 0 7 2 0 100\n";
        assert_eq!(udp_drops(table, 3_000), 21);
        assert_eq!(udp_drops(table, 1), 0);
    }

    #[test]
    fn drops_of_backlogs_are_found_by_name() {
        let table = "TcpExt: SyncookiesSent ListenOverflows ListenDrops Other\n\
                     TcpExt: 1 2 3 4\nIpExt: A ListenDrops\nIpExt: 5 6\n";
        assert_eq!(listen_drops(table), 3);
        assert_eq!(listen_drops(""), 0);
    }

    #[test]
    fn buffers_of_the_kernel_are_counted_in_pages() {
        let table = "sockets: used 9\nTCP: inuse 5 orphan 0 tw 1 alloc 7 mem 30\nUDP: mem 2\n";
        assert_eq!((tcp_pages(table), tcp_pages("")), (30, 0));
    }

    /// A file that says that the tracker is this process.
    fn process(name: &str, pid: &str) -> TrackerProcess {
        let file = format!("aquatic-flood-{name}-{}", std::process::id());
        let pid_file = std::env::temp_dir().join(file);
        fs::write(&pid_file, pid).unwrap();
        TrackerProcess { pid_file }
    }

    #[test]
    fn an_ended_process_is_an_error_at_first() {
        let (stop, tracker) = (AtomicBool::new(true), "127.0.0.1:1".parse().unwrap());
        for pid in ["8388608\n", "x"] {
            let process = process("ended", pid);
            watch(&process, tracker, &stop).unwrap_err();
            fs::remove_file(process.pid_file).unwrap();
        }
    }

    #[test]
    fn memory_and_restarts_are_seen() {
        let process = process("seen", &std::process::id().to_string());
        let mut watch = Watch::begin(&process, "127.0.0.1:1".parse().unwrap()).unwrap();
        watch.sample();
        fs::write(&process.pid_file, "8388608").unwrap();
        watch.sample();
        watch.sample();
        let observed = watch.end();
        fs::remove_file(&process.pid_file).unwrap();
        assert!(observed.resident_bytes_before > 1 << 20);
        assert!(observed.restarts == 1 && observed.is_gone, "{observed:?}");
    }
}

//! The process, its threads and files.

use std::time::Duration;

use aquatic_daemon::process::ProcessState;
use aquatic_daemon::{heartbeat, kept_gauges};
use metrics::Label;
use serde::Serialize;

use crate::metrics::approximate;

/// What is known beside swarms and traffic.
#[derive(Clone, Debug, Serialize)]
pub struct Environment {
    /// The process as the system sees it.
    pub process: Process,
    /// Threads and how busy they are; empty where the system does not tell.
    pub threads: Vec<Thread>,
    /// The access list, if there is one.
    pub access_list: Option<Loaded>,
    /// The networks whose clients are not served, if there is a list of them.
    pub denied_networks: Option<Loaded>,
    /// The keys of a private tracker, if it is one.
    pub keys: Option<Loaded>,
    /// The configuration file, if there is one.
    pub configuration: Option<Loaded>,
    /// The file for the next start, if there is one: of all swarms of addresses, or of the only
    /// protocol. One that a protocol of several has for itself is in that protocol's figures.
    pub persistence: Option<Persistence>,
}

/// The process as the system sees it. What is not known here is `None`.
#[derive(Clone, Debug, Serialize)]
pub struct Process {
    /// When it started, in Unix time.
    pub start_time: f64,
    /// CPU time that all threads have used.
    pub cpu_seconds: Option<f64>,
    /// CPUs that all threads together have kept busy lately: 1.5 is one and a half.
    pub cpus_busy: Option<f64>,
    /// Memory in use.
    pub resident_memory_bytes: Option<u64>,
    /// Files and sockets that are open.
    pub open_files: Option<u64>,
    /// Files and sockets that may be open.
    pub open_files_max: Option<u64>,
}

/// A thread.
#[derive(Clone, Debug, Serialize)]
pub struct Thread {
    /// `socket-0`.
    pub name: String,
    /// CPU time that it has used.
    pub cpu_seconds: f64,
    /// The share of the last seconds in which it was busy; `None` if it is too new.
    pub load: Option<f64>,
}

/// Something that is read from a file, and read again.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Loaded {
    /// How many entries the file has, if it is a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entries: Option<u64>,
    /// Whether it could be read at the last attempt.
    pub last_reload_successful: bool,
    /// When it was read, in Unix time.
    pub last_reload_time: Option<f64>,
}

/// The file that is written for the next start.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Persistence {
    /// Whether it could be written at the last attempt.
    pub last_write_successful: bool,
    /// When it was written, in Unix time.
    pub last_write_time: Option<f64>,
    /// Its size.
    pub file_bytes: Option<u64>,
}

/// Peers of a client software.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Client {
    /// Its name and version.
    pub client: String,
    /// How many.
    pub peers: u64,
}

impl Environment {
    /// What is known now. Loads are not known yet.
    #[must_use]
    pub fn read(state: &ProcessState) -> Self {
        let round = |time: Duration| (time.as_secs_f64() * 1e3).round() / 1e3;
        let threads = heartbeat::cpu_times()
            .into_iter()
            .map(|(name, time)| Thread {
                name,
                cpu_seconds: round(time),
                load: None,
            });
        Self {
            process: Process {
                start_time: state.start_seconds,
                cpu_seconds: state.cpu_time.map(round),
                cpus_busy: None,
                resident_memory_bytes: state.resident_bytes,
                open_files: state.open_files,
                open_files_max: state.open_files_max,
            },
            threads: threads.collect(),
            access_list: Loaded::read("aquatic_access_list", &[]),
            denied_networks: Loaded::read("aquatic_denied_networks", &[]),
            keys: Loaded::read("aquatic_keys", &[]),
            configuration: Loaded::read("aquatic_configuration", &[]),
            persistence: Persistence::read(&[]),
        }
    }

    /// Fills in how busy it has been since an earlier moment.
    pub(super) fn compare(&mut self, earlier: &Self, time: Duration) {
        let load = |before: f64, now: f64| {
            let seconds = time.as_secs_f64();
            let load = (now - before).max(0.0) / seconds;
            (seconds > 0.0).then_some((load * 1e3).round() / 1e3)
        };
        for thread in &mut self.threads {
            let mut earlier = earlier.threads.iter();
            let earlier = earlier.find(|other| other.name == thread.name);
            thread.load = earlier
                .and_then(|earlier| load(earlier.cpu_seconds, thread.cpu_seconds))
                // The clocks of threads and of the wall are not read in the same instant.
                .map(|load| load.min(1.0));
        }
        let times = earlier.process.cpu_seconds.zip(self.process.cpu_seconds);
        self.process.cpus_busy = times.and_then(|(before, now)| load(before, now));
    }
}

impl Loaded {
    /// What the metrics say whose names begin with `what` and that have these labels.
    #[must_use]
    pub fn read(what: &str, labels: &[Label]) -> Option<Self> {
        let get = |name: String| kept_gauges::get(&name, labels);
        let successful = get(format!("{what}_last_reload_successful"))?;
        Some(Self {
            entries: whole(&format!("{what}_entries"), labels),
            last_reload_successful: successful > 0.0,
            last_reload_time: get(format!("{what}_last_reload_timestamp_seconds")),
        })
    }
}

impl Persistence {
    /// Of the file that this protocol has beside the common one.
    pub(super) fn of_protocol(name: &'static str) -> Option<Self> {
        Self::read(&[Label::from_static_parts("protocol", name)])
    }

    fn read(labels: &[Label]) -> Option<Self> {
        let get = |name| kept_gauges::get(name, labels);
        Some(Self {
            last_write_successful: get("aquatic_persistence_last_write_successful")? > 0.0,
            last_write_time: get("aquatic_persistence_last_write_timestamp_seconds"),
            file_bytes: whole("aquatic_persistence_file_bytes", labels),
        })
    }
}

/// A gauge that is a whole number.
fn whole(name: &str, labels: &[Label]) -> Option<u64> {
    let value = kept_gauges::get(name, labels)?;
    // The largest that a floating point number has exactly is enough.
    (0.0..approximate(1 << 53))
        .contains(&value)
        .then(|| format!("{value:.0}").parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `aquatic serve` writes swarms of addresses to one file, and of WebTorrent to another.
    #[test]
    fn each_file_has_figures_of_its_own() {
        let bees = [Label::from_static_parts("protocol", "bees")];
        let set = |name, labels: &[Label], value| kept_gauges::set(name, labels, value);
        set("aquatic_persistence_last_write_successful", &bees, 0.0);
        set("aquatic_persistence_last_write_timestamp_seconds", &[], 7.0);
        set("aquatic_persistence_last_write_successful", &[], 1.0);
        set("aquatic_persistence_file_bytes", &bees, 5.0);
        let read = |persistence: Option<Persistence>| {
            let Persistence {
                last_write_successful,
                last_write_time,
                file_bytes,
            } = persistence.unwrap();
            (last_write_successful, last_write_time, file_bytes)
        };
        assert_eq!(read(Persistence::read(&[])), (true, Some(7.0), None));
        let of_bees = read(Persistence::of_protocol("bees"));
        assert_eq!(of_bees, (false, None, Some(5)));
        assert!(Persistence::of_protocol("ants").is_none());
    }
}

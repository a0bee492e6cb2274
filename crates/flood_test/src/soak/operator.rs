//! The operator of the tracker: looks at the process, reloads its access list, and scrapes its
//! metrics. In a thread of its own, so that no client waits for that.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use aquatic_daemon::clock::Clock;
use aquatic_load_test::core::population::info_hash;
use aquatic_load_test::core::process::Usage;
use aquatic_types::InfoHash;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Plan;
use super::samples::{Interval, Process, Sample};

/// Torrents that are sometimes denied.
pub(super) const DENIABLE: u32 = 16;

/// Torrents in the lists that nobody announces.
const OTHERS: u32 = 10_000;

/// Info hashes of both follow from these.
const DENIABLE_SEED: u64 = 71;
const OTHERS_SEED: u64 = 72;

const RELOAD_MICROS: u64 = 10_000_000;
const SCRAPE_MICROS: u64 = 5_000_000;
const METRICS_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the metrics may lag behind, in looks and the time between them.
const LOOKS: u32 = 20;
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// Which torrents the access list denies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum List {
    /// There is no list, or it is empty.
    #[default]
    None,
    Even,
    Odd,
    All,
}

/// The list of now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) list: List,
    /// When the tracker was told.
    pub(super) since_micros: u64,
}

/// What a tracker must count at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) torrents: u64,
    pub(super) seeders: u64,
    pub(super) leechers: u64,
    pub(super) completed: u64,
}

/// What the operator is told.
#[derive(Debug)]
pub(super) enum Note {
    /// Some time has passed: look at the process.
    Passed(Interval),
    /// Deny all torrents that can be denied, and leave it at that.
    DenyAll,
    /// Compare the metrics with this.
    Compare(Totals),
}

/// What the operator wants to be known.
pub(super) type Fault = String;

pub(super) struct Operator<'a> {
    pub(super) plan: &'a Plan,
    pub(super) clock: Clock,
    pub(super) listed: Arc<Mutex<Listed>>,
    pub(super) notes: Receiver<Note>,
    /// Each message is what is wrong, but for an empty one: metrics were compared.
    pub(super) faults: Sender<Fault>,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Operated {
    pub(super) samples: Vec<Sample>,
    pub(super) reloads: u64,
    pub(super) scrapes: u64,
}

impl List {
    pub(super) fn denies(self, number: u32) -> bool {
        match self {
            Self::None => false,
            Self::Even => number.is_multiple_of(2),
            Self::Odd => !number.is_multiple_of(2),
            Self::All => true,
        }
    }

    fn next(self) -> Self {
        match self {
            Self::Even => Self::Odd,
            Self::None | Self::Odd | Self::All => Self::Even,
        }
    }

    fn text(self) -> String {
        let denied = (0..DENIABLE).filter(|number| self.denies(*number));
        let others = (0..OTHERS).map(|number| info_hash(OTHERS_SEED, number));
        let mut text = String::new();
        for info_hash in denied.map(deniable).chain(others) {
            for byte in info_hash.0 {
                let _ = write!(text, "{byte:02x}");
            }
            text.push('\n');
        }
        text
    }
}

/// A torrent that is sometimes denied.
pub(super) fn deniable(number: u32) -> InfoHash {
    info_hash(DENIABLE_SEED, number)
}

impl Operator<'_> {
    /// Until nobody sends notes any longer.
    pub(super) fn run(self) -> anyhow::Result<Operated> {
        let mut operated = Operated::default();
        let csv = File::create(&self.plan.csv);
        let mut csv = csv.with_context(|| format!("cannot write {}", self.plan.csv.display()))?;
        writeln!(csv, "{}", Sample::HEAD)?;
        let mut list = List::None;
        let due = |is_wanted: bool| if is_wanted { 0 } else { u64::MAX };
        let mut reload_micros = due(self.plan.access_list.is_some());
        let mut scrape_micros = due(self.plan.metrics.is_some());
        let mut before = Usage::of_process(self.plan.process.pid()?)?;
        let mut before_micros = self.clock.micros();
        loop {
            let now = self.clock.micros();
            if now >= reload_micros {
                reload_micros = now + RELOAD_MICROS;
                list = list.next();
                self.reload(list)?;
                operated.reloads += 1;
            }
            if now >= scrape_micros {
                scrape_micros = now + SCRAPE_MICROS;
                operated.scrapes += 1;
                self.report(self.scrape().map(drop));
            }
            let next = reload_micros.min(scrape_micros).min(now + SCRAPE_MICROS);
            let pause = Duration::from_micros(next.saturating_sub(now));
            match self.notes.recv_timeout(pause) {
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(operated),
                Ok(Note::Passed(interval)) => {
                    let (used, now) = (
                        Usage::of_process(self.plan.process.pid()?)?,
                        self.clock.micros(),
                    );
                    let elapsed_micros = now - before_micros;
                    let process =
                        Process::look(&self.plan.process, &used.since(&before), elapsed_micros)?;
                    (before, before_micros) = (used, now);
                    let sample = Sample { interval, process };
                    writeln!(csv, "{sample}")?;
                    operated.samples.push(sample);
                }
                Ok(Note::DenyAll) => {
                    reload_micros = u64::MAX;
                    self.reload(List::All)?;
                }
                Ok(Note::Compare(totals)) => self.compare(&totals),
            }
        }
    }

    fn reload(&self, list: List) -> anyhow::Result<()> {
        let Some(path) = &self.plan.access_list else {
            return Ok(());
        };
        let new = path.with_extension("new");
        fs::write(&new, list.text()).with_context(|| format!("cannot write {}", new.display()))?;
        fs::rename(&new, path).with_context(|| format!("cannot replace {}", path.display()))?;
        let pid = Pid::from_raw(self.plan.process.pid()?.cast_signed());
        kill(pid, Signal::SIGUSR1).context("the tracker has ended")?;
        let since_micros = self.clock.micros();
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        *listed = Listed { list, since_micros };
        Ok(())
    }

    fn report(&self, result: anyhow::Result<()>) {
        if let Err(error) = result {
            // Who does not listen any longer has an error of its own.
            let _ = self.faults.send(format!("{error:#}"));
        }
    }

    /// Tells when it is done, and what differs.
    fn compare(&self, totals: &Totals) {
        let mut result = Ok(());
        for _ in 0..LOOKS {
            result = self.scrape().and_then(|text| totals.compare(&text));
            if result.is_ok() {
                break;
            }
            std::thread::sleep(LOOK_PAUSE);
        }
        self.report(result);
        let _ = self.faults.send(String::new());
    }

    /// The metrics as text; nothing if there are none.
    fn scrape(&self) -> anyhow::Result<String> {
        let Some(address) = self.plan.metrics else {
            return Ok(String::new());
        };
        let mut text = String::new();
        let mut get = || -> std::io::Result<()> {
            let mut stream = TcpStream::connect_timeout(&address, METRICS_TIMEOUT)?;
            stream.set_read_timeout(Some(METRICS_TIMEOUT))?;
            stream.write_all(
                b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            )?;
            stream.read_to_string(&mut text).map(drop)
        };
        get().context("cannot scrape the metrics")?;
        let is_served = text.starts_with("HTTP/1.1 200") && text.contains("aquatic_");
        ensure!(is_served, "metrics are refused: {:?}", text.lines().next());
        Ok(text)
    }
}

impl Totals {
    fn compare(&self, text: &str) -> anyhow::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        let counted = Self {
            torrents: sum(text, "aquatic_torrents"),
            seeders: sum(text, "aquatic_seeders"),
            leechers: sum(text, "aquatic_leechers"),
            completed: sum(text, "aquatic_completed_downloads_total"),
        };
        ensure!(
            counted == *self,
            "metrics say {counted:?} instead of {self:?}"
        );
        let peers = sum(text, "aquatic_peers");
        ensure!(
            peers == self.seeders + self.leechers,
            "metrics say {peers} peers, of {self:?}"
        );
        Ok(())
    }
}

/// The sum of a metric over all its labels.
fn sum(text: &str, metric: &str) -> u64 {
    let values = text.lines().filter_map(|line| {
        let labels = line.strip_prefix(metric)?;
        let is_metric = labels.starts_with(['{', ' ']);
        is_metric.then(|| labels.rsplit_once(' ')?.1.parse::<u64>().ok())?
    });
    values.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOTALS: Totals = Totals {
        torrents: 5,
        seeders: 3,
        leechers: 4,
        completed: 2,
    };

    const TEXT: &str = "HTTP/1.1 200 OK\r\n\r\n# TYPE aquatic_peers gauge\n\
        aquatic_peers{ip_version=\"4\",worker_index=\"0\"} 5\n\
        aquatic_peers{ip_version=\"4\",worker_index=\"1\"} 2\n\
        aquatic_peers_per_torrent{type=\"max\"} 100\n\
        aquatic_torrents 5\naquatic_seeders 3\naquatic_leechers 4\n\
        aquatic_completed_downloads_total 2\n";

    #[test]
    fn metrics_are_compared_with_the_model() {
        TOTALS.compare(TEXT).unwrap();
        for (right, wrong) in [
            ("} 5", "} 6"),
            ("torrents 5", "torrents 4"),
            ("seeders 3", "seeders 2"),
            ("total 2", "total 3"),
        ] {
            let error = TOTALS.compare(&TEXT.replace(right, wrong)).unwrap_err();
            assert!(error.to_string().starts_with("metrics say"), "{error}");
        }
    }

    #[test]
    fn lists_alternate_and_deny_what_they_say() {
        let (even, odd) = (List::None.next(), List::None.next().next());
        assert_eq!((even, odd, odd.next()), (List::Even, List::Odd, List::Even));
        let lines = |list: List| list.text().lines().map(str::to_owned).collect::<Vec<_>>();
        let denied = (DENIABLE / 2 + OTHERS) as usize;
        assert_eq!([even, odd].map(|list| lines(list).len()), [denied; 2]);
        assert_ne!(lines(even)[0], lines(odd)[0]);
        assert!(lines(odd).iter().all(|line| line.len() == 40));
    }
}

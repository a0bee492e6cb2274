//! Statistics for people (standard output, an HTML page) and for Prometheus.
//!
//! One thread reads, every few seconds, what the workers count and the shards report. It shares
//! nothing else with them, so a slow disk or terminal does not delay an answer to a client.
//!
//! ```text
//! counters, reports ──▶ Sample ─┬─▶ tables (what changed since the last one) ─┬─▶ text
//!         │                       │                                             └─▶ HTML page
//!         └───────────────────────┴─▶ Prometheus metrics
//! ```
//!
//! A failure to write is logged and otherwise ignored: the tracker goes on without statistics.
//!
//! Samples and Prometheus metrics are [`aquatic_tracker::metrics`]'s; what people see is here.
//!
//! | module | contents |
//! |---|---|
//! | [`tables`] | what people get to see, in words and figures |
//! | [`text`], [`html`] | the two ways in which they see it |

mod html;
mod tables;
mod text;

use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, SystemTime};

use anyhow::anyhow;
use aquatic_daemon::clock::{Clock, wall_time};
use aquatic_daemon::heartbeat;
use aquatic_daemon::replace_file::replace;
use aquatic_daemon::supervisor::Supervisor;

use crate::config::StatisticsConfig;
use crate::counters::{Udp, WorkerCounters};
use aquatic_tracker::launch::Counted;
use aquatic_tracker::metrics::PrometheusMetrics;
use aquatic_tracker::metrics::report::ShardReport;

use tables::Period;

type Sample = aquatic_tracker::metrics::Sample<Udp>;

/// Starts what publishes statistics every `interval`. A Prometheus endpoint must be running
/// already.
///
/// # Errors
/// If the system has no room for a thread. What cannot be written later is logged.
pub fn start(
    supervisor: &Supervisor,
    config: StatisticsConfig,
    Counted { workers, reports }: Counted<Udp>,
) -> anyhow::Result<()> {
    let stdout = match config.print_to_stdout {
        true => Some(Stdout::start(supervisor)?),
        false => None,
    };
    supervisor.spawn("statistics", move || {
        run(
            Outputs::new(&config, stdout, workers.len()),
            &workers,
            &reports,
        )
    })
}

fn run(
    mut outputs: Outputs<'_>,
    workers: &[Arc<WorkerCounters>],
    reports: &[Arc<ShardReport>],
) -> ! {
    let config = outputs.config;
    if !(config.print_to_stdout
        || config.write_html_to_file
        || config.metrics.run_prometheus_endpoint)
    {
        loop {
            heartbeat::sleep(Duration::MAX);
        }
    }
    let clock = Clock::start();
    let mut previous = Sample::take(clock.elapsed(), workers, reports);
    loop {
        heartbeat::sleep(Duration::from_secs(config.metrics.interval));
        let current = Sample::take(clock.elapsed(), workers, reports);
        outputs.publish(&previous, &current, wall_time(), workers);
        previous = current;
    }
}

/// Where statistics go.
struct Outputs<'a> {
    config: &'a StatisticsConfig,
    prometheus: Option<PrometheusMetrics<Udp>>,
    stdout: Option<Stdout>,
    html_failure: Failure,
}

impl<'a> Outputs<'a> {
    fn new(config: &'a StatisticsConfig, stdout: Option<Stdout>, workers: usize) -> Self {
        let prometheus = || PrometheusMetrics::new(workers);
        Self {
            config,
            prometheus: config.metrics.run_prometheus_endpoint.then(prometheus),
            stdout,
            html_failure: Failure::default(),
        }
    }

    fn publish(
        &mut self,
        previous: &Sample,
        current: &Sample,
        wall_time: SystemTime,
        workers: &[Arc<WorkerCounters>],
    ) {
        if let Some(prometheus) = &mut self.prometheus {
            prometheus.update(workers, current);
        }
        let config = self.config;
        if !(config.print_to_stdout || config.write_html_to_file) {
            return;
        }
        let period = Period::between(previous, current, wall_time);
        let tables = tables::tables(previous, current);
        if let Some(stdout) = &mut self.stdout {
            stdout.print(text::render(&period, &tables));
        }
        if config.write_html_to_file {
            let page = html::render(&period, &tables, config.metrics.interval);
            let result = heartbeat::outside(|| replace(&config.html_file_path, page.as_bytes()));
            self.html_failure
                .note("cannot write the statistics page", result);
        }
    }
}

/// The way to standard output, which may be a pipe that nobody reads. So a thread of its own waits
/// for it, and metrics and page go on meanwhile.
struct Stdout {
    texts: SyncSender<String>,
    queue_failure: Failure,
}

impl Stdout {
    fn start(supervisor: &Supervisor) -> anyhow::Result<Self> {
        let (texts, waiting) = sync_channel(TEXTS_WAITING_MAX);
        supervisor.spawn("stdout", move || print_all(&waiting))?;
        Ok(Self {
            texts,
            queue_failure: Failure::default(),
        })
    }

    /// Prints soon, or not at all if earlier texts still wait.
    fn print(&mut self, text: String) {
        let sent = self.texts.try_send(text);
        let result = sent.map_err(|_| anyhow!("standard output is not read"));
        self.queue_failure.note(NOT_PRINTED, result);
    }
}

/// Older statistics are of no use to a reader that is late.
const TEXTS_WAITING_MAX: usize = 1;

const NOT_PRINTED: &str = "cannot print statistics";

/// Prints what comes, as long as there is somebody whom it comes from.
fn print_all(texts: &Receiver<String>) -> anyhow::Result<()> {
    let mut failure = Failure::default();
    loop {
        heartbeat::beat();
        match texts.recv_timeout(heartbeat::INTERVAL) {
            Ok(text) => failure.note(NOT_PRINTED, heartbeat::outside(|| print(&text))),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

/// Unlike `println!`, this does not panic when nobody reads any more.
fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

/// Why something that is tried every few seconds does not work, so that the log tells it once.
#[derive(Debug, Default)]
struct Failure(Option<String>);

impl Failure {
    /// Logs a failure when it begins and when it becomes another one, and when it is over.
    fn note(&mut self, what: &str, result: anyhow::Result<()>) {
        let failure = result.err().map(|error| format!("{error:#}"));
        if self.is_news(failure.as_ref()) {
            match &failure {
                Some(failure) => log::error!("{what}: {failure}"),
                None => log::info!("{what}: recovered"),
            }
        }
        self.0 = failure;
    }

    fn is_news(&self, failure: Option<&String>) -> bool {
        self.0.as_ref() != failure
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use aquatic_types::IpFamily;

    use crate::counters::RequestKind;

    use super::*;

    #[test]
    fn a_failure_is_told_once() {
        let mut failure = Failure::default();
        let (no_space, no_folder) = ("no space".to_owned(), "no folder".to_owned());
        assert!(!failure.is_news(None));
        assert!(failure.is_news(Some(&no_space)));
        failure.note("test", Err(anyhow::anyhow!("no space")));
        assert!(!failure.is_news(Some(&no_space)));
        assert!(failure.is_news(Some(&no_folder)));
        assert!(failure.is_news(None));
        failure.note("test", Ok(()));
        assert!(failure.is_news(Some(&no_space)));
    }

    #[test]
    fn the_page_is_written_where_the_configuration_says() {
        let folder = tempfile::tempdir().unwrap();
        let config = StatisticsConfig {
            write_html_to_file: true,
            html_file_path: folder.path().join("tmp/statistics.html"),
            ..StatisticsConfig::default()
        };
        let worker = Arc::new(WorkerCounters::default());
        let workers = [Arc::clone(&worker)];
        let previous = Sample::take(Duration::ZERO, &workers, &[]);
        worker
            .traffic(IpFamily::V4)
            .requests(RequestKind::Announce)
            .add(1_234);
        let current = Sample::take(Duration::from_secs(1), &workers, &[]);
        Outputs::new(&config, None, 1).publish(
            &previous,
            &current,
            SystemTime::UNIX_EPOCH,
            &workers,
        );
        let page = fs::read_to_string(&config.html_file_path).unwrap();
        assert!(page.contains("1,234.0"), "{page}");
    }
}

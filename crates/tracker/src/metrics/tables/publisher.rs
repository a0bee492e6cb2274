//! Writes tables, every few seconds: to standard output, and into a file of HTML.
//!
//! A failure to write is logged and otherwise ignored: the tracker goes on without statistics.

use std::io::{self, Write as _};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use anyhow::anyhow;
use aquatic_daemon::heartbeat;
use aquatic_daemon::live::LiveSettings;
use aquatic_daemon::replace_file::replace;
use aquatic_daemon::supervisor::Supervisor;

use super::{Period, html, tables, text};
use crate::config::TablesConfig;
use crate::metrics::figures::Figures;
use crate::metrics::figures::collector::{Moment, SharedCollector};

/// Where tables go.
pub(crate) struct Publisher {
    config: TablesConfig,
    stdout: Option<Stdout>,
    html_failure: Failure,
}

impl Publisher {
    /// With a thread for standard output, if something is printed.
    ///
    /// # Errors
    /// If the system has no room for a thread.
    pub(crate) fn start(supervisor: &Supervisor, config: &TablesConfig) -> anyhow::Result<Self> {
        let stdout = match config.print_to_stdout {
            true => Some(Stdout::start(supervisor)?),
            false => None,
        };
        Ok(Self {
            config: config.clone(),
            stdout,
            html_failure: Failure::default(),
        })
    }

    /// Publishes for ever, at this interval. What cannot be written is logged.
    pub(crate) fn run(
        mut self,
        collector: &SharedCollector,
        interval: &LiveSettings<Duration>,
    ) -> ! {
        let mut earlier: Moment = collector.moment();
        loop {
            interval.sleep();
            let moment = collector.moment();
            let (before, now) = (earlier.figures(), collector.between(&earlier, &moment));
            self.publish(&before, &now, interval.get());
            earlier = moment;
        }
    }

    fn publish(&mut self, earlier: &Figures, current: &Figures, interval: Duration) {
        let period = Period::between(earlier, current);
        let tables = tables(earlier, current);
        if let Some(stdout) = &mut self.stdout {
            stdout.print(text::render(&period, &tables));
        }
        let config = &self.config;
        if config.write_html_to_file {
            let page = html::render(&period, &tables, interval.as_secs());
            let path = &config.html_file_path;
            let result = heartbeat::outside(|| replace(path, page.as_bytes()));
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

    use super::*;
    use crate::metrics::figures::collector::tests::{busy_figures, figures};

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
        let config = TablesConfig {
            write_html_to_file: true,
            html_file_path: folder.path().join("tmp/statistics.html"),
            ..TablesConfig::default()
        };
        let mut publisher = Publisher {
            config: config.clone(),
            stdout: None,
            html_failure: Failure::default(),
        };
        publisher.publish(&figures(), &busy_figures(1), Duration::from_secs(5));
        let page = fs::read_to_string(&config.html_file_path).unwrap();
        assert!(page.contains("500.0"), "{page}");
    }
}

//! How far a run has come: one line on standard error, rewritten each second, if that is a
//! terminal.
//!
//! Once a second, between two rounds, each worker copies its counts to a thread that prints. All
//! that a round costs otherwise is a comparison with the time of the next copy, which never comes
//! if nobody looks: a run whose standard error is a file or a pipe makes no copies, so nothing of
//! this is in what scripts measure.
//!
//! A line is of the time of the copies in it, and is printed when the copies of all workers are
//! there. A line of the printing thread's own time would count answers of a moment at which the
//! copies were made up to a second earlier, so its first rate could be that of an empty copy.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::ops::Range;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use aquatic_daemon::clock::Clock;

use crate::core::config::RunConfig;
use crate::core::report::{ratio, to_f64};
use crate::core::tally::KindTally;

const INTERVAL_MICROS: u64 = 1_000_000;

/// A worker that has not sent its copy by then is not waited for: it may be busy, or at its end.
const OVERDUE_MICROS: u64 = INTERVAL_MICROS * 3 / 2;

/// Less than this of the measured time makes no rate.
const MEASURED_MICROS_MIN: u64 = INTERVAL_MICROS / 2;

/// Copies that may wait to be printed. A worker drops what finds no room: its next copy has it all.
const COPIES_MAX: usize = 1_024;

/// Puts the cursor at the start of its line, and clears what is right of it.
const START_OF_LINE: &str = "\r\x1b[K";

/// What workers tell the thread that prints.
enum Message {
    /// The counts of a worker at a time in microseconds.
    Counts(usize, u64, Box<KindTally>),
    IsOver,
}

/// Shows the progress of a run until this is dropped, which clears the line.
#[derive(Debug)]
pub struct Progress {
    start_micros: u64,
    printer: Option<(SyncSender<Message>, JoinHandle<()>)>,
}

/// A worker's way to show how far it has come. The default shows nothing.
#[derive(Clone, Debug)]
pub struct Reporter {
    next_micros: u64,
    worker: usize,
    sender: Option<SyncSender<Message>>,
}

impl Progress {
    /// Shows how a run goes whose requests are measured within `window_micros`, if somebody sits at
    /// a terminal and wants to see it.
    #[must_use]
    pub fn start(config: &RunConfig, clock: Clock, window_micros: Range<u64>) -> Self {
        let start_micros = clock.micros();
        if !config.show_progress || !io::stderr().is_terminal() {
            return Self {
                start_micros,
                printer: None,
            };
        }
        let (sender, receiver) = sync_channel(COPIES_MAX);
        let mut printer = Printer::new(config.workers, start_micros, window_micros);
        let thread = thread::Builder::new().name("progress".to_owned());
        let thread = thread.spawn(move || printer.run(clock, &receiver));
        // A run without a line is better than none.
        let printer = thread.ok().map(|thread| (sender, thread));
        Self {
            start_micros,
            printer,
        }
    }

    /// For the worker of this number.
    #[must_use]
    pub fn reporter(&self, worker: usize) -> Reporter {
        match &self.printer {
            None => Reporter::default(),
            Some((sender, _)) => Reporter {
                next_micros: self.start_micros + INTERVAL_MICROS,
                worker,
                sender: Some(sender.clone()),
            },
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((sender, thread)) = self.printer.take()
            && sender.send(Message::IsOver).is_ok()
        {
            // A printer that has panicked has nothing left to clear.
            let _ = thread.join();
        }
    }
}

impl Default for Reporter {
    fn default() -> Self {
        Self {
            next_micros: u64::MAX,
            worker: 0,
            sender: None,
        }
    }
}

impl Reporter {
    /// Whether it is time to send a copy of the counts.
    #[must_use]
    pub fn is_due(&self, now_micros: u64) -> bool {
        now_micros >= self.next_micros
    }

    /// Sends a copy of the counts of all kinds of requests.
    pub fn send(&mut self, now_micros: u64, counts: KindTally) {
        // All workers keep to the same seconds, so the copies of one line are of one time.
        let missed = now_micros.saturating_sub(self.next_micros) / INTERVAL_MICROS;
        self.next_micros += (1 + missed) * INTERVAL_MICROS;
        if let Some(sender) = &self.sender {
            let _ = sender.try_send(Message::Counts(self.worker, now_micros, Box::new(counts)));
        }
    }
}

/// What the printing thread knows.
struct Printer {
    window_micros: Range<u64>,
    start_micros: u64,
    /// The last copy of each worker.
    counts: Vec<KindTally>,
    /// Whether the copy has come since the last line.
    has_come: Vec<bool>,
    /// When the last line was printed.
    printed_micros: u64,
    /// The time of the last rate, and the answers until then.
    shown: (u64, u64),
}

impl Printer {
    fn new(workers: usize, start_micros: u64, window_micros: Range<u64>) -> Self {
        Self {
            window_micros,
            start_micros,
            counts: (0..workers).map(|_| KindTally::default()).collect(),
            has_come: vec![false; workers],
            printed_micros: start_micros,
            shown: (start_micros, 0),
        }
    }

    fn run(&mut self, clock: Clock, receiver: &Receiver<Message>) {
        loop {
            let overdue_micros = self.printed_micros + OVERDUE_MICROS;
            let wait_micros = overdue_micros.saturating_sub(clock.micros());
            let line = match receiver.recv_timeout(Duration::from_micros(wait_micros)) {
                Ok(Message::Counts(worker, micros, counts)) => self.take(worker, micros, *counts),
                Err(RecvTimeoutError::Timeout) => Some(self.print(clock.micros())),
                Ok(Message::IsOver) | Err(RecvTimeoutError::Disconnected) => {
                    show(START_OF_LINE);
                    return;
                }
            };
            if let Some(line) = line {
                show(&format!("{START_OF_LINE}{line}"));
            }
        }
    }

    /// Takes a worker's copy, and gives the line if it is the last copy that was missing.
    fn take(&mut self, worker: usize, now_micros: u64, counts: KindTally) -> Option<String> {
        *self.counts.get_mut(worker)? = counts;
        *self.has_come.get_mut(worker)? = true;
        self.has_come
            .iter()
            .all(|has_come| *has_come)
            .then(|| self.print(now_micros))
    }

    /// The line of this moment, after which all copies are missing again.
    fn print(&mut self, now_micros: u64) -> String {
        self.has_come.fill(false);
        self.printed_micros = now_micros;
        self.line(now_micros)
    }

    /// The line of this moment. The rate is that since the last line; all else is so far.
    fn line(&mut self, now_micros: u64) -> String {
        let Range { start, end } = self.window_micros;
        let seconds = |micros: u64| micros / 1_000_000;
        let measured_micros = now_micros.saturating_sub(start.max(self.start_micros));
        if measured_micros < MEASURED_MICROS_MIN {
            let done = now_micros.min(start).saturating_sub(self.start_micros);
            let done = seconds(done);
            let all = seconds(start - self.start_micros.min(start));
            return format!("warming up: {done} of {all} s");
        }
        let mut sum = KindTally::default();
        for counts in &self.counts {
            sum.add(counts);
        }
        let (shown_micros, shown_answers) = self.shown;
        let since_micros = now_micros.saturating_sub(shown_micros.max(start));
        let answers = sum.received_in_window.saturating_sub(shown_answers);
        self.shown = (now_micros, sum.received_in_window);
        let rate = ratio(to_f64(answers), to_f64(since_micros) / 1e6);
        let done = seconds(measured_micros.min(end - start.min(end)));
        let mut line = format!("{done} ");
        if end < u64::MAX {
            let _ = write!(line, "of {} ", seconds(end - start));
        }
        let latency = |quantile| to_f64(sum.latency_micros.value_at_quantile(quantile)) / 1e3;
        let _ = write!(
            line,
            "s: {rate:.0} answers/s, {} lost, p50 {:.2} ms, p99 {:.2} ms",
            sum.lost,
            latency(0.5),
            latency(0.99)
        );
        line
    }
}

/// A terminal that has gone away is no reason to end the run.
fn show(text: &str) {
    let mut stderr = io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes());
    let _ = stderr.flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printer(window_micros: Range<u64>, answers: u64) -> Printer {
        let mut counts = KindTally {
            received_in_window: answers,
            lost: 3,
            ..KindTally::default()
        };
        for latency in 1..=100 {
            counts.latency_micros.record(latency * 10).unwrap();
        }
        Printer {
            counts: vec![counts.clone(), counts],
            ..Printer::new(2, 1_000_000, window_micros)
        }
    }

    /// A worker's copy with so many answers.
    fn copy(answers: u64) -> KindTally {
        KindTally {
            received_in_window: answers,
            ..KindTally::default()
        }
    }

    #[test]
    fn a_line_waits_for_the_copies_of_all_workers() {
        let mut printer = Printer::new(2, 1_000_000, 2_000_000..4_000_000);
        assert_eq!(printer.take(0, 2_000_100, copy(0)), None);
        // At the start of the window there is no rate yet.
        let line = printer.take(1, 2_000_200, copy(1)).unwrap();
        assert_eq!(line, "warming up: 1 of 1 s");
        assert_eq!(printer.take(1, 3_000_000, copy(700)), None);
        assert_eq!(printer.take(1, 3_000_000, copy(800)), None);
        let line = printer.take(0, 3_000_000, copy(1_000)).unwrap();
        assert!(line.starts_with("1 of 2 s: 1800 answers/s"), "{line}");
        assert_eq!(printer.take(7, 3_000_000, copy(1)), None, "no such worker");
    }

    #[test]
    fn workers_keep_to_the_seconds_of_the_start() {
        let (sender, receiver) = sync_channel(COPIES_MAX);
        let progress = Progress {
            start_micros: 500,
            printer: Some((sender, thread::spawn(|| ()))),
        };
        let mut reporter = progress.reporter(0);
        for (now_micros, is_due) in [
            (1_000_499, false),
            (1_000_500, true),
            (2_000_499, false),
            // Busy for more than two seconds: one copy, and the next is due in time again.
            (4_700_000, true),
            (5_000_499, false),
            (5_000_500, true),
        ] {
            assert_eq!(reporter.is_due(now_micros), is_due, "{now_micros}");
            if is_due {
                reporter.send(now_micros, copy(1));
            }
        }
        assert_eq!(receiver.try_iter().count(), 3);
    }

    #[test]
    fn each_line_has_the_rate_since_the_last_one() {
        let mut printer = printer(6_000_000..36_000_000, 1_000);
        assert_eq!(printer.line(4_000_000), "warming up: 3 of 5 s");
        assert_eq!(
            printer.line(8_000_000),
            "2 of 30 s: 1000 answers/s, 6 lost, p50 0.50 ms, p99 0.99 ms"
        );
        printer.counts[0].received_in_window += 4_000;
        let line = printer.line(10_000_000);
        assert!(line.starts_with("4 of 30 s: 2000 answers/s"), "{line}");
        let line = printer.line(40_000_000);
        assert!(line.starts_with("30 of 30 s: 0 answers/s"), "{line}");
    }

    #[test]
    fn a_run_without_an_end_says_how_long_it_takes_so_far() {
        let line = printer(0..u64::MAX, 500).line(3_000_000);
        assert!(line.starts_with("2 s: 500 answers/s, 6 lost"), "{line}");
    }

    #[test]
    fn without_a_terminal_no_copy_is_ever_due() {
        let progress = Progress {
            start_micros: 0,
            printer: None,
        };
        let reporter = progress.reporter(0);
        assert!(!reporter.is_due(u64::MAX - 1));
    }
}

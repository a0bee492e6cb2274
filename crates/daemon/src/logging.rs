//! Log lines on standard error.
//!
//! To a terminal or a file: time, level, thread, module, message. To the journal of systemd, which
//! notes the time itself: the level as `<N>` in front, from which the journal takes the priority.
//!
//! Logging never waits: a thread of its own writes the lines. Those that it cannot get rid of are
//! lost when there are too many, and their number is logged. Whoever ends the program
//! [flushes](flush), which takes no longer than [`FLUSH_MAX`].

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::panic;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use anstream::AutoStream;
use aquatic_config::LogLevel;
use env_logger::{Builder, Target};
use log::{Level, LevelFilter};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::heartbeat;
use crate::log_queue::{LogQueue, Task};

/// How long the end of the program waits for a log that is not read.
pub const FLUSH_MAX: Duration = Duration::from_millis(300);

/// The thread that writes.
pub(crate) const THREAD: &str = "log";

/// On the way to standard error, once the log has been started.
static QUEUE: OnceLock<Arc<LogQueue>> = OnceLock::new();

/// Starts the log and sends panics there. A second call changes nothing.
pub fn init(level: LogLevel) {
    let mut builder = Builder::new();
    // Which lines are made at all is decided by `set_level`, so that it can change.
    builder.filter_level(LevelFilter::Trace);
    match start_writer() {
        Ok(queue) => builder
            .target(Target::Pipe(Box::new(Pusher(queue))))
            .write_style(AutoStream::choice(&io::stderr()).into()),
        // A program that can have no thread will not live long.
        Err(_) => builder.target(Target::Stderr),
    };
    if stderr_is_journal() {
        builder.format(|output, record| {
            let priority = journal_priority(record.level());
            let (thread, module) = (thread_name(), record.target());
            // To the journal each line is an entry of its own.
            let text = record.args().to_string();
            text.lines()
                .try_for_each(|line| writeln!(output, "<{priority}>[{thread}] {module}: {line}"))
        });
    } else {
        builder.format(|output, record| {
            let time = output.timestamp_millis();
            let level = record.level();
            let style = output.default_level_style(level);
            let (thread, module, text) = (thread_name(), record.target(), record.args());
            writeln!(
                output,
                "{time} {style}{level:<5}{style:#} [{thread}] {module}: {text}"
            )
        });
    }
    if builder.try_init().is_ok() {
        set_level(level);
        panic::set_hook(Box::new(|panic| {
            let mut reason = format!("thread {} {panic}", thread_name());
            let backtrace = Backtrace::capture();
            if backtrace.status() == BacktraceStatus::Captured {
                reason += &format!("\n{backtrace}");
            }
            report(&reason);
        }));
    }
}

/// From now on, so much is logged.
pub fn set_level(level: LogLevel) {
    log::set_max_level(level_filter(level));
}

/// Says why the program ends: in the log if that shows errors, else on standard error, so that it
/// is never silent. Waits until that has been written, at most [`FLUSH_MAX`]; if it has not,
/// because the log is slow or hangs, it is written past the log, where there is room for it.
pub fn report(reason: &str) {
    if log::log_enabled!(Level::Error) {
        log::error!("{reason}");
    } else {
        tell(reason);
    }
    if !flush() {
        write_past_queue(&format!("{reason}\n"));
    }
}

/// Writes a line to standard error whatever the log level: by way of the log once that has been
/// started, so that nobody waits for a reader. Without a reader, the line is lost. (`eprintln!`
/// would wait for the one, and panic without the other.)
pub fn tell(line: &str) {
    let line = format!("{line}\n");
    match QUEUE.get() {
        Some(queue) => queue.push(line.as_bytes()),
        None => drop(io::stderr().write_all(line.as_bytes())),
    }
}

/// Writes to standard error itself, for when the thread of the log, or one that logs, hangs. If
/// there is no room at once, in a pipe that nobody reads, it is lost.
pub(crate) fn write_past_queue(text: &str) {
    let has_room = |output: &File| {
        let mut output = [PollFd::new(output.as_fd(), PollFlags::POLLOUT)];
        poll(&mut output, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    };
    // Not by way of `io::stderr()`, whose lock may be held.
    let output = io::stderr().as_fd().try_clone_to_owned().map(File::from);
    if let Ok(mut output) = output
        && has_room(&output)
    {
        // A pipe with room has it for so few bytes (PIPE_BUF).
        let _ = output.write_all(text.as_bytes());
    }
}

/// Waits until everything that has been logged is written, at most [`FLUSH_MAX`]. Returns whether
/// it is.
pub fn flush() -> bool {
    QUEUE.get().is_none_or(|queue| queue.flush(FLUSH_MAX))
}

/// Has the thread that writes do something, soon. Without such a thread nothing is done.
pub(crate) fn send_writer_on(task: Task) {
    if let Some(queue) = QUEUE.get() {
        queue.send_on(task);
    }
}

/// Starts the thread that writes, if there is none.
fn start_writer() -> io::Result<Arc<LogQueue>> {
    if let Some(queue) = QUEUE.get() {
        return Ok(Arc::clone(queue));
    }
    // A file of our own: who writes to `io::stderr()` while it is blocked, blocks all who do.
    let output = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let queue = Arc::new(LogQueue::default());
    let writing = Arc::clone(&queue);
    let heart = heartbeat::Unborn::new(THREAD);
    thread::Builder::new()
        .name(THREAD.to_owned())
        .spawn(move || {
            heart.begin();
            writing.write_to(output, |lost| {
                log::error!("standard error is not read: {lost} lines of the log were lost so far");
            })
        })?;
    Ok(Arc::clone(QUEUE.get_or_init(|| queue)))
}

/// Takes each line from the logger at once.
struct Pusher(Arc<LogQueue>);

impl Write for Pusher {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Tells the operator what should be changed: in the log if that shows warnings, else on standard
/// error. For what must be seen once, whatever the log level.
pub fn advise(advice: &str) {
    if log::log_enabled!(Level::Warn) {
        log::warn!("{advice}");
    } else {
        tell(&format!("warning: {advice}"));
    }
}

fn level_filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Off => LevelFilter::Off,
        LogLevel::Error => LevelFilter::Error,
        LogLevel::Warn => LevelFilter::Warn,
        LogLevel::Info => LevelFilter::Info,
        LogLevel::Debug => LevelFilter::Debug,
        LogLevel::Trace => LevelFilter::Trace,
    }
}

/// Priorities of syslog(3).
fn journal_priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

fn thread_name() -> String {
    thread::current().name().unwrap_or("unnamed").to_owned()
}

/// Whether standard error goes to the journal.
///
/// A program started by a service inherits the variable even if its own output goes elsewhere;
/// therefore systemd.exec(5) tells to compare device and inode.
fn stderr_is_journal() -> bool {
    let Ok(journal) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    let metadata = io::stderr()
        .as_fd()
        .try_clone_to_owned()
        .and_then(|stderr| File::from(stderr).metadata());
    metadata.is_ok_and(|file| journal == format!("{}:{}", file.dev(), file.ino()))
}

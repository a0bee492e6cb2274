//! The way of log lines to wherever standard error goes.
//!
//! A pipe that nobody reads blocks whoever writes to it. So only one thread writes, and all others
//! leave their lines in a queue. Where there is no room for a line it is lost, and counted: a
//! tracker that serves is worth more than a log that is complete.

use std::io::{ErrorKind, Write};
use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::heartbeat;

/// Something that the writer is to do in between.
pub(crate) type Task = Box<dyn FnOnce() + Send>;

/// What may wait to be written: some 8,000 lines. The writer holds as much once more at most.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// A buffer of the writer that is larger than this is given back to the system.
const BATCH_BYTES_KEPT: usize = 16 * 1_024;

/// How long the writer waits if it gets a non-blocking standard error, which is full.
const RETRY_INTERVAL: Duration = Duration::from_millis(10);

/// Lines between those who log and the one who writes.
#[derive(Default)]
pub(crate) struct LogQueue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Whole lines.
    waiting: Vec<u8>,
    tasks: Vec<Task>,
    is_writing: bool,
    /// Lines for which there was no room, since the start.
    lost: u64,
}

impl LogQueue {
    /// Leaves a line. Never waits for the writer.
    pub(crate) fn push(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.waiting.len() + line.len() > WAITING_BYTES_MAX {
            state.lost += 1;
        } else {
            state.waiting.extend_from_slice(line);
            self.changed.notify_all();
        }
    }

    /// Has the writer do something, soon.
    pub(crate) fn send_on(&self, task: Task) {
        self.lock().tasks.push(task);
        self.changed.notify_all();
    }

    /// Writes lines for ever. Errors are ignored: nobody is left to be told.
    ///
    /// When lines have been lost and there is room again, `report_lost` is called with their number
    /// since the start; it may push a line. (Should that be lost, too, it is part of the number
    /// that is reported next.)
    pub(crate) fn write_to(&self, mut output: impl Write, mut report_lost: impl FnMut(u64)) -> ! {
        let mut batch = Vec::new();
        let mut reported = 0;
        loop {
            let lost = self.take(&mut batch);
            if mem::replace(&mut reported, lost) != lost {
                // Here, since what was lost came after this batch, and before all that follows.
                report_lost(lost);
            }
            heartbeat::outside(|| write_all(&mut output, &batch));
            batch.clear();
            batch.shrink_to(BATCH_BYTES_KEPT);
            self.lock().is_writing = false;
            self.changed.notify_all();
        }
    }

    /// Waits for lines, and takes all of them. Returns how many were lost up to now.
    fn take(&self, batch: &mut Vec<u8>) -> u64 {
        loop {
            heartbeat::beat();
            let waits = |state: &mut State| state.waiting.is_empty() && state.tasks.is_empty();
            let (mut state, _) = self
                .changed
                .wait_timeout_while(self.lock(), heartbeat::INTERVAL, waits)
                .unwrap_or_else(PoisonError::into_inner);
            let tasks = mem::take(&mut state.tasks);
            if !state.waiting.is_empty() {
                mem::swap(&mut state.waiting, batch);
                state.is_writing = true;
            }
            let (has_lines, lost) = (state.is_writing, state.lost);
            drop(state);
            for task in tasks {
                task();
            }
            if has_lines {
                return lost;
            }
        }
    }

    /// Waits until everything has been written, but no longer than `limit`. Returns whether it has.
    pub(crate) fn flush(&self, limit: Duration) -> bool {
        let is_busy = |state: &mut State| state.is_writing || !state.waiting.is_empty();
        let waited = self.changed.wait_timeout_while(self.lock(), limit, is_busy);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !is_busy(&mut state)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write_all(output: &mut impl Write, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match output.write(bytes) {
            Ok(0) => return,
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Another program that shares our terminal may have made it so.
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY_INTERVAL),
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, BufRead, BufReader, PipeReader, pipe};
    use std::sync::Arc;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    /// A queue whose writer writes to a pipe, which has room for 64 KiB or so.
    fn start() -> (Arc<LogQueue>, BufReader<PipeReader>) {
        let queue = Arc::new(LogQueue::default());
        let (reader, writer) = pipe().unwrap();
        let writing = Arc::clone(&queue);
        thread::spawn(move || {
            let reporting = Arc::clone(&writing);
            writing.write_to(writer, |lost| {
                reporting.push(format!("lost {lost}\n").as_bytes())
            });
        });
        (queue, BufReader::new(reader))
    }

    fn next(reader: &mut impl BufRead) -> io::Result<String> {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    #[test]
    fn lines_arrive_in_order() {
        let (queue, mut reader) = start();
        for number in 0..1_000 {
            queue.push(format!("line {number}\n").as_bytes());
        }
        assert!(queue.flush(LONG));
        for number in 0..1_000 {
            assert_eq!(next(&mut reader).unwrap(), format!("line {number}"));
        }
    }

    #[test]
    fn lines_without_room_are_lost_and_counted_where_they_are_missing() {
        let (queue, mut reader) = start();
        // Once the writer has taken this, it waits for the reader, since no pipe has room for it:
        // it finds all losses together, and not some of them before the others.
        let long = "x".repeat(WAITING_BYTES_MAX / 2);
        queue.push(format!("{long}\n").as_bytes());
        while !queue.lock().waiting.is_empty() {
            thread::yield_now();
        }
        let line = |number: u64| format!("{number} {}\n", "x".repeat(1_000));
        let mut pushed = 0;
        while queue.lock().lost < 100 {
            queue.push(line(pushed).as_bytes());
            pushed += 1;
        }
        assert!(!queue.flush(Duration::from_millis(1)));
        assert!(next(&mut reader).unwrap() == long);
        let mut arrived = 0;
        let report = loop {
            let line = next(&mut reader).unwrap();
            match line.starts_with("lost") {
                true => break line,
                false => arrived += 1,
            }
        };
        queue.push(b"after\n");
        assert_eq!(next(&mut reader).unwrap(), "after");
        let lost: u64 = report.strip_prefix("lost ").unwrap().parse().unwrap();
        assert_eq!((lost, arrived + lost), (100, pushed));
    }

    #[test]
    fn a_reader_that_has_gone_is_no_obstacle() {
        let (queue, reader) = start();
        drop(reader);
        for _ in 0..10_000 {
            queue.push(&[b'x'; 1_000]);
        }
        assert!(queue.flush(LONG));
        assert!(queue.lock().waiting.is_empty());
    }
}

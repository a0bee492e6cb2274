//! What is logged. There is one log for the whole process, and so one test at a time.

use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use log::{LevelFilter, Log, Metadata, Record};

/// Held by the test that logs. Where each test has its own process, nobody waits for it.
static TURN: Mutex<()> = Mutex::new(());

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// What has been logged since a test began. It has to hold this, and first of all that it has: what
/// it starts may log until it is dropped.
#[must_use]
pub(crate) struct Lines {
    _turn: MutexGuard<'static, ()>,
}

impl Lines {
    /// Waits until no other test logs any more.
    pub(crate) fn begin() -> Self {
        static ONCE: Once = Once::new();
        // One that has failed has had its turn, too.
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        ONCE.call_once(|| {
            log::set_logger(&Logger).unwrap();
            log::set_max_level(LevelFilter::Info);
        });
        lines().clear();
        Self { _turn: turn }
    }

    /// That this test, or one that would be disturbed by it, holds them.
    #[track_caller]
    pub(crate) fn assert_begun() {
        let is_held = TURN.try_lock().is_err();
        assert!(is_held, "a test that logs begins with `Lines::begin`");
    }

    /// Those in which this is.
    pub(crate) fn with(&self, part: &str) -> Vec<String> {
        let lines = lines();
        let lines = lines.iter().filter(|line| line.contains(part));
        lines.cloned().collect()
    }
}

fn lines() -> MutexGuard<'static, Vec<String>> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Logger;

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Info
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let line = format!("{}: {}", record.level(), record.args());
            println!("{line}");
            lines().push(line);
        }
    }

    fn flush(&self) {}
}

#[test]
fn a_test_sees_no_line_of_another() {
    let first = Lines::begin();
    log::warn!("a line of the first");
    assert_eq!(first.with("of the first"), ["WARN: a line of the first"]);
    let second = std::thread::spawn(|| {
        let second = Lines::begin();
        assert_eq!(second.with("of the first"), [] as [&str; 0]);
        log::info!("a line of the second");
        assert_eq!(second.with("of the second"), ["INFO: a line of the second"]);
    });
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert!(!second.is_finished(), "it waits for its turn");
    log::info!("a last one of the first");
    assert_eq!(first.with("of the first").len(), 2);
    drop(first);
    second.join().unwrap();
}

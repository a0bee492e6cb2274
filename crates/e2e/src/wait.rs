//! Waiting for a condition, never for a time.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Pause between two looks. Short next to what is waited for, long next to a system call.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Looks until `check` finds what it is looking for, and gives that back.
///
/// # Errors
/// What `check` fails with, at once; or, when `limit` has passed, that `what` did not come.
#[expect(
    clippy::disallowed_methods,
    reason = "these tests drive other people's programs, which live in real time"
)]
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut check: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = check()? {
            return Ok(found);
        }
        if start.elapsed() > limit {
            bail!("waited {} s in vain: {what}", limit.as_secs());
        }
        thread::sleep(POLL_INTERVAL);
    }
}

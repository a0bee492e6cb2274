//! Waiting for a condition, never for a time; and looking, for some time, whether it stays so.

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

/// Looks again and again, for so long, and at the end of it: what `check` looks at has to stay as
/// it is.
///
/// # Errors
/// What `check` fails with, at once.
#[expect(
    clippy::disallowed_methods,
    reason = "these tests drive other people's programs, which live in real time"
)]
pub fn hold(period: Duration, mut check: impl FnMut() -> Result<()>) -> Result<()> {
    let start = Instant::now();
    loop {
        let is_over = start.elapsed() > period;
        check()?;
        if is_over {
            return Ok(());
        }
        thread::sleep(POLL_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use anyhow::ensure;

    use super::*;

    #[test]
    fn what_holds_is_looked_at_to_the_end() {
        let period = 4 * POLL_INTERVAL;
        let mut looks = 0;
        let count = || {
            looks += 1;
            Ok(())
        };
        hold(period, count).unwrap();
        assert!(looks > 1, "{looks}");
        hold(Duration::ZERO, || bail!("it is looked at once, too")).unwrap_err();
    }

    #[test]
    fn what_holds_no_longer_is_told_at_once() {
        let mut looks = 0;
        let changed = hold(Duration::from_secs(3_600), || {
            looks += 1;
            ensure!(looks < 3, "it has changed");
            Ok(())
        });
        assert_eq!(changed.unwrap_err().to_string(), "it has changed");
        assert_eq!(looks, 3);
    }
}

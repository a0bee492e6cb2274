//! Loading and reloading the file of keys, as that of the [access list](crate::access_list), and
//! telling the time to those who look whether a key has ended, or a peer under it has been silent.
//!
//! | module | contents |
//! |---|---|
//! | `change` | what an operator asks to be changed, from JSON |
//! | `editor` | the keys in use and their file, one change after the other |
//! | `kept` | the keys where they are in a bucket |
//! | `pages` | both at the operator's endpoint |

mod change;
mod editor;
mod kept;
mod pages;

use std::io::BufReader;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use aquatic_config::{Checks, KeysConfig};
use aquatic_keys::{ForgettingCursor, KeyList, KeyMode, Replaced, SharedKeys};
use aquatic_types::Seconds;
use metrics::{Unit, describe_gauge};

use crate::clock::{Clock, Now, unix_time};
use crate::edited_list::wait_while;
use crate::heartbeat;
use crate::kept_gauges;
use crate::load_metrics::LoadMetrics;
use crate::patient_file::PatientFile;
use crate::rewritten_file::Version;
use crate::special_file;
use crate::supervisor::Supervisor;

pub use editor::KeysEditor;
pub use pages::serve;

/// Such a file is valid, and keys may come at the operator's endpoint, but one that was truncated
/// by mistake is empty, too.
const EMPTY: &str = "no key, so that nobody is served";

const ENTRIES: &str = "aquatic_keys_entries";

const METRICS: LoadMetrics = LoadMetrics {
    what: "the file of keys",
    successful: "aquatic_keys_last_reload_successful",
    timestamp_seconds: "aquatic_keys_last_reload_timestamp_seconds",
};

/// How often the time is told: so late does a key end.
const TICK: Duration = Duration::from_secs(1);

/// Keys and peers of keys that are looked at in each tick: some milliseconds. With five peers for
/// each of 100,000 keys, all have been looked at in 12 seconds.
const LOOKS_PER_TICK: usize = 50_000;

/// The file that is read again at a reload, if there is one.
#[must_use]
pub fn files(config: &KeysConfig) -> Vec<PathBuf> {
    match config.mode {
        KeyMode::Off => Vec::new(),
        KeyMode::Require => vec![config.path.clone()],
    }
}

/// Reads the keys as [`KeysEditor::load`] does, and reports why they cannot be used.
pub fn check(config: &KeysConfig, checks: &mut Checks) {
    const KEY: &str = "keys.path";
    let is_used = config.mode != KeyMode::Off;
    if is_used && !special_file::is_passed_over(&config.path, KEY, checks) {
        let list = checks.require_ok(read(config), KEY);
        checks.advise(
            !list.is_some_and(|(list, _)| list.is_empty()),
            KEY,
            format!("has {EMPTY} (`keys.mode` is require)"),
        );
    }
}

/// Advises against settings that are hardly meant.
pub fn advise(config: &KeysConfig, checks: &mut Checks) {
    checks.advise(
        config.mode != KeyMode::Off || config.path == KeysConfig::default().path,
        "keys.path",
        "is not used, because `keys.mode` is off: clients without a key are served",
    );
}

/// Starts the thread that tells the time to all who hold these keys, if there are any, and forgets
/// peers of keys that have been silent for too long by the `clock` of the workers.
///
/// # Errors
/// If it cannot be started.
pub fn start_calendar(
    supervisor: &Supervisor,
    keys: &SharedKeys,
    clock: Clock,
) -> anyhow::Result<()> {
    if keys.mode() == KeyMode::Off {
        return Ok(());
    }
    let keys = keys.clone();
    let mut cursor = ForgettingCursor::default();
    supervisor.spawn("keys", move || {
        loop {
            tick(&keys, Now::read(clock).seconds, &mut cursor);
            heartbeat::sleep(TICK);
        }
    })
}

/// Returns how many keys and peers it has looked at.
fn tick(keys: &SharedKeys, now: Seconds, cursor: &mut ForgettingCursor) -> usize {
    tell_time(keys);
    keys.forget_silent(now, cursor, LOOKS_PER_TICK)
}

fn tell_time(keys: &SharedKeys) {
    let seconds = unix_time().as_secs();
    keys.set_unix_seconds(i64::try_from(seconds).unwrap_or(i64::MAX));
}

/// Frees a list when no worker uses it any more, in the place of the last of them.
fn free(replaced: Replaced) {
    wait_while(|| replaced.is_in_use());
    drop(replaced);
}

/// The keys, and which file they are from, if that can be told from others.
fn read(config: &KeysConfig) -> anyhow::Result<(KeyList, Option<Version>)> {
    if config.mode == KeyMode::Off {
        return Ok((KeyList::default(), None));
    }
    let path = config.path.display();
    // Before it is opened: should that take long, the log says what is waited for.
    log::info!("reading the keys {path}");
    let file = PatientFile::open(&config.path)
        .with_context(|| format!("cannot open the file of keys {path}"))?;
    let version = file.file().metadata().ok().and_then(|it| Version::of(&it));
    let list = KeyList::parse(BufReader::new(file))
        .with_context(|| format!("cannot use the file of keys {path}"))?;
    log::info!("file of keys {path} loaded: {} keys", list.len());
    if list.is_empty() {
        log::warn!("the file of keys {path} has {EMPTY}");
    }
    METRICS.succeeded();
    tell_entries(&list);
    Ok((list, version))
}

fn tell_entries(list: &KeyList) {
    describe_gauge!(ENTRIES, Unit::Count, "Keys in the file of keys");
    let entries = u32::try_from(list.len()).unwrap_or(u32::MAX);
    kept_gauges::set(ENTRIES, &[], entries.into());
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use aquatic_keys::{Announcer, KeyRefusal};

    use super::*;

    #[test]
    fn a_tick_ends_keys_and_forgets_silent_peers() {
        const KEYS: usize = 12_000;
        const PEERS: usize = 10;
        let mut file = "ended until=2001-01-31\n".to_owned();
        for key in 0..KEYS {
            writeln!(file, "{key} peers={PEERS}").unwrap();
        }
        let list = KeyList::parse(file.as_bytes()).unwrap();
        let keys = SharedKeys::new(KeyMode::Require, list);
        let mut reader = keys.reader();
        assert_eq!(reader.check(Some(b"ended")), Ok(()), "no time was told");
        for key in 0..KEYS {
            for peer in 0..PEERS {
                let announcer = Announcer {
                    now: Seconds(0),
                    age_seconds_max: Some(100),
                    peer,
                };
                let key = key.to_string();
                assert_eq!(reader.admit(Some(key.as_bytes()), announcer), Ok(()));
            }
        }
        let mut cursor = ForgettingCursor::default();
        assert_eq!(tick(&keys, Seconds(99), &mut cursor), KEYS, "nobody is due");
        let ended = reader.check(Some(b"ended"));
        assert!(matches!(ended, Err(KeyRefusal::Ended(_))), "{ended:?}");
        let mut looks = Vec::new();
        for _ in 0..4 {
            looks.push(tick(&keys, Seconds(100), &mut cursor));
        }
        assert!(looks.iter().all(|it| *it <= LOOKS_PER_TICK + PEERS));
        assert!(looks.iter().sum::<usize>() >= KEYS * PEERS, "{looks:?}");
        assert_eq!(tick(&keys, Seconds(101), &mut cursor), KEYS, "all are gone");
    }
}

//! Loading and reloading the file of info hashes.
//!
//! The file is loaded for the first time *after* privileges have been dropped. So the start and
//! every later reload open the same path in the same root directory as the same user, and a list
//! that could not be reloaded is found out at the start.
//!
//! | module | contents |
//! |---|---|
//! | `change` | what an operator asks to be changed, from JSON |
//! | `editor` | the list in use and its file, one change after the other |
//! | `kept` | the list where its entries are in a bucket |
//! | `pages` | both at the operator's endpoint |

mod change;
mod editor;
mod kept;
mod pages;

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::PathBuf;

use anyhow::Context;
use aquatic_access_list::{AccessList, AccessListMode, Replaced};
use aquatic_config::{AccessListConfig, Checks};
use metrics::{Unit, describe_gauge};

use crate::denied_networks;
use crate::edited_list::wait_while;
use crate::kept_gauges;
use crate::load_metrics::LoadMetrics;
use crate::patient_file::PatientFile;
use crate::rewritten_file::Version;
use crate::special_file;

pub use editor::AccessListEditor;
pub use pages::serve;

/// What a list of allowed torrents can be.
const EMPTY: &str = "no torrent, so that none is served";

const ENTRIES: &str = "aquatic_access_list_entries";

const METRICS: LoadMetrics = LoadMetrics {
    what: "the access list",
    successful: "aquatic_access_list_last_reload_successful",
    timestamp_seconds: "aquatic_access_list_last_reload_timestamp_seconds",
};

/// Bytes of the shortest line with an info hash.
const HASH_LINE_BYTES: usize = 41;

/// What is read from a file at once.
const BLOCK_BYTES: usize = 64 * 1_024;

/// The files that are read again at a reload.
#[must_use]
pub fn files(config: &AccessListConfig) -> Vec<PathBuf> {
    let list = match config.mode {
        AccessListMode::Off => None,
        AccessListMode::Allow | AccessListMode::Deny => Some(config.path.as_path()),
    };
    let networks = denied_networks::file(config);
    list.into_iter()
        .chain(networks)
        .map(PathBuf::from)
        .collect()
}

/// Reads the list as [`AccessListEditor::load`] does, and reports why it cannot be used.
pub fn check(config: &AccessListConfig, checks: &mut Checks) {
    const KEY: &str = "access_list.path";
    let is_used = config.mode != AccessListMode::Off;
    if is_used && !special_file::is_passed_over(&config.path, KEY, checks) {
        let list = checks.require_ok(read(config), KEY);
        checks.advise(
            !list.is_some_and(|(list, _)| serves_nothing(config, &list)),
            KEY,
            format!("names {EMPTY} (`access_list.mode` is allow)"),
        );
    }
    denied_networks::check(config, checks);
}

/// Advises against settings that are hardly meant.
pub fn advise(config: &AccessListConfig, checks: &mut Checks) {
    checks.advise(
        config.mode != AccessListMode::Off || config.path == AccessListConfig::default().path,
        "access_list.path",
        "is not used, because `access_list.mode` is off: all torrents are served",
    );
}

/// Frees a list when no worker uses it any more, in the place of the last of them.
fn free(replaced: Replaced) {
    // A worker that was asleep during the last changes holds the same table by an earlier list.
    wait_while(|| replaced.table_is_in_use());
    drop(replaced);
}

/// The list, and which file it is from, if that can be told from others.
fn read(config: &AccessListConfig) -> anyhow::Result<(AccessList, Option<Version>)> {
    if config.mode == AccessListMode::Off {
        return Ok((AccessList::default(), None));
    }
    let path = config.path.display();
    // Before it is opened: should that take long, the log says what is waited for.
    log::info!("reading the access list {path}");
    let file = PatientFile::open(&config.path)
        .with_context(|| format!("cannot open the access list {path}"))?;
    let version = file.file().metadata().ok().and_then(|it| Version::of(&it));
    let hashes_max = count_hashes_max(file.file())
        .with_context(|| format!("cannot read the access list {path}"))?;
    let list = AccessList::parse_lines(BufReader::new(file), hashes_max)
        .with_context(|| format!("cannot use the access list {path}"))?;
    log::info!("access list {path} loaded: {} info hashes", list.len());
    if serves_nothing(config, &list) {
        log::warn!("the access list {path} names {EMPTY}");
    }
    METRICS.succeeded();
    tell_entries(&list);
    Ok((list, version))
}

/// Such a list is valid, and may be filled at the operator's endpoint, but a file that was
/// truncated by mistake is one, too.
fn serves_nothing(config: &AccessListConfig, list: &AccessList) -> bool {
    config.mode == AccessListMode::Allow && list.is_empty()
}

fn tell_entries(list: &AccessList) {
    describe_gauge!(ENTRIES, Unit::Count, "Info hashes in the access list");
    let entries = u32::try_from(list.len()).unwrap_or(u32::MAX);
    kept_gauges::set(ENTRIES, &[], entries.into());
}

/// How many info hashes a file can have: one per line, as far as there is room for them, so that a
/// file of another kind asks for no more memory than a list of its size. 0 if it can be read only
/// once. It is read from its beginning then.
fn count_hashes_max(mut file: &File) -> io::Result<usize> {
    if !file.metadata()?.is_file() {
        return Ok(0);
    }
    let (mut lines, mut bytes) = (0, 0);
    let mut buffer = [0; BLOCK_BYTES];
    loop {
        let size = match file.read(&mut buffer) {
            Ok(0) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        let block = buffer.get(..size).unwrap_or_default();
        lines += block.iter().filter(|byte| **byte == b'\n').count();
        bytes += size;
    }
    file.rewind()?;
    // The last line may have no end.
    Ok((lines + 1).min((bytes + 1) / HASH_LINE_BYTES))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[track_caller]
    fn assert_hashes_max(content: &str, expected: usize) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content.as_bytes()).unwrap();
        file.rewind().unwrap();
        assert_eq!(count_hashes_max(&file).unwrap(), expected);
        let mut read = String::new();
        file.read_to_string(&mut read).unwrap();
        assert_eq!(read, content, "from the beginning");
    }

    #[test]
    fn a_list_is_made_for_the_hashes_that_its_file_can_have() {
        let hash = "a".repeat(40);
        let lines = format!("{hash}\n").repeat(3_000);
        assert_hashes_max("", 0);
        assert_hashes_max(&hash, 1);
        assert_hashes_max(&lines, 3_000);
        assert_hashes_max(&(lines + &hash), 3_001);
        assert_hashes_max(
            &format!("{hash} - a long name of a torrent, or so\n").repeat(100),
            101,
        );
        // No list: memory for a hash per line would be many times its size.
        assert_hashes_max(&"\n".repeat(100_000), 2_439);
    }
}

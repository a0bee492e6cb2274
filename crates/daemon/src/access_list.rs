//! Loading and reloading the file of info hashes.
//!
//! The file is loaded for the first time *after* privileges have been dropped. So the start and
//! every later reload open the same path in the same root directory as the same user, and a list
//! that could not be reloaded is found out at the start.

use std::fs::File;
use std::io::BufReader;

use anyhow::Context;
use aquatic_access_list::{AccessList, AccessListMode, SharedAccessList};
use aquatic_config::AccessListConfig;
use metrics::{Unit, describe_gauge, gauge};

use crate::load_metrics::LoadMetrics;

const ENTRIES: &str = "aquatic_access_list_entries";

const METRICS: LoadMetrics = LoadMetrics {
    what: "the access list",
    successful: "aquatic_access_list_last_reload_successful",
    timestamp_seconds: "aquatic_access_list_last_reload_timestamp_seconds",
};

/// Loads the list at the start of a daemon.
///
/// # Errors
/// If the file cannot be opened, or a line is not an info hash; names the file and the line.
pub fn load(config: &AccessListConfig) -> anyhow::Result<SharedAccessList> {
    Ok(SharedAccessList::new(config.mode, read(config)?))
}

/// Puts the present content of the file in the place of the list. A file that cannot be used is
/// logged as an error, and the list stays as it was.
pub fn reload(config: &AccessListConfig, shared: &SharedAccessList) {
    match read(config) {
        Ok(list) => shared.replace(list),
        Err(error) => {
            METRICS.failed();
            log::error!("the access list stays as it was: {error:#}");
        }
    }
}

fn read(config: &AccessListConfig) -> anyhow::Result<AccessList> {
    if config.mode == AccessListMode::Off {
        return Ok(AccessList::default());
    }
    let path = config.path.display();
    // Before it is opened: should that take long, the log says what is waited for.
    log::info!("reading the access list {path}");
    let file =
        File::open(&config.path).with_context(|| format!("cannot open the access list {path}"))?;
    let list = AccessList::parse(BufReader::new(file))
        .with_context(|| format!("cannot use the access list {path}"))?;
    log::info!("access list {path} loaded: {} info hashes", list.len());
    METRICS.succeeded();
    describe_gauge!(ENTRIES, Unit::Count, "Info hashes in the access list");
    gauge!(ENTRIES).set(u32::try_from(list.len()).unwrap_or(u32::MAX));
    Ok(list)
}

//! Loading and reloading the file of networks whose clients are not served.
//!
//! As with the [file of info hashes](crate::access_list), it is loaded for the first time after
//! privileges have been dropped, by the user who will reload it.

use std::io::BufReader;
use std::path::Path;

use anyhow::Context;
use aquatic_access_list::{DeniedNetworks, SharedDeniedNetworks};
use aquatic_config::{AccessListConfig, Checks};
use metrics::{Unit, describe_gauge};

use crate::kept_gauges;
use crate::load_metrics::LoadMetrics;
use crate::patient_file::PatientFile;
use crate::special_file;

const ENTRIES: &str = "aquatic_denied_networks_entries";

const METRICS: LoadMetrics = LoadMetrics {
    what: "the list of denied networks",
    successful: "aquatic_denied_networks_last_reload_successful",
    timestamp_seconds: "aquatic_denied_networks_last_reload_timestamp_seconds",
};

/// Loads the networks at the start of a daemon, if a file is named.
///
/// # Errors
/// If the file cannot be opened, or a line is not a network; names the file and the line.
pub fn load(config: &AccessListConfig) -> anyhow::Result<Option<SharedDeniedNetworks>> {
    let networks = file(config).map(read).transpose()?;
    Ok(networks.map(SharedDeniedNetworks::new))
}

/// The file that [`reload`] reads, if there is one.
#[must_use]
pub fn file(config: &AccessListConfig) -> Option<&Path> {
    let path = config.networks_deny_path.as_path();
    (!path.as_os_str().is_empty()).then_some(path)
}

/// Reads the networks as [`load`] does, and reports why they cannot be used.
pub fn check(config: &AccessListConfig, checks: &mut Checks) {
    const KEY: &str = "access_list.networks_deny_path";
    let Some(path) = file(config) else {
        return;
    };
    if !special_file::is_passed_over(path, KEY, checks) {
        checks.require_ok(read(path), KEY);
    }
}

/// Puts the present content of the file in the place of the networks. A file that cannot be used is
/// logged as an error, and the previous networks are kept.
pub fn reload(config: &AccessListConfig, shared: Option<&SharedDeniedNetworks>) {
    let (Some(path), Some(shared)) = (file(config), shared) else {
        return;
    };
    match read(path) {
        // Whoever lets go of the previous ones last frees two arrays, which takes no time.
        Ok(networks) => drop(shared.replace(networks)),
        Err(error) => {
            METRICS.failed_because(&error);
            log::error!("reload failed, keeping the previous denied networks: {error:#}");
        }
    }
}

fn read(path: &Path) -> anyhow::Result<DeniedNetworks> {
    let name = path.display();
    // Before it is opened: should that take long, the log says what is waited for.
    log::info!("reading the list of denied networks {name}");
    let file = PatientFile::open(path)
        .with_context(|| format!("cannot open the list of denied networks {name}"))?;
    let networks = DeniedNetworks::parse(BufReader::new(file))
        .with_context(|| format!("cannot use the list of denied networks {name}"))?;
    let entries = networks.entries();
    log::info!("list of denied networks {name} loaded: {entries} networks");
    METRICS.succeeded();
    describe_gauge!(ENTRIES, Unit::Count, "Networks in the list of denied ones");
    let entries = u32::try_from(entries).unwrap_or(u32::MAX);
    kept_gauges::set(ENTRIES, &[], entries.into());
    Ok(networks)
}

//! `--check-config`: what this machine makes of a configuration.

use aquatic_config::{AccessListMode, Checks, KeyMode};
use aquatic_daemon::{access_list, denied_networks, keys, privileges, replace_file};
use aquatic_tracker::config::{SnapshotPlan, too_many_workers};

use crate::backend::Chosen;
use crate::config::Config;
use crate::connection_secret;
use crate::xdp;

/// Looks at what the configuration names, as the start does, but for sockets and the endpoint,
/// which a process has once; writes nothing.
pub(crate) fn inspect_own(config: &Config, checks: &mut Checks) {
    checks.require_ok(Chosen::new(config), "network.backend");
    if let Some(reason) = too_many_workers(config.socket_workers, config.swarm_workers) {
        checks.advise(false, "socket_workers", reason);
    }
    xdp::inspect(&config.network, checks);
    inspect_connection_secret(config, checks);
    let mut files = Vec::new();
    if config.access_list.mode != AccessListMode::Off {
        files.push("access list");
    }
    if config.keys.mode != KeyMode::Off {
        files.push("keys");
    }
    if denied_networks::file(&config.access_list).is_some() {
        files.push("list of denied networks");
    }
    if config.statistics.metrics.tables.write_html_to_file {
        files.push("folder of the HTML page");
    }
    if config.scrape_exports.enable_scrape_exports {
        files.push("folder of the scrape export");
    }
    if config.persistence.plan().is_some() {
        files.push("folder of the swarms");
    }
    if privileges::check(&config.privileges, &files, checks) {
        access_list::check(&config.access_list, checks);
        keys::check(&config.keys, checks);
        let plan = config.persistence.plan();
        let swarms = plan.map(SnapshotPlan::output);
        for (key, path) in config.outputs().filter(|output| Some(*output) != swarms) {
            checks.require_ok(replace_file::check(path), key);
        }
        if let Some(plan) = plan {
            plan.inspect(checks);
        }
    }
}

/// Before privileges are dropped, as at the start. A file that is missing would be made.
fn inspect_connection_secret(config: &Config, checks: &mut Checks) {
    let path = &config.network.connection_secret_file;
    if path.as_os_str().is_empty() {
        return;
    }
    checks.require_ok(
        connection_secret::check(path),
        "network.connection_secret_file",
    );
}

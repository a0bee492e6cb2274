//! The crates form layers, and no arrow between them points up.
//!
//! `documents/architecture.md` draws what this table says.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use aquatic_e2e::workspace;
use serde_json::Value;

/// A crate may depend on crates of lower layers only, not even on its neighbours.
const LAYERS: &[(&str, u8)] = &[
    ("aquatic_types", 0),
    ("aquatic_access_list", 1),
    ("aquatic_keys", 1),
    ("aquatic_http_protocol", 1),
    ("aquatic_peer_id", 1),
    ("aquatic_swarm", 1),
    ("aquatic_swarm_log", 1),
    ("aquatic_udp_protocol", 1),
    ("aquatic_udp_socket", 1),
    ("aquatic_ws_protocol", 1),
    ("aquatic_xdp", 1),
    ("aquatic_budgets", 2),
    ("aquatic_channel", 2),
    ("aquatic_config", 2),
    ("aquatic_uring", 2),
    ("aquatic_daemon", 3),
    ("aquatic_stream", 4),
    ("aquatic_test_support", 4),
    ("aquatic_tracker", 4),
    ("aquatic_cluster", 5),
    ("aquatic_load_test", 5),
    ("aquatic_stream_tracker", 5),
    ("aquatic_bench", 6),
    ("aquatic_flood_test", 6),
    ("aquatic_http", 6),
    ("aquatic_udp", 6),
    ("aquatic_ws", 6),
    ("aquatic", 7),
    ("aquatic_e2e", 8),
    ("aquatic_pages", 8),
];

/// Crates that exist to wrap system calls. All others forbid unsafe code.
const MAY_BE_UNSAFE: [&str; 3] = ["aquatic_udp_socket", "aquatic_uring", "aquatic_xdp"];

#[test]
fn every_crate_has_its_layer() {
    let mut packages: Vec<String> = packages().unwrap().into_keys().collect();
    let mut table: Vec<&str> = LAYERS.iter().map(|(name, _)| *name).collect();
    packages.sort_unstable();
    table.sort_unstable();
    assert_eq!(
        packages, table,
        "left: the workspace; right: the table of this test"
    );
}

#[test]
fn no_arrow_points_up() {
    let layers = LAYERS.iter().copied().collect::<BTreeMap<_, _>>();
    let mut upward = Vec::new();
    for (name, package) in packages().unwrap() {
        let Some(layer) = layers.get(name.as_str()) else {
            continue; // The test above names it.
        };
        for dependency in package["dependencies"].as_array().unwrap() {
            let dependency_name = dependency["name"].as_str().unwrap();
            let Some(dependency_layer) = layers.get(dependency_name) else {
                continue; // Not one of ours.
            };
            if dependency_layer >= layer {
                upward.push(format!(
                    "{name} (layer {layer}) -> {dependency_name} (layer {dependency_layer})"
                ));
            }
        }
    }
    assert!(
        upward.is_empty(),
        "arrows that do not point down: {upward:#?}"
    );
}

#[test]
fn unsafe_code_is_forbidden() {
    let mut silent = Vec::new();
    for (name, package) in packages().unwrap() {
        if MAY_BE_UNSAFE.contains(&name.as_str()) {
            continue;
        }
        // A crate is a target here: the forbidding in a library does not reach its binaries.
        for target in package["targets"].as_array().unwrap() {
            let kind = target["kind"][0].as_str().unwrap();
            if !["lib", "bin"].contains(&kind) {
                continue;
            }
            let path = Path::new(target["src_path"].as_str().unwrap());
            let source = fs::read_to_string(path).unwrap();
            if !source.contains("#![forbid(unsafe_code)]") {
                silent.push(path.to_owned());
            }
        }
    }
    assert!(
        silent.is_empty(),
        "without #![forbid(unsafe_code)]: {silent:#?}"
    );
}

/// The workspace's packages by name, as `cargo metadata` describes them.
fn packages() -> Result<BTreeMap<String, Value>> {
    let metadata = workspace::metadata()?;
    let packages = metadata["packages"]
        .as_array()
        .context("no packages in the metadata")?;
    packages
        .iter()
        .map(|package| {
            let name = package["name"]
                .as_str()
                .context("a package without a name")?;
            Ok((name.to_owned(), package.clone()))
        })
        .collect()
}

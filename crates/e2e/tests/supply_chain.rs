//! `documents/supply-chain.md` tells of every direct dependency, and of no other.

use std::collections::BTreeSet;
use std::fs;

use aquatic_e2e::workspace;

#[test]
fn the_page_names_every_direct_dependency_and_no_other() {
    let page = fs::read_to_string(workspace::root().unwrap().join("documents/supply-chain.md"));
    let page = page.unwrap();
    let named = rows(&page).map(|cells| cells[0].trim_matches('`').to_owned());
    let named = named.collect::<Vec<_>>();
    let distinct = named.iter().cloned().collect::<BTreeSet<_>>();
    assert_eq!(distinct.len(), named.len(), "one has two lines: {named:?}");
    assert_eq!(
        distinct,
        direct_dependencies(),
        "left: the page; right: the manifests"
    );
}

#[test]
fn each_line_says_why_and_who_and_what_else() {
    let page = fs::read_to_string(workspace::root().unwrap().join("documents/supply-chain.md"));
    for cells in rows(&page.unwrap()) {
        assert_eq!(cells.len(), 4, "{cells:?}");
        assert!(cells.iter().all(|cell| !cell.is_empty()), "{cells:?}");
    }
}

/// The lines of all tables that begin with the name of a crate.
fn rows(page: &str) -> impl Iterator<Item = Vec<&str>> {
    let lines = page.lines().filter(|line| line.starts_with("| `"));
    lines.map(|line| {
        let cells = line.trim_matches('|').split('|');
        cells.map(str::trim).collect()
    })
}

/// Of all crates of the workspace, for builds and for tests, and of the fuzz targets.
fn direct_dependencies() -> BTreeSet<String> {
    let metadata = workspace::metadata().unwrap();
    let packages = metadata["packages"].as_array().unwrap().iter();
    let dependencies = packages.flat_map(|package| package["dependencies"].as_array().unwrap());
    let names = dependencies.map(|it| it["name"].as_str().unwrap().to_owned());
    let manifest = fs::read_to_string(workspace::root().unwrap().join("fuzz/Cargo.toml"));
    let manifest = manifest.unwrap();
    let fuzz = manifest
        .split("\n[")
        .find_map(|section| section.strip_prefix("dependencies]\n"));
    let fuzz = fuzz.unwrap().lines();
    let fuzz = fuzz.filter_map(|line| Some(line.split_once(" = ")?.0.to_owned()));
    let all = names.chain(fuzz);
    all.filter(|name| !(name == "aquatic" || name.starts_with("aquatic_")))
        .collect()
}

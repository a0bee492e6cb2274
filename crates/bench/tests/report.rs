//! Pages and plots are a function of the results: from these results comes this page, to the byte.
//!
//! After a change that is meant to show, `aquatic_bench report` with
//! `crates/bench/tests/golden/example.jsonl` writes them anew; look at them before they are
//! committed.

use std::fs;
use std::path::{Path, PathBuf};

use aquatic_bench::report;
use aquatic_bench::results::Results;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

#[test]
fn results_become_the_page_and_the_plots_that_they_always_became() {
    let folder = tempfile::tempdir().unwrap();
    let results = folder.path().join("example.jsonl");
    fs::copy(golden("example.jsonl"), &results).unwrap();
    report::write(&results).unwrap();
    let files = ["example.md", "example-load.svg", "example-memory.svg"];
    for name in files {
        let written = fs::read_to_string(folder.path().join(name)).unwrap();
        let expected = fs::read_to_string(golden(name)).unwrap();
        assert_eq!(written, expected, "{name}");
    }
    // Besides the results. A set without a run has no plot.
    let written = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(written, files.len() + 1);
}

#[test]
fn results_that_are_none_are_named_by_their_line() {
    let text = fs::read_to_string(golden("example.jsonl")).unwrap();
    let refused = |text: &str| format!("{:#}", Results::read(text).unwrap_err());
    assert!(refused("").contains("line 1"));
    let lines: Vec<&str> = text.lines().collect();
    assert!(refused(&lines[1..].join("\n")).contains("head"));
    let without_set = [lines[0], lines[2]].join("\n");
    assert!(refused(&without_set).contains("line 2 is out of place"));
    let stranger = lines[2].replace("\"contender\": 0", "\"contender\": 7");
    let stranger = [lines[0], lines[1], &stranger].join("\n");
    assert!(refused(&stranger).contains("line 3 is out of place"));
    let unknown = lines[2].replace("cores", "chores");
    let unknown = [lines[0], lines[1], &unknown].join("\n");
    assert!(refused(&unknown).contains("chores"));
}

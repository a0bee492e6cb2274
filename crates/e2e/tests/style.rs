//! House rules that no lint knows, for every text file of the source tree.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use aquatic_e2e::workspace;

/// The length at which one can still find one's way; with its tests, that is.
const LINES_MAX: usize = 600;

/// What two windows side by side can show.
const LINE_CHARS_MAX: usize = 100;

/// Programs and prose. The rest (licence, lock files, generated JSON) is not written by hand.
const CHECKED_EXTENSIONS: [&str; 12] = [
    "rs",
    "md",
    "toml",
    "sh",
    "py",
    "js",
    "yml",
    "yaml",
    "service",
    "socket",
    "Dockerfile",
    "",
];

/// Documents that are one list by nature.
const MAY_BE_LONG: [&str; 2] = ["CHANGELOG.md", "configuration.md"];

/// What programs for the kernel are compiled to, which `scripts/bpf.sh --check` compares.
const COMPILED: &str = "crates/xdp/src/programs/";

/// Made by programs, at the top or below.
const SKIPPED_FOLDERS: [&str; 4] = [".git", "target", "test-artefacts", "node_modules"];

/// Other people's text, and text that a program writes.
const NOT_OURS: [&str; 2] = ["LICENSE", "Cargo.lock"];

#[test]
fn files_are_short() {
    let long = violations(|file, text| {
        let lines = text.lines().count();
        let is_compiled = file.to_string_lossy().contains(COMPILED);
        let may_be_long = is_compiled || MAY_BE_LONG.iter().any(|name| file.ends_with(name));
        (lines > LINES_MAX && !may_be_long).then(|| vec![format!("{lines} lines")])
    });
    assert!(long.is_empty(), "more than {LINES_MAX} lines: {long:#?}");
}

#[test]
fn lines_are_short() {
    // Tables, paragraphs, links, lines of a manifest and what programs write cannot be broken; code
    // can.
    let is_breakable = |line: &str| !line.contains("://") && !line.starts_with("//! |");
    let long = violations(|file, text| {
        let extension = file.extension().unwrap_or_default();
        let is_code = !["md", "toml", "jsonl", "svg"]
            .iter()
            .any(|other| extension == *other);
        let is_long = |line: &&str| line.chars().count() > LINE_CHARS_MAX && is_breakable(line);
        is_code.then(|| numbered(text, is_long))
    });
    assert!(
        long.is_empty(),
        "lines over {LINE_CHARS_MAX} characters: {long:#?}"
    );
}

#[test]
fn lines_end_where_they_end() {
    let trailing =
        violations(|_, text| Some(numbered(text, |line| line.ends_with([' ', '\t', '\r']))));
    assert!(trailing.is_empty(), "trailing spaces: {trailing:#?}");
}

#[test]
fn nothing_is_left_for_later() {
    // Assembled here, so that this file does not contain what it forbids.
    let words = [
        ["TO", "DO"].concat(),
        ["FIX", "ME"].concat(),
        ["todo", "!("].concat(),
    ];
    let later = violations(|_, text| {
        Some(numbered(text, |line| {
            words.iter().any(|word| line.contains(word))
        }))
    });
    assert!(later.is_empty(), "work left in the text: {later:#?}");
}

/// The glossary lists words that must not come back.
#[test]
fn one_thing_has_one_name() {
    let glossary = workspace::root().unwrap().join("documents/glossary.md");
    let text = fs::read_to_string(&glossary).unwrap();
    let (_, table) = text.split_once("| not | but |").unwrap();
    let words: Vec<_> = table
        .lines()
        .filter_map(|row| row.strip_prefix("| ")?.split(' ').next())
        .collect();
    assert!(words.len() > 10, "{words:?}");
    let is_part_of_word = |it: char| it.is_alphanumeric() || it == '_';
    let used = violations(|file, text| {
        let is_used = |line: &&str| {
            let mut of_line = line.split(|it| !is_part_of_word(it));
            of_line.any(|word| words.contains(&word))
        };
        (file != glossary).then(|| numbered(text, is_used))
    });
    assert!(used.is_empty(), "see documents/glossary.md: {used:#?}");
}

#[test]
fn the_index_says_of_each_decision_what_its_page_says() {
    let folder = workspace::root().unwrap().join("documents/decisions");
    let index = fs::read_to_string(folder.join("README.md")).unwrap();
    let mut numbers = Vec::new();
    for entry in fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name == "README.md" || !name.ends_with(".md") {
            continue;
        }
        let page = fs::read_to_string(folder.join(&name)).unwrap();
        let (number, date, status) = decision_line(&page)
            .unwrap_or_else(|| panic!("{name}: line 3 is not `Decision N · date · status`"));
        let row_start = format!("| {number} | {date} | [");
        let row_end = format!("]({name}) | {status} |");
        let is_in_the_index = index
            .lines()
            .any(|line| line.starts_with(&row_start) && line.ends_with(&row_end));
        assert!(is_in_the_index, "{name}: no row {row_start}...{row_end}");
        numbers.push(number);
    }
    numbers.sort_unstable();
    let consecutive = (1..=numbers.len()).collect::<Vec<_>>();
    assert_eq!(numbers, consecutive, "numbers of decisions");
}

/// Number, date and status of a decision, from the line below the title of its page.
fn decision_line(page: &str) -> Option<(usize, &str, &str)> {
    let line = page.lines().nth(2)?.strip_prefix("Decision ")?;
    let (number, rest) = line.split_once(" · ")?;
    let (date, status) = rest.split_once(" · ")?;
    Some((number.parse().ok()?, date, status))
}

#[test]
fn links_between_documents_lead_somewhere() {
    let broken = violations(|file, text| {
        let is_document = file.extension().is_some_and(|extension| extension == "md");
        is_document.then(|| {
            link_targets(text)
                .filter(|target| !target.contains("://") && !target.starts_with('#'))
                .filter(|target| {
                    let path = target.split('#').next().unwrap_or_default();
                    !file
                        .parent()
                        .is_some_and(|folder| folder.join(path).exists())
                })
                .map(str::to_owned)
                .collect()
        })
    });
    assert!(broken.is_empty(), "broken links: {broken:#?}");
}

/// The targets of Markdown links: what stands between `](` and `)`.
fn link_targets(text: &str) -> impl Iterator<Item = &str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
}

#[test]
fn paths_in_documents_lead_somewhere() {
    let root = workspace::root().unwrap();
    let broken = violations(|file, text| {
        let is_document = file.extension().is_some_and(|extension| extension == "md");
        is_document.then(|| {
            code_spans(text)
                .map(|span| span.trim_start_matches("./"))
                .filter(|span| is_path_of_the_tree(span))
                .flat_map(alternatives)
                .filter(|path| !root.join(before_wildcard(path)).exists())
                .collect()
        })
    });
    assert!(broken.is_empty(), "paths that do not exist: {broken:#?}");
}

/// What stands between two backticks within a line.
fn code_spans(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// Whether a piece of code names a file or folder, and not a command with arguments.
fn is_path_of_the_tree(span: &str) -> bool {
    let folders = ["crates/", "documents/", "fuzz/", "scripts/"];
    folders.iter().any(|folder| span.starts_with(folder)) && !span.contains(' ')
}

/// `a/{b,c}/d` is `a/b/d` and `a/c/d`.
fn alternatives(path: &str) -> Vec<String> {
    let Some((before, rest)) = path.split_once('{') else {
        return vec![path.to_owned()];
    };
    let (choices, after) = rest.split_once('}').unwrap_or((rest, ""));
    choices
        .split(',')
        .flat_map(|choice| alternatives(&format!("{before}{choice}{after}")))
        .collect()
}

/// The folder in which a path with a `*` is looked up, or the path itself if it has none.
fn before_wildcard(path: &str) -> &str {
    path.split_once('*').map_or(path, |(before, _)| {
        before.rsplit_once('/').map_or("", |(folder, _)| folder)
    })
}

#[test]
fn published_crates_say_what_they_are() {
    let metadata = workspace::metadata().unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let published = packages
        .iter()
        .filter(|package| package["publish"].is_null());
    let mut missing = Vec::new();
    for package in published {
        let manifest = Path::new(package["manifest_path"].as_str().unwrap());
        // A package holds what is in its folder; cargo puts a link's target into it.
        for name in ["README.md", "LICENSE"] {
            if !manifest.with_file_name(name).is_file() {
                missing.push(format!("{}: {name}", package["name"]));
            }
        }
        if package["description"].is_null() {
            missing.push(format!("{}: description", package["name"]));
        }
    }
    assert!(missing.is_empty(), "missing from packages: {missing:#?}");
}

fn numbered(text: &str, is_bad: impl Fn(&&str) -> bool) -> Vec<String> {
    let bad = text.lines().enumerate().filter(|(_, line)| is_bad(line));
    bad.map(|(index, line)| format!("{}: {line}", index + 1))
        .collect()
}

/// What `check` finds in each file, with the file's name in front.
fn violations(check: impl Fn(&Path, &str) -> Option<Vec<String>>) -> Vec<String> {
    let root = workspace::root().unwrap();
    let mut files = Vec::new();
    add_files(&root, &mut files).unwrap();
    assert!(!files.is_empty(), "no file in {}", root.display());

    let mut found = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for violation in check(&file, &text).unwrap_or_default() {
            found.push(format!("{}: {violation}", file.display()));
        }
    }
    found
}

/// Collects the files to check below `folder`.
fn add_files(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        let name = entry.file_name();
        if entry.file_type()?.is_dir() {
            if !SKIPPED_FOLDERS.iter().any(|skipped| name == *skipped) {
                add_files(&path, files)?;
            }
            continue;
        }
        let extension = path.extension().unwrap_or_default();
        let is_checked = CHECKED_EXTENSIONS
            .iter()
            .any(|checked| extension == *checked);
        if is_checked && !NOT_OURS.iter().any(|other| name == *other) {
            files.push(path);
        }
    }
    Ok(())
}

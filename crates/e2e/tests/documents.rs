//! What the documents say about keys and metrics is there: no page names a key that no program has,
//! or a metric that the page of metrics does not know.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use aquatic_e2e::workspace;

/// Programs, and how each prints all its keys.
const PROGRAMS: [(&str, &[&str]); 4] = [
    ("aquatic_udp", &["-p"]),
    ("aquatic_http", &["-p"]),
    ("aquatic_ws", &["-p"]),
    ("aquatic", &["serve", "-p"]),
];

/// These pages are about other programs too, or about what was once.
const OTHERS: [&str; 2] = ["migrating-from-0.9.md", "migrating-from-opentracker.md"];

/// What looks like a key and is none: one that is gone, and files.
fn is_no_key(span: &str) -> bool {
    span == "cleaning.connection_cleaning_interval" || span.ends_with(".csv")
}

/// All pages for operators, with their names.
fn pages() -> Vec<(String, String)> {
    let root = workspace::root().unwrap();
    let documents = fs::read_dir(root.join("documents")).unwrap();
    let mut paths: Vec<PathBuf> = documents.map(|entry| entry.unwrap().path()).collect();
    paths.push(root.join("README.md"));
    let pages = paths.into_iter().filter_map(|path| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let is_page = name.ends_with(".md") && !OTHERS.contains(&name.as_str());
        is_page.then(|| (name, fs::read_to_string(&path).unwrap()))
    });
    let pages: Vec<_> = pages.collect();
    assert!(pages.len() > 15, "{}", pages.len());
    pages
}

/// What is written as code within a line.
fn spans(page: &str) -> impl Iterator<Item = &str> {
    let lines = page.lines().filter(|line| !line.starts_with("```"));
    lines.flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// Sections, and keys as `section.key`, of all programs.
struct Known {
    sections: BTreeSet<String>,
    keys: BTreeSet<String>,
}

impl Known {
    fn collect() -> Self {
        let mut known = Self {
            sections: BTreeSet::new(),
            keys: BTreeSet::new(),
        };
        for (program, arguments) in PROGRAMS {
            let mut command = Command::new(workspace::binary(program).unwrap());
            let output = command.args(arguments).output().unwrap();
            assert!(output.status.success(), "{program}");
            known.add(&String::from_utf8(output.stdout).unwrap());
        }
        known
    }

    fn add(&mut self, printed: &str) {
        let mut section = "";
        for line in printed.lines() {
            if let Some(name) = line.strip_prefix('[') {
                section = name.trim_end_matches(']');
                // [udp.network] of `aquatic serve` is [network] elsewhere.
                let sections = section.split('.').map(str::to_owned);
                self.sections.extend(sections);
            } else if let Some((key, _)) = line.split_once(" = ")
                && is_word(key)
            {
                let full = format!("{section}.{key}");
                self.keys.insert(full.trim_start_matches('.').to_owned());
            }
        }
    }
}

fn is_word(text: &str) -> bool {
    let is_fit = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    !text.is_empty() && text.chars().all(is_fit)
}

/// The key that is meant by code such as `limits.max_peers = 0`.
fn key(span: &str) -> &str {
    span.split([' ', '=']).next().unwrap_or_default()
}

#[test]
fn keys_in_documents_exist() {
    let known = Known::collect();
    let mut unknown = Vec::new();
    let mut seen = 0;
    for (name, page) in pages() {
        for span in spans(&page) {
            let key = key(span);
            let Some((section, rest)) = key.split_once('.') else {
                continue;
            };
            let is_word = rest.split('.').all(is_word);
            if !known.sections.contains(section) || !is_word || is_no_key(key) {
                continue;
            }
            seen += 1;
            // A section of `aquatic serve`, and not a key.
            let is_section = known.sections.contains(rest);
            if !(known.keys.contains(key) || is_section) {
                unknown.push(format!("{name}: {key}"));
            }
        }
    }
    assert!(seen > 100, "{seen}");
    assert!(unknown.is_empty(), "{unknown:#?}");
}

#[test]
fn metrics_in_documents_exist() {
    let pages = pages();
    let (_, all) = pages.iter().find(|(name, _)| name == "metrics.md").unwrap();
    let known: BTreeSet<_> = spans(all).collect();
    let mut unknown = Vec::new();
    let mut seen = 0;
    for (name, page) in &pages {
        for span in spans(page) {
            let metric = span.split('{').next().unwrap_or_default();
            let is_metric = metric.starts_with("aquatic_") && metric.ends_with("_total");
            if !is_metric || !is_word(metric) {
                continue;
            }
            seen += 1;
            if !known.contains(metric) {
                unknown.push(format!("{name}: {metric}"));
            }
        }
    }
    assert!(seen > 30, "{seen}");
    assert!(unknown.is_empty(), "{unknown:#?}");
}

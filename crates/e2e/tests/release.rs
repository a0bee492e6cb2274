//! What a release is made by: it is run once in a while, so mistakes in it would be found late.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Output};

use aquatic_e2e::workspace;

/// The lines of each workflow, without comments, with the name of its file.
fn workflow_lines() -> Vec<(String, String)> {
    let folder = workspace::root().unwrap().join(".github/workflows");
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap());
    let lines = files.flat_map(|file| {
        let name = file.file_name().into_string().unwrap();
        let text = fs::read_to_string(file.path()).unwrap();
        let lines = text.lines().map(str::to_owned).collect::<Vec<_>>();
        lines.into_iter().map(move |line| (name.clone(), line))
    });
    lines
        .filter(|(_, line)| !line.trim_start().starts_with('#'))
        .collect()
}

#[test]
fn workflows_pin_each_action_to_a_commit() {
    let is_commit =
        |version: &str| version.len() == 40 && version.bytes().all(|it| it.is_ascii_hexdigit());
    let mut pinned = 0;
    for (file, line) in workflow_lines() {
        let Some((_, action)) = line.split_once("uses: ") else {
            continue;
        };
        let (reference, comment) = action.split_once(" # ").unwrap_or((action, ""));
        let commit = reference.split_once('@').map(|(_, version)| version);
        assert!(commit.is_some_and(is_commit), "{file}: {line}");
        assert!(
            comment.starts_with('v'),
            "{file}: which version is it? {line}"
        );
        pinned += 1;
    }
    assert!(pinned > 5, "{pinned}");
}

#[test]
fn scripts_that_workflows_run_can_be_run() {
    let mut found = 0;
    for (file, line) in workflow_lines() {
        let words = line.split_whitespace();
        for script in words.filter(|it| it.starts_with("scripts/") || it.starts_with("./.ci/")) {
            let path = workspace::root().unwrap().join(script);
            let mode = fs::metadata(path).map(|it| it.permissions().mode());
            assert!(mode.is_ok_and(|it| it & 0o111 != 0), "{file}: {line}");
            found += 1;
        }
    }
    assert!(found > 3, "{found}");
}

/// Whoever has got into what is compiled must not be able to publish anything.
#[test]
fn jobs_that_may_write_run_nothing_of_this_repository() {
    let path = workspace::root()
        .unwrap()
        .join(".github/workflows/release.yml");
    let text = fs::read_to_string(path).unwrap();
    let (head, jobs) = text.split_once("\njobs:\n").unwrap();
    assert!(!head.contains(": write"), "{head}");
    let mut names = Vec::new();
    // Jobs are indented by two, and what they have by more.
    for job in format!("\n{jobs}").split("\n  ").skip(1) {
        match job.starts_with(|first: char| first.is_ascii_lowercase()) {
            true => names.push(job.to_owned()),
            false => names.last_mut().into_iter().for_each(|it| it.push_str(job)),
        }
    }
    let may_write = names.iter().filter(|job| job.contains(": write"));
    let may_write: Vec<_> = may_write.collect();
    assert_eq!(may_write.len(), 3, "{may_write:?}");
    for job in may_write {
        for forbidden in [
            "actions/checkout",
            "docker build ",
            "docker run",
            "cargo",
            "scripts/",
        ] {
            assert!(!job.contains(forbidden), "{forbidden} in {job}");
        }
    }
}

/// What an archive has besides programs.
fn archive() -> BTreeSet<PathBuf> {
    let script = workspace::root().unwrap().join("scripts/build-release.sh");
    let output = Command::new(script).arg("--documents").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(PathBuf::from).collect()
}

/// Where a link in a document leads.
fn resolved(document: &Path, link: &str) -> PathBuf {
    let mut path = PathBuf::new();
    for part in document.parent().unwrap().join(link).components() {
        match part {
            Component::ParentDir => drop(path.pop()),
            part => path.push(part),
        }
    }
    path
}

/// Relative links of a document, without places in it.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let links = text.split("](").skip(1);
    let links = links.filter_map(|rest| rest.split([')', '#', ' ']).next());
    links.filter(|link| !link.is_empty() && !link.contains(':'))
}

/// Files that a document names as from the top of the archive.
fn named(text: &str) -> impl Iterator<Item = &str> {
    let is_end = |it: char| !(it.is_ascii_alphanumeric() || "_-./".contains(it));
    let words = text
        .split(is_end)
        .map(|word| word.trim_end_matches(['.', '/']));
    words.filter(|word| {
        let folders = ["scripts/", "documents/", "docker/"];
        folders.iter().any(|folder| word.starts_with(folder))
    })
}

#[test]
fn an_archive_has_what_its_documents_name() {
    let (root, archive) = (workspace::root().unwrap(), archive());
    let has = |path: &Path| archive.iter().any(|own| own.starts_with(path));
    // These need the source, which an archive has not.
    let is_of_source = |path: &Path| {
        let is_there = root.join(path).exists();
        let text = fs::read_to_string(root.join(path)).unwrap_or_default();
        let compiles = text.contains("cargo") || text.contains("load-test.sh");
        let folders = ["crates", "fuzz", "packaging", ".github"];
        is_there
            && (folders.iter().any(|folder| path.starts_with(folder))
                || path.starts_with("scripts") && compiles)
    };
    // Others link to these two, which are for people who have the source.
    let of_contributors = ["CONTRIBUTING.md", "RELEASING.md"].map(Path::new);
    let is_document = |path: &&PathBuf| {
        path.extension().is_some_and(|it| it == "md") && !of_contributors.contains(&path.as_path())
    };
    let (mut found, mut missing) = (0, BTreeSet::new());
    for document in archive.iter().filter(is_document) {
        let text = fs::read_to_string(root.join(document)).unwrap();
        let of_links = links(&text).map(|link| resolved(document, link));
        for path in of_links.chain(named(&text).map(PathBuf::from)) {
            found += 1;
            if !has(&path) && !is_of_source(&path) {
                missing.insert((document, path));
            }
        }
    }
    assert!(found > 300, "{found}");
    assert!(missing.is_empty(), "{missing:#?}");
    for wanted in [
        "documents/aquatic_udp.socket",
        "documents/monitoring/prometheus/aquatic.rules.yml",
        "documents/decisions/README.md",
        "scripts/gen-tls.sh",
    ] {
        assert!(has(Path::new(wanted)), "{wanted}");
    }
}

#[test]
fn release_notes_are_those_of_the_version() {
    let version = env!("CARGO_PKG_VERSION");
    let log = format!(
        "# Changes\n\n## Unreleased\n\nLater.\n\n## {version} (2026-01-01)\n\nNew.\n\n\
         ### Details\n\nMore.\n\n## 0.1.0 (2025-01-01)\n\nOld.\n"
    );
    let output = release_notes("notes", &format!("v{version}"), &log);
    assert!(output.status.success(), "{output:?}");
    let notes = String::from_utf8(output.stdout).unwrap();
    assert_eq!(notes.trim(), "New.\n\n### Details\n\nMore.");
}

#[test]
fn a_release_is_of_this_version_and_has_been_described() {
    let version = env!("CARGO_PKG_VERSION");
    let described = format!("## {version} (2026-01-01)\n\nNew.\n");
    let empty = format!("## {version} (2026-01-01)\n\n## 0.1.0 (2025-01-01)\n\nOld.\n");
    let cases = [
        ("other-tag", "v0.1.0".to_owned(), &*described, "should be v"),
        ("no-v", version.to_owned(), &*described, "should be v"),
        (
            "none",
            format!("v{version}"),
            "## Unreleased\n\nNew.\n",
            "no section",
        ),
        (
            "empty",
            format!("v{version}"),
            &*empty,
            "or nothing is in it",
        ),
    ];
    for (name, tag, log, complaint) in cases {
        let output = release_notes(name, &tag, log);
        assert!(!output.status.success(), "{name}: {output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(complaint), "{name}: {said}");
    }
}

/// What `scripts/release-notes.sh` does with this change log.
fn release_notes(name: &str, tag: &str, log: &str) -> Output {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let path = folder.join(format!("release-notes-{name}.md"));
    fs::write(&path, log).unwrap();
    let script = workspace::root().unwrap().join("scripts/release-notes.sh");
    Command::new(script).arg(tag).arg(&path).output().unwrap()
}

//! The keys of the whole family on one page of Markdown.
//!
//! Most keys are common to several programs, and then stand there once.

use std::fmt::Write as _;

use aquatic_config::reloading::{self, Reloading};
use aquatic_config::{KeyDescription, SectionDescription};

use crate::programs::Program;
use crate::settings::joined;

const HEAD: &str = "\
# Configuration

All keys of `aquatic_udp`, `aquatic_http`, `aquatic_ws` and `aquatic serve`: what each does, its
default, and what [a reload](operating.md#what-a-reload-applies) does with it. This page is written
by `cargo run -p aquatic_pages -- reference documents/configuration.md`, from what the programs
print with `-p`; a test compares both.

`aquatic serve` has the sections of a protocol within its own: `[udp.network]`, `[http.protocol]`.
Those that concern all protocols stand once there, at the top, as in the other programs. Where
`aquatic_udp` says `[statistics]`, the others say `[metrics]`; each takes both names.
";

/// A key of some programs.
struct Entry<'a> {
    key: &'a KeyDescription,
    programs: Vec<&'a str>,
}

/// A section of some programs.
struct Group<'a> {
    /// As stand-alone programs call it.
    name: &'a str,
    docs: &'a [String],
    entries: Vec<Entry<'a>>,
}

/// The page.
pub(crate) fn render(trackers: &[Program]) -> String {
    let mut page = HEAD.to_owned();
    for group in groups(trackers) {
        let title = match group.name {
            "" => "Above all sections".to_owned(),
            name => format!("[{name}]"),
        };
        add(&mut page, &format!("\n## {title}\n"));
        if !group.name.is_empty() {
            add_paragraphs(&mut page, group.docs);
        }
        for entry in &group.entries {
            add_entry(&mut page, group.name, entry);
        }
    }
    page
}

/// Sections of one name become one, in the order in which they come first.
fn groups(trackers: &[Program]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for program in trackers {
        for section in &program.settings {
            let name = family_name(program, section);
            let group = match groups.iter().position(|group| group.name == name) {
                Some(place) => &mut groups[place],
                None => {
                    groups.push(Group {
                        name,
                        docs: &section.docs,
                        entries: Vec::new(),
                    });
                    groups.last_mut().unwrap_or_else(|| unreachable!())
                }
            };
            for key in &section.keys {
                group.add(key, program.prints);
            }
        }
    }
    groups
}

/// What a section is called in the programs for one protocol.
fn family_name<'a>(program: &Program, section: &'a SectionDescription) -> &'a str {
    let path = section.path.as_str();
    if program.name() != aquatic::APP.name {
        return match path {
            "statistics" => "metrics",
            path => path,
        };
    }
    match path.split_once('.') {
        Some((_, "statistics")) => "metrics",
        Some((_, inner)) => inner,
        None if ["udp", "http", "ws"].contains(&path) => "",
        None => path,
    }
}

impl<'a> Group<'a> {
    fn add(&mut self, key: &'a KeyDescription, program: &'a str) {
        match self.entries.iter_mut().find(|entry| entry.key == key) {
            Some(entry) if entry.programs.contains(&program) => {}
            Some(entry) => entry.programs.push(program),
            None => {
                // Beside those of the same name, with another comment or default.
                let place = self
                    .entries
                    .iter()
                    .rposition(|entry| entry.key.name == key.name);
                let place = place.map_or(self.entries.len(), |place| place + 1);
                let programs = vec![program];
                self.entries.insert(place, Entry { key, programs });
            }
        }
    }
}

fn add_entry(page: &mut String, section: &str, entry: &Entry<'_>) {
    let path = match section {
        "" => entry.key.name.clone(),
        section => format!("{section}.{}", entry.key.name),
    };
    let default = match &entry.key.value {
        Ok(value) => value.to_string(),
        Err(error) => error.clone(),
    };
    let programs = entry.programs.join(", ");
    let reload = match reloading::of(&path) {
        Some(Reloading::Applied) => "a reload applies it",
        Some(Reloading::AppliedUnlessZero) => "a reload applies it, but for a change from or to 0",
        Some(Reloading::NeedsRestart) | None => "needs a restart",
    };
    add(page, &format!("\n### `{path}`\n\n"));
    add(
        page,
        &format!("Default `{default}` · {programs} · {reload}\n"),
    );
    add_paragraphs(page, &entry.key.docs);
}

fn add_paragraphs(page: &mut String, docs: &[String]) {
    for lines in docs.split(|line| line.trim().is_empty()) {
        add(page, &format!("\n{}\n", joined(lines)));
    }
}

fn add(page: &mut String, text: &str) {
    // To write into memory does not fail.
    let _ = write!(page, "{text}");
}

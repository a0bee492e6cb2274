//! Taking known keys out of a parsed table; what is left over is unknown.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use crate::{Checks, Config, Mistake, Position, Problem, Section};

/// Similarity (Jaro-Winkler, 0 to 1) from which a known name is offered for an unknown one.
const SUGGESTION_SIMILARITY_MIN: f64 = 0.8;

/// One table of the file while a [`Section`] takes its keys out of it.
#[derive(Debug)]
pub struct Reader<'text, 'report> {
    /// `None` for the root of the file.
    section: Option<String>,
    table: DeTable<'text>,
    report: &'report mut Report<'text>,
}

impl<'text, 'report> Reader<'text, 'report> {
    pub(crate) fn read_root<S: Section>(
        table: DeTable<'text>,
        report: &'report mut Report<'text>,
    ) -> S {
        Reader {
            section: None,
            table,
            report,
        }
        .read()
    }

    /// Takes a key out of the table; a bad value is reported and replaced by the default.
    pub fn key<T: DeserializeOwned>(&mut self, name: &str, default: T) -> T {
        let path = self.path(name);
        self.report.known_keys.push(path.clone());
        let Some((key, value)) = self.table.remove_entry(name) else {
            return default;
        };
        self.report.positions.insert(path.clone(), key.span().start);
        self.report.value(&path, value).unwrap_or(default)
    }

    /// Takes a section out of the table. A section that is missing has all its defaults.
    pub fn section<S: Section>(&mut self, name: &str) -> S {
        let path = self.path(name);
        self.report.known_sections.push(path.clone());
        let table = match self
            .table
            .remove(name)
            .map(|value| (value.span(), value.into_inner()))
        {
            None => DeTable::new(),
            Some((_, DeValue::Table(table))) => table,
            Some((span, _)) => {
                let mistake = Mistake::NotASection {
                    section: path.clone(),
                };
                self.report.add(Some(span.start), mistake);
                DeTable::new()
            }
        };
        Reader {
            section: Some(path),
            table,
            report: self.report,
        }
        .read()
    }

    fn read<S: Section>(mut self) -> S {
        let section = S::read(&mut self);
        for (name, value) in std::mem::take(&mut self.table) {
            let name_of_table = matches!(value.get_ref(), DeValue::Table(_));
            let path = self.path(name.get_ref());
            self.report.unknown.push(Unknown {
                path,
                is_section: name_of_table,
                span: name.span(),
            });
        }
        section
    }

    fn path(&self, name: &str) -> String {
        match &self.section {
            Some(section) => format!("{section}.{name}"),
            None => name.to_owned(),
        }
    }
}

/// What has been found out about a file so far.
#[derive(Debug)]
pub(crate) struct Report<'text> {
    text: &'text str,
    pub(crate) problems: Vec<Problem>,
    /// Keys that the file sets → byte offset.
    positions: BTreeMap<String, usize>,
    known_keys: Vec<String>,
    known_sections: Vec<String>,
    unknown: Vec<Unknown>,
}

/// A name in the file that no section has asked for.
#[derive(Debug)]
struct Unknown {
    path: String,
    is_section: bool,
    span: Range<usize>,
}

impl<'text> Report<'text> {
    pub(crate) fn new(text: &'text str) -> Self {
        Self {
            text,
            problems: Vec::new(),
            positions: BTreeMap::new(),
            known_keys: Vec::new(),
            known_sections: Vec::new(),
            unknown: Vec::new(),
        }
    }

    /// Records a mistake, made at this byte of the file.
    pub(crate) fn add(&mut self, offset: Option<usize>, mistake: Mistake) {
        let position = offset.map(|offset| Position::of(self.text, offset));
        self.problems.push(Problem { position, mistake });
    }

    pub(crate) fn position(&self, offset: usize) -> Position {
        Position::of(self.text, offset)
    }

    /// The value of the key `path`, or a problem.
    pub(crate) fn value<T: DeserializeOwned>(
        &mut self,
        path: &str,
        value: Spanned<DeValue<'text>>,
    ) -> Option<T> {
        let start = value.span().start;
        let value = if is_beyond_toml(value.get_ref()) {
            Err((start, format!("too large: at most {}", i64::MAX)))
        } else {
            T::deserialize(ValueDeserializer::from(value)).map_err(|error| {
                let start = error.span().map_or(start, |span| span.start);
                (start, in_plain_words(error.message()))
            })
        };
        value
            .map_err(|(start, reason)| {
                self.add(
                    Some(start),
                    Mistake::BadValue {
                        key: path.to_owned(),
                        reason,
                    },
                );
            })
            .ok()
    }

    /// Called when every section has been read, so that a key in the wrong section is recognised.
    pub(crate) fn explain_unknown_names(&mut self) {
        for Unknown {
            path,
            is_section,
            span,
        } in std::mem::take(&mut self.unknown)
        {
            let mistake = if is_section {
                let suggestion = similar(&path, &self.known_sections);
                Mistake::UnknownSection {
                    section: path,
                    suggestion,
                }
            } else {
                let suggestion =
                    same_name(&path, &self.known_keys).or_else(|| similar(&path, &self.known_keys));
                Mistake::UnknownKey {
                    key: path,
                    suggestion,
                }
            };
            self.add(Some(span.start), mistake);
        }
    }

    pub(crate) fn run_checks<C: Config>(&mut self, config: &C) {
        let mut checks = Checks::default();
        config.check(&mut checks);
        for (key, reason) in checks.failures {
            let offset = self.positions.get(key).copied();
            self.add(
                offset,
                Mistake::BadValue {
                    key: key.to_owned(),
                    reason,
                },
            );
        }
    }
}

/// A known key of the same name in another section.
fn same_name(path: &str, known: &[String]) -> Option<String> {
    let name = |path: &str| path.rsplit('.').next().map(str::to_owned);
    known
        .iter()
        .find(|known| name(known) == name(path))
        .cloned()
}

fn similar(path: &str, known: &[String]) -> Option<String> {
    known
        .iter()
        .map(|known| (strsim::jaro_winkler(path, known), known))
        .filter(|(similarity, _)| *similarity >= SUGGESTION_SIMILARITY_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known.clone())
}

/// TOML promises 64 bits with a sign. The parser takes more, but could not print it again.
fn is_beyond_toml(value: &DeValue<'_>) -> bool {
    let DeValue::Integer(number) = value else {
        return false;
    };
    i64::from_str_radix(number.as_str(), number.radix()).is_err()
}

/// An error message of `serde`, which speaks of Rust's types, for people who do not.
fn in_plain_words(message: &str) -> String {
    const TYPES: [(&str, &str); 9] = [
        ("u8", "a whole number from 0 to 255"),
        ("u16", "a whole number from 0 to 65535"),
        ("u32", "a whole number from 0 to 4294967295"),
        ("u64", "a whole number, 0 or more"),
        ("usize", "a whole number, 0 or more"),
        ("i32", "a whole number"),
        ("i64", "a whole number"),
        ("f64", "a number"),
        ("a boolean", "true or false"),
    ];
    TYPES
        .iter()
        .find_map(|(name, words)| {
            let start = message.strip_suffix(name)?.strip_suffix("expected ")?;
            Some(format!("{start}expected {words}"))
        })
        .unwrap_or_else(|| message.to_owned())
}

//! What has been found out about a file so far.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeValue, ValueDeserializer};

use crate::{Checks, Config, ConfigError, Mistake, Position, Problem};

/// Similarity (Jaro-Winkler, 0 to 1) from which a known name is offered for an unknown one.
const SUGGESTION_SIMILARITY_MIN: f64 = 0.8;

/// Collects problems, and what is needed to explain them.
#[derive(Debug, Default)]
pub(crate) struct Report<'text> {
    text: &'text str,
    problems: Vec<Problem>,
    /// Where each key that the file sets stands, in bytes from the start.
    pub(crate) offsets: BTreeMap<String, usize>,
    pub(crate) known_keys: Vec<String>,
    pub(crate) known_sections: Vec<String>,
    pub(crate) unknown: Vec<Unknown>,
}

/// A name in the file that no section has asked for.
#[derive(Debug)]
pub(crate) struct Unknown {
    pub(crate) path: String,
    pub(crate) is_section: bool,
    pub(crate) offset: usize,
}

impl<'text> Report<'text> {
    pub(crate) fn new(text: &'text str) -> Self {
        Self {
            text,
            ..Self::default()
        }
    }

    pub(crate) fn position(&self, offset: usize) -> Position {
        Position::of(self.text, offset)
    }

    /// Records a mistake, made at this byte of the file.
    pub(crate) fn add(&mut self, offset: usize, mistake: Mistake) {
        let position = Some(self.position(offset));
        self.problems.push(Problem { position, mistake });
    }

    /// The value of the key `path`, unless it is a mistake.
    pub(crate) fn value<T: DeserializeOwned>(
        &mut self,
        path: &str,
        value: Spanned<DeValue<'text>>,
    ) -> Option<T> {
        let offset = value.span().start;
        let (offset, reason) = if is_beyond_toml(value.get_ref()) {
            (offset, format!("too large: at most {}", i64::MAX))
        } else {
            match T::deserialize(ValueDeserializer::from(value)) {
                Ok(value) => return Some(value),
                Err(error) => {
                    let offset = error.span().map_or(offset, |span| span.start);
                    (offset, in_plain_words(error.message()))
                }
            }
        };
        self.add(
            offset,
            Mistake::BadValue {
                key: path.to_owned(),
                reason,
            },
        );
        None
    }

    /// To be called when every section has been read, so that a key in the wrong section is
    /// recognised.
    pub(crate) fn explain_unknown_names(&mut self) {
        for Unknown {
            path,
            is_section,
            offset,
        } in std::mem::take(&mut self.unknown)
        {
            let mistake = if is_section {
                let suggestion = similar(&path, &self.known_sections);
                Mistake::UnknownSection {
                    section: path,
                    suggestion,
                }
            } else {
                let suggestion = same_name(&path, &self.known_keys);
                let suggestion = suggestion.or_else(|| similar(&path, &self.known_keys));
                Mistake::UnknownKey {
                    key: path,
                    suggestion,
                }
            };
            self.add(offset, mistake);
        }
    }

    /// Makes values of the file usable and checks them, unless it is known to be wrong already.
    /// Returns warnings.
    pub(crate) fn clamp_and_check<C: Config>(&mut self, config: &mut C) -> Vec<String> {
        if !self.problems.is_empty() {
            return Vec::new();
        }
        let mut checks = Checks::default();
        config.clamp(&mut checks);
        config.check(&mut checks);
        self.take(checks)
    }

    /// Runs the checks of a configuration as it is.
    pub(crate) fn check<C: Config>(&mut self, config: &C) {
        let mut checks = Checks::default();
        config.check(&mut checks);
        self.take(checks);
    }

    /// Keeps failures. Returns warnings, in the order of the file, each with its line.
    fn take(&mut self, checks: Checks) -> Vec<String> {
        for (key, reason) in checks.failures {
            let position = self.position_of(&key);
            let mistake = Mistake::BadValue { key, reason };
            self.problems.push(Problem { position, mistake });
        }
        let mut warnings: Vec<_> = checks
            .warnings
            .into_iter()
            .map(|(key, sentence)| (self.position_of(&key), sentence))
            .collect();
        warnings.sort_by_key(|(position, _)| *position);
        let with_line = |(position, sentence): (Option<Position>, String)| match position {
            Some(Position { line, .. }) => format!("line {line}: {sentence}"),
            None => sentence,
        };
        warnings.into_iter().map(with_line).collect()
    }

    /// Where a key stands, if the file sets it.
    fn position_of(&self, key: &str) -> Option<Position> {
        let offset = self.offsets.get(key)?;
        Some(self.position(*offset))
    }

    pub(crate) fn finish(mut self) -> Result<(), ConfigError> {
        if self.problems.is_empty() {
            return Ok(());
        }
        self.problems.sort_by_key(|problem| problem.position);
        Err(ConfigError {
            problems: self.problems,
        })
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
        .map(|known| (similarity(path, known), known))
        .filter(|(similarity, _)| *similarity >= SUGGESTION_SIMILARITY_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known.clone())
}

/// 1 for equal paths, 0 for those that have nothing in common. That two keys are of one section
/// makes them no more similar.
fn similarity(path: &str, known: &str) -> f64 {
    let section_and_name = |path| str::rsplit_once(path, '.').unwrap_or(("", path));
    let (section, name) = section_and_name(path);
    let (known_section, known_name) = section_and_name(known);
    let names = strsim::jaro_winkler(name, known_name);
    match section == known_section {
        true => names,
        false => names.min(strsim::jaro_winkler(section, known_section)),
    }
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

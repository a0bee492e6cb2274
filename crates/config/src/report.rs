//! What has been found out about a file so far.

use std::collections::BTreeMap;
use std::fmt::Display;

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeValue, ValueDeserializer};

use crate::explain::{Key, offered};
use crate::family::{ours, programs_with_key};
use crate::nearest::{LETTERS, SLIPS, section_and_name};
use crate::{Checks, Mistake, Position, Problem};

/// Collects problems, and what is needed to explain them.
#[derive(Debug, Default)]
pub(crate) struct Report<'text> {
    text: &'text str,
    problems: Vec<Problem>,
    /// Where each key that the file sets stands, in bytes from the start.
    pub(crate) offsets: BTreeMap<String, usize>,
    /// The values of keys that it leaves out, as they would stand in it.
    defaults: BTreeMap<String, String>,
    /// Names of today, and the former ones that the file uses instead.
    former_names: Vec<(String, String)>,
    pub(crate) known_keys: Vec<String>,
    /// Those that have one of some words, and how to find out which.
    words_of_keys: Vec<(String, Words)>,
    strange_words: Vec<StrangeWord>,
    pub(crate) known_sections: Vec<String>,
    pub(crate) unknown: Vec<Unknown>,
}

/// The words that a key can have; `None` if it can have anything else.
type Words = fn() -> Option<Vec<String>>;

/// A word that is none of those that its key can have.
#[derive(Debug)]
struct StrangeWord {
    word: String,
    path: String,
    /// The place of the complaint among the problems.
    problem: usize,
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

    /// Records that there is a key with values of this type.
    pub(crate) fn note_key<T: DeserializeOwned>(&mut self, path: &str) {
        self.known_keys.push(path.to_owned());
        self.words_of_keys.push((path.to_owned(), words::<T>));
    }

    /// Records that the file leaves a key out.
    pub(crate) fn note_default(&mut self, path: String, default: &impl Serialize) {
        // Where there is no file, nothing is left out of it.
        if self.text.trim().is_empty() {
            return;
        }
        if let Ok(default) = toml::Value::try_from(default) {
            self.defaults.insert(path, default.to_string());
        }
    }

    /// Records that the file calls a key or section by a former name.
    pub(crate) fn note_former_name(&mut self, old: &str, new: &str) {
        self.former_names.push((new.to_owned(), old.to_owned()));
    }

    /// The value of a key, unless it is a mistake.
    pub(crate) fn value<T: DeserializeOwned>(
        &mut self,
        key: &Key<'_>,
        value: Spanned<DeValue<'text>>,
    ) -> Option<T> {
        let offset = value.span().start;
        let text = value.get_ref().as_str().map(str::to_owned);
        let (offset, reason) = if is_beyond_toml(value.get_ref()) {
            (offset, format!("too large: at most {}", i64::MAX))
        } else {
            match deserialize(value.clone()) {
                Ok(value) => return Some(value),
                Err(error) => {
                    let offset = error.span().map_or(offset, |span| span.start);
                    let reason = match (&text, words::<T>()) {
                        (None, Some(words)) => key.explain_no_word(value, &words),
                        _ => key.explain(error.message(), text.as_deref()),
                    };
                    (offset, reason)
                }
            }
        };
        if let Some(word) = text {
            self.strange_words.push(StrangeWord {
                word,
                path: key.path.to_owned(),
                problem: self.problems.len(),
            });
        }
        let mistake = self.bad_value(key.path, &reason);
        self.add(offset, mistake);
        None
    }

    fn bad_value(&self, path: &str, reason: &str) -> Mistake {
        Mistake::BadValue {
            key: self.as_in_the_file(path),
            default: self.defaults.get(path).cloned(),
            reason: self.with_names_of_the_file(reason),
        }
    }

    /// The name that the file uses for a key.
    fn as_in_the_file(&self, path: &str) -> String {
        for (new, old) in &self.former_names {
            match path.strip_prefix(new.as_str()) {
                Some("") => return old.clone(),
                Some(key) if key.starts_with('.') => return format!("{old}{key}"),
                _ => {}
            }
        }
        path.to_owned()
    }

    /// A sentence in which keys stand between backticks.
    fn with_names_of_the_file(&self, sentence: &str) -> String {
        let part = |(index, part): (usize, &str)| match index % 2 {
            0 => part.to_owned(),
            _ => format!("`{}`", self.as_in_the_file(part)),
        };
        sentence.split('`').enumerate().map(part).collect()
    }

    /// To be called when every section has been read, so that a key in the wrong section is
    /// recognised, and a word that stands at the wrong key.
    pub(crate) fn explain_what_is_elsewhere(&mut self) {
        self.explain_strange_words();
        self.explain_unknown_names();
    }

    fn explain_strange_words(&mut self) {
        for StrangeWord {
            word,
            path,
            problem,
        } in std::mem::take(&mut self.strange_words)
        {
            let Some(key) = self.key_with_word(&path, &word) else {
                continue;
            };
            let hint = format!("; `{word}` is a value of `{}`", self.as_in_the_file(key));
            let problem = self.problems.get_mut(problem);
            if let Some(Mistake::BadValue { reason, .. }) = problem.map(|it| &mut it.mistake) {
                reason.push_str(&hint);
            }
        }
    }

    /// The key of the same section that can have this word: the only one, or the one that shares
    /// its name with `path`, which can have others.
    fn key_with_word(&self, path: &str, word: &str) -> Option<&str> {
        let word = word.to_lowercase();
        let own_words = self.words_of_keys.iter().find(|(known, _)| known == path);
        own_words.and_then(|(_, words)| words())?;
        let (section, name) = section_and_name(path);
        let others = self.words_of_keys.iter().filter(|(known, words)| {
            section_and_name(known).0 == section && words().is_some_and(|it| it.contains(&word))
        });
        let others: Vec<_> = others.map(|(known, _)| known.as_str()).collect();
        let is_of_one_name = |other: &&&str| {
            let (_, other) = section_and_name(other);
            begins_with_words(other, name) || begins_with_words(name, other)
        };
        match others.as_slice() {
            [only] => Some(only),
            others => others.iter().find(is_of_one_name).copied(),
        }
    }

    fn explain_unknown_names(&mut self) {
        for Unknown {
            path,
            is_section,
            offset,
        } in std::mem::take(&mut self.unknown)
        {
            let mistake = match is_section {
                true => self.unknown_section(path),
                false => self.unknown_key(path),
            };
            self.add(offset, mistake);
        }
    }

    fn unknown_key(&self, path: String) -> Mistake {
        let name = self.as_in_the_file(&path);
        let is_key = |name: &&str| self.known_keys.iter().any(|known| known == name);
        let suggestion = same_name(&path, &self.known_keys);
        if let (None, Some(programs)) = (&suggestion, programs_with_key(&path)) {
            return Mistake::OfAnotherProgram { name, programs };
        }
        let suggestion = suggestion
            .or_else(|| ours(&path).filter(is_key).map(str::to_owned))
            .or_else(|| misspelt(&path, &self.known_keys))
            .or_else(|| shortened(&path, &self.known_keys))
            .or_else(|| similar(&path, &self.known_keys))
            .map(|known| {
                let known_name = self.as_in_the_file(&known);
                // Moving the line to the right place is not the first thing that one thinks of.
                match path.contains('.') && !known.contains('.') {
                    true => format!("`{known_name}`, above all sections"),
                    false => format!("`{known_name}`"),
                }
            });
        Mistake::Unknown {
            what: "key",
            name,
            suggestion,
        }
    }

    fn unknown_section(&self, section: String) -> Mistake {
        let name = format!("[{section}]");
        let in_brackets = |section: &str| format!("`[{}]`", self.as_in_the_file(section));
        let suggestion = misspelt(&section, &self.known_sections)
            .or_else(|| similar(&section, &self.known_sections))
            .or_else(|| elsewhere(&section, &self.known_sections))
            .map(|known| in_brackets(&known))
            .or_else(|| {
                let (section, key) = key_instead_of(&section, &self.known_keys)?;
                Some(match section {
                    "" => format!("`{key}`, above all sections"),
                    section => format!("`{key}` in {}", in_brackets(section)),
                })
            });
        Mistake::Unknown {
            what: "section",
            name,
            suggestion,
        }
    }

    /// Whether nothing is known to be wrong with the file yet.
    pub(crate) fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    /// Records what checks have found wrong.
    pub(crate) fn add_failures(&mut self, checks: &mut Checks) {
        for (key, reason) in checks.failures.drain(..) {
            let position = self.position_of(&key);
            let mistake = self.bad_value(&key, &reason);
            self.problems.push(Problem { position, mistake });
        }
    }

    /// What is to be said of values that are used all the same, in the order of the file.
    pub(crate) fn warnings(&self, checks: &Checks) -> Vec<String> {
        let warnings = checks.warnings.iter();
        self.in_file_order(
            warnings.map(|(key, sentence)| (key, self.with_names_of_the_file(sentence))),
        )
    }

    /// What checks have found hardly meant, in the order of the file.
    pub(crate) fn advice(&self, checks: &Checks) -> Vec<String> {
        let advice = checks.advice.iter();
        self.in_file_order(advice.map(|(key, reason)| (key, self.bad_value(key, reason))))
    }

    /// Sentences about keys, each with its line.
    fn in_file_order<'k, S: Display>(
        &self,
        sentences: impl Iterator<Item = (&'k String, S)>,
    ) -> Vec<String> {
        let mut placed: Vec<_> = sentences
            .map(|(key, sentence)| (self.position_of(key), sentence))
            .collect();
        placed.sort_by_key(|(position, _)| *position);
        let with_line = |(position, sentence): (Option<Position>, S)| match position {
            Some(Position { line, .. }) => format!("line {line}: {sentence}"),
            None => sentence.to_string(),
        };
        placed.into_iter().map(with_line).collect()
    }

    /// Where a key stands, if the file sets it.
    fn position_of(&self, key: &str) -> Option<Position> {
        let offset = self.offsets.get(key)?;
        Some(self.position(*offset))
    }

    /// Everything that is wrong, in the order of the file.
    pub(crate) fn into_problems(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|problem| problem.position);
        self.problems
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

/// The only known key of the section whose name begins or ends with that of `path`, or the other
/// way round, by whole words: `endpoint_address` for `prometheus_endpoint_address`.
fn shortened(path: &str, known: &[String]) -> Option<String> {
    let (section, name) = section_and_name(path);
    let is_part = |part: &str, whole: &str| {
        let start = whole.strip_suffix(part);
        begins_with_words(whole, part) || start.is_some_and(|start| start.ends_with('_'))
    };
    let mut meant = known.iter().filter(|known| {
        let (known_section, known_name) = section_and_name(known);
        section == known_section && (is_part(name, known_name) || is_part(known_name, name))
    });
    let first = meant.next()?;
    meant.next().is_none().then(|| first.clone())
}

/// Whether `name` has these words at its beginning, and others after them.
fn begins_with_words(name: &str, words: &str) -> bool {
    let rest = name.strip_prefix(words);
    rest.is_some_and(|rest| rest.starts_with('_'))
}

/// The section and name of a known key whose name begins with that of an unknown section, if it is
/// in the same part of the file: `tls_certificate_path` of `[http.network]` for `[http.tls]`.
fn key_instead_of<'k>(section: &str, known: &'k [String]) -> Option<(&'k str, &'k str)> {
    let (parent, name) = section_and_name(section);
    known
        .iter()
        .map(|known| section_and_name(known))
        .find(|(known_section, known_name)| {
            let is_in_parent = known_section
                .strip_prefix(parent)
                .is_some_and(|rest| parent.is_empty() || rest.is_empty() || rest.starts_with('.'));
            is_in_parent && begins_with_words(known_name, name)
        })
}

/// A known section that is called the same, one level higher or deeper.
fn elsewhere(section: &str, known: &[String]) -> Option<String> {
    let higher = section.split_once('.').map(|(_, higher)| higher);
    let is_meant = |known: &&String| {
        let deeper = known.split_once('.').map(|(_, deeper)| deeper);
        higher == Some(known.as_str()) || deeper == Some(section)
    };
    known.iter().find(is_meant).cloned()
}

fn misspelt(path: &str, known: &[String]) -> Option<String> {
    let known = known.iter().map(String::as_str);
    SLIPS.nearest(path, known).map(str::to_owned)
}

fn similar(path: &str, known: &[String]) -> Option<String> {
    let known = known.iter().map(String::as_str);
    LETTERS.nearest(path, known).map(str::to_owned)
}

/// The words that a value of this type can be.
fn words<T: DeserializeOwned>() -> Option<Vec<String>> {
    let none = Spanned::new(0..0, DeValue::String("".into()));
    let refusal = T::deserialize(ValueDeserializer::from(none)).err()?;
    let words = offered(refusal.message())?;
    Some(words.map(str::to_owned).collect())
}

/// The value as this type. Words that stand for themselves (`"info"`) may be written in capitals.
fn deserialize<T: DeserializeOwned>(value: Spanned<DeValue<'_>>) -> Result<T, toml::de::Error> {
    let span = value.span();
    let lower_case = value.get_ref().as_str().map(str::to_lowercase);
    let refusal = match T::deserialize(ValueDeserializer::from(value)) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    let lower_case = lower_case.filter(|_| refusal.message().starts_with("unknown variant"));
    let value = lower_case.map(|text| Spanned::new(span, DeValue::String(text.into())));
    value
        .and_then(|value| T::deserialize(ValueDeserializer::from(value)).ok())
        .ok_or(refusal)
}

/// TOML promises 64 bits with a sign. The parser takes more, but could not print it again.
fn is_beyond_toml(value: &DeValue<'_>) -> bool {
    let DeValue::Integer(number) = value else {
        return false;
    };
    i64::from_str_radix(number.as_str(), number.radix()).is_err()
}

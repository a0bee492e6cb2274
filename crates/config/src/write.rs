//! A configuration as its operator reads it: described, and printed as a documented file.

use std::fmt::{self, Display, Formatter};

use serde::Serialize;

use crate::Section;

/// A section and what stands in it, as an operator reads it.
#[derive(Clone, Debug, PartialEq)]
pub struct SectionDescription {
    /// `network`, or `udp.network` for a section in another. Empty for the root of the file.
    pub path: String,
    /// The lines of its comment.
    pub docs: Vec<String>,
    /// Its keys, in the order in which they are printed.
    pub keys: Vec<KeyDescription>,
}

/// A key, as an operator reads it.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyDescription {
    /// Its name within the section.
    pub name: String,
    /// The lines of its comment.
    pub docs: Vec<String>,
    /// Its value as it stands in a file: in a default configuration, the default.
    pub value: Result<toml::Value, String>,
}

/// All sections with their keys and values: the root of the file, and then the others in the order
/// in which they are printed.
#[must_use]
pub fn describe<S: Section>(config: &S) -> Vec<SectionDescription> {
    let mut writer = Writer::new(String::new(), S::DOC);
    config.write(&mut writer);
    writer.finish()
}

/// The configuration as a file: each key with its comment above it, then its value.
///
/// What is printed loads again to the same configuration.
#[must_use]
pub fn to_documented_toml<S: Section>(config: &S) -> String {
    let sections = describe(config);
    let texts = sections.iter().map(SectionDescription::to_string);
    texts.collect::<Vec<_>>().join("\n")
}

/// Each key with its section (`limits.max_peers`) and its value, in the order in which they are
/// printed.
#[must_use]
pub fn values<S: Section>(config: &S) -> Vec<(String, toml::Value)> {
    let sections = describe(config).into_iter();
    let keys = sections.flat_map(|section| {
        let path = section.path;
        let keys = section.keys.into_iter();
        keys.filter_map(move |key| Some((joined(&path, &key.name), key.value.ok()?)))
    });
    keys.collect()
}

/// Collects what a [`Section`] says of itself.
#[derive(Debug)]
pub struct Writer {
    section: SectionDescription,
    /// Those within this one. They are printed after its keys: whatever follows a header belongs to
    /// that header's section.
    inner: Vec<SectionDescription>,
}

impl Writer {
    fn new(path: String, docs: &[&str]) -> Self {
        Self {
            section: SectionDescription {
                path,
                docs: owned(docs),
                keys: Vec::new(),
            },
            inner: Vec::new(),
        }
    }

    /// Takes down one key; `docs` are the lines of its comment.
    pub fn key<T: Serialize>(&mut self, docs: &[&str], name: &str, value: &T) {
        self.section.keys.push(KeyDescription {
            name: name.to_owned(),
            docs: owned(docs),
            // Only a number above 2^63 - 1, which TOML does not have and `load` refuses, cannot be
            // written.
            value: toml::Value::try_from(value).map_err(|error| error.to_string()),
        });
    }

    /// Takes down a section with its keys.
    pub fn section<S: Section>(&mut self, name: &str, section: &S) {
        let mut inner = Self::new(joined(&self.section.path, name), S::DOC);
        section.write(&mut inner);
        self.inner.extend(inner.finish());
    }

    fn finish(self) -> Vec<SectionDescription> {
        std::iter::once(self.section).chain(self.inner).collect()
    }
}

impl Display for SectionDescription {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&comment(&self.docs))?;
        match self.path.as_str() {
            "" => f.write_str("\n")?,
            path => writeln!(f, "[{path}]")?,
        }
        let keys: Vec<_> = self.keys.iter().map(KeyDescription::to_string).collect();
        f.write_str(&keys.join("\n"))
    }
}

impl Display for KeyDescription {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&comment(&self.docs))?;
        match &self.value {
            Ok(value) => writeln!(f, "{} = {value}", self.name),
            Err(error) => writeln!(f, "# {} cannot be written: {error}", self.name),
        }
    }
}

/// The name of a key or section in a section, with that in front.
fn joined(section: &str, name: &str) -> String {
    match section {
        "" => name.to_owned(),
        outer => format!("{outer}.{name}"),
    }
}

fn owned(docs: &[&str]) -> Vec<String> {
    docs.iter().map(|line| (*line).to_owned()).collect()
}

/// Lines of a doc comment begin with the space that follows the `///`.
fn comment(docs: &[String]) -> String {
    docs.iter().map(|line| format!("#{line}\n")).collect()
}

//! Printing a configuration as a documented file.

use serde::Serialize;

use crate::Section;

/// The configuration as a file: each key with its comment above it, then its value.
///
/// What is printed loads again to the same configuration.
#[must_use]
pub fn to_documented_toml<S: Section>(config: &S) -> String {
    let mut writer = Writer::default();
    config.write(&mut writer);
    format!("{}\n{}", comment(S::DOC), writer.finish())
}

/// Collects what a [`Section`] prints.
#[derive(Debug, Default)]
pub struct Writer {
    /// `None` for the root of the file.
    section: Option<String>,
    /// Printed first: whatever follows a header belongs to that header's section.
    keys: String,
    sections: String,
}

impl Writer {
    /// Writes one key; `docs` are the lines of its comment.
    pub fn key<T: Serialize>(&mut self, docs: &[&str], name: &str, value: &T) {
        let line = match toml::Value::try_from(value) {
            Ok(value) => format!("{name} = {value}\n"),
            // Only a number above 2^63 - 1, which TOML does not have and `load` refuses.
            Err(error) => format!("# {name} cannot be written: {error}\n"),
        };
        if !self.keys.is_empty() {
            self.keys.push('\n');
        }
        self.keys += &comment(docs);
        self.keys += &line;
    }

    /// Writes a section with its header.
    pub fn section<S: Section>(&mut self, name: &str, section: &S) {
        let path = match &self.section {
            Some(outer) => format!("{outer}.{name}"),
            None => name.to_owned(),
        };
        let header = format!("\n{}[{path}]\n", comment(S::DOC));
        let mut inner = Self {
            section: Some(path),
            ..Self::default()
        };
        section.write(&mut inner);
        self.sections += &header;
        self.sections += &inner.finish();
    }

    fn finish(self) -> String {
        self.keys + &self.sections
    }
}

/// Lines of a doc comment begin with the space that follows the `///`.
fn comment(docs: &[&str]) -> String {
    docs.iter().map(|line| format!("#{line}\n")).collect()
}

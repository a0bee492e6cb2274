//! Taking known keys out of a parsed table; what is left over is unknown.

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};

use crate::explain::Key;
use crate::report::{Report, Unknown};
use crate::{Mistake, Section};

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
        let root = Reader {
            section: None,
            table,
            report,
        };
        root.read()
    }

    /// Takes a key out of the table; a bad value is reported and replaced by the default. `docs`
    /// are the lines of its comment, which say what a value is measured in.
    pub fn key<T: DeserializeOwned + Serialize>(
        &mut self,
        docs: &[&str],
        name: &str,
        default: T,
    ) -> T {
        let path = self.path(name);
        self.report.note_key::<T>(&path);
        let Some((key, value)) = self.table.remove_entry(name) else {
            self.report.note_default(path, &default);
            return default;
        };
        self.report.offsets.insert(path.clone(), key.span().start);
        let key = Key::new(&path, docs, &default);
        self.report.value(&key, value).unwrap_or(default)
    }

    /// Takes a section out of the table. A section that is missing has all its defaults.
    pub fn section<S: Section>(&mut self, name: &str) -> S {
        let section = self.path(name);
        self.report.known_sections.push(section.clone());
        let mut table = DeTable::new();
        if let Some(value) = self.table.remove(name) {
            let offset = value.span().start;
            match value.into_inner() {
                DeValue::Table(present) => table = present,
                _ => self.report.add(
                    offset,
                    Mistake::NotASection {
                        section: section.clone(),
                    },
                ),
            }
        }
        let inner = Reader {
            section: Some(section),
            table,
            report: self.report,
        };
        inner.read()
    }

    fn read<S: Section>(mut self) -> S {
        let section = S::read(&mut self);
        for (name, value) in std::mem::take(&mut self.table) {
            let unknown = Unknown {
                path: self.path(name.get_ref()),
                is_section: matches!(value.get_ref(), DeValue::Table(_)),
                offset: name.span().start,
            };
            self.report.unknown.push(unknown);
        }
        section
    }

    /// The name of a key or section of this table, with this section in front.
    fn path(&self, name: &str) -> String {
        match &self.section {
            Some(section) => format!("{section}.{name}"),
            None => name.to_owned(),
        }
    }
}

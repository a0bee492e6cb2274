//! Keys of former versions that still load.
//!
//! The parsed file is rewritten before it is read, so that the rest of the program knows only
//! today's keys. Each rewrite leaves a warning that names what to write instead.

use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use crate::Mistake;
use crate::addresses::{DEFAULT_IPV4, DEFAULT_IPV6};
use crate::report::Report;

/// The parsed file, before it is read. Keys are named with their section: `network.address`.
#[derive(Debug)]
pub struct OldSpellings<'text, 'report> {
    root: DeTable<'text>,
    report: &'report mut Report<'text>,
    warnings: Vec<String>,
}

impl<'text, 'report> OldSpellings<'text, 'report> {
    pub(crate) fn new(root: DeTable<'text>, report: &'report mut Report<'text>) -> Self {
        Self {
            root,
            report,
            warnings: Vec::new(),
        }
    }

    pub(crate) fn finish(self) -> (DeTable<'text>, Vec<String>) {
        (self.root, self.warnings)
    }

    /// A key or a section has another name now.
    pub fn rename(&mut self, old: &str, new: &str) {
        if let Some(value) = self.take(old) {
            self.warn(value.span(), format!("`{old}` is now called `{new}`"));
            self.put(old, new, value);
        }
    }

    /// A key has another name now, and its value is one of a few words.
    pub fn replace<T: DeserializeOwned>(
        &mut self,
        old: &str,
        new: &str,
        word: impl FnOnce(T) -> &'static str,
    ) {
        let Some(value) = self.take(old) else { return };
        let span = value.span();
        if let Some(value) = self.report.value(old, value).map(word) {
            self.warn(
                span.clone(),
                format!("instead of `{old}`, write `{new} = {value:?}`"),
            );
            self.put(old, new, Spanned::new(span, DeValue::String(value.into())));
        }
    }

    /// A key or a section means nothing any more; `reason` completes "is ignored: ...".
    pub fn ignore(&mut self, old: &str, reason: &str) {
        if let Some(value) = self.take(old) {
            self.warn(value.span(), format!("`{old}` is ignored: {reason}"));
        }
    }

    /// `network.address` used to be one key per IP version, each with a switch that was on by
    /// default, and a switch for how IPv6 sockets treat IPv4.
    pub fn merge_network_addresses(&mut self) {
        for key in ["network.only_ipv6", "network.set_only_ipv6"] {
            self.ignore(
                key,
                "IPv6 addresses accept IPv6 only; to serve IPv4, add an IPv4 address to \
                 `network.address`",
            );
        }

        let mut first_old = None;
        let mut addresses = DeArray::new();
        for (switch, key, default) in [
            ("network.use_ipv4", "network.address_ipv4", DEFAULT_IPV4),
            ("network.use_ipv6", "network.address_ipv6", DEFAULT_IPV6),
        ] {
            let switched = self.take(switch);
            let address = self.take(key);
            for (name, value) in [(switch, &switched), (key, &address)] {
                if let Some(value) = value {
                    first_old.get_or_insert((name, value.span()));
                }
            }
            let wanted = switched.and_then(|value| self.report.value(switch, value));
            if wanted.unwrap_or(true) {
                addresses.push(address.unwrap_or_else(|| {
                    Spanned::new(0..0, DeValue::String(default.to_string().into()))
                }));
            }
        }

        if let Some((old, span)) = first_old {
            let words: Vec<_> = addresses
                .iter()
                .filter_map(|a| a.get_ref().as_str())
                .collect();
            self.warn(
                span.clone(),
                format!("instead of `{old}`, write `network.address = {words:?}`"),
            );
            self.put(
                old,
                "network.address",
                Spanned::new(span, DeValue::Array(addresses)),
            );
        }
    }

    /// Removes a key or section and gives back its value.
    fn take(&mut self, path: &str) -> Option<Spanned<DeValue<'text>>> {
        let (section, name) = split(path);
        match section {
            None => self.root.remove(name),
            Some(section) => match self.root.get_mut(section)?.get_mut() {
                DeValue::Table(table) => table.remove(name),
                // Reported when the section is read.
                _ => None,
            },
        }
    }

    /// Sets a key or section of today, unless the file sets it too.
    fn put(&mut self, old: &str, new: &str, value: Spanned<DeValue<'text>>) {
        let span = value.span();
        let (section, name) = split(new);
        let table = match section {
            None => &mut self.root,
            Some(section) => {
                let empty = || Spanned::new(span.clone(), DeValue::Table(DeTable::new()));
                let key = Spanned::new(span.clone(), section.to_owned().into());
                match self.root.entry(key).or_insert_with(empty).get_mut() {
                    DeValue::Table(table) => table,
                    // Reported when the section is read.
                    _ => return,
                }
            }
        };
        if table.contains_key(name) {
            let mistake = Mistake::BothSpellings {
                old: old.to_owned(),
                new: new.to_owned(),
            };
            self.report.add(span.start, mistake);
        } else {
            table.insert(Spanned::new(span, name.to_owned().into()), value);
        }
    }

    fn warn(&mut self, span: Range<usize>, sentence: String) {
        let line = self.report.position(span.start).line;
        self.warnings.push(format!("line {line}: {sentence}"));
    }
}

/// `network.address` → section and key.
fn split(path: &str) -> (Option<&str>, &str) {
    match path.rsplit_once('.') {
        Some((section, name)) => (Some(section), name),
        None => (None, path),
    }
}

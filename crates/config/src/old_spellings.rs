//! Keys of former versions that still load.
//!
//! The parsed file is rewritten before it is read, so that the rest of the program knows only
//! today's keys. Each rewrite leaves a warning that names what to write instead.

use std::net::{Ipv4Addr, SocketAddrV4, SocketAddrV6};
use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use crate::Mistake;
use crate::addresses::{DEFAULT_IPV4, DEFAULT_IPV6};
use crate::explain::Key;
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
        if let Some(value) = self.report.value(&Key::former(old), value).map(word) {
            self.warn(
                span.clone(),
                format!("instead of `{old}`, write `{new} = {value:?}`"),
            );
            self.put(old, new, Spanned::new(span, DeValue::String(value.into())));
        }
    }

    /// A key once took numbers below 0, and now takes none: `number` means what they meant.
    pub fn replace_negative(&mut self, key: &str, number: &'static str) {
        if self.integer(key).is_some_and(|old| old < 0) {
            self.replace_number(key, number, "too small");
        }
    }

    /// A key once took numbers of 64 bits, and now takes those of 32: `number`, the largest that it
    /// takes, stands for all beyond.
    pub fn replace_beyond_32_bits(&mut self, key: &str, number: &'static str) {
        if self.integer(key).is_some_and(|old| old > u32::MAX.into()) {
            self.replace_number(key, number, "too large");
        }
    }

    fn replace_number(&mut self, key: &str, number: &'static str, comparison: &str) {
        let old = self.integer(key);
        if let (Some(old), Some(value), Ok(new)) = (old, self.take(key), DeValue::parse(number)) {
            let span = value.span();
            let sentence = format!("`{key}` = {old} is {comparison}, {number} is used");
            self.warn(span.clone(), sentence);
            self.put(key, key, Spanned::new(span, new.into_inner()));
        }
    }

    /// The value of a key, if it is a number that TOML can hold.
    fn integer(&self, key: &str) -> Option<i64> {
        match self.get(key)?.get_ref() {
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        }
    }

    /// A key or a section means nothing any more; `reason` completes "is ignored: ...".
    pub fn ignore(&mut self, old: &str, reason: &str) {
        if let Some(value) = self.take(old) {
            self.warn(value.span(), format!("`{old}` is ignored: {reason}"));
        }
    }

    /// Keys that version 0.8 had for all trackers, and that have nothing left to say.
    pub fn ignore_keys_of_0_8(&mut self) {
        for (key, reason) in [
            (
                "cpu_pinning",
                "pin the process with taskset, or with CPUAffinity= of systemd",
            ),
            ("worker_channel_size", "workers pass requests on in batches"),
            (
                "request_channel_recv_timeout_ms",
                "a worker is woken by requests",
            ),
        ] {
            self.ignore(key, reason);
        }
    }

    /// `network.address` used to be one key per IP version, each with a switch that was on by
    /// default; `[::]` may stand for both IP versions, and `[::ffff:192.0.2.1]` is IPv4.
    pub fn merge_network_addresses(&mut self) {
        self.merge_addresses_of_families();
        self.unmap_ipv4_address();
        self.split_address_of_both_families();
    }

    fn merge_addresses_of_families(&mut self) {
        let mut first_old = None;
        let mut addresses = DeArray::new();
        let mut serves_ipv4 = true;
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
            let wanted = switched.and_then(|value| self.report.value(&Key::former(switch), value));
            if wanted.unwrap_or(true) {
                addresses.push(address.unwrap_or_else(|| {
                    Spanned::new(0..0, DeValue::String(default.to_string().into()))
                }));
            } else if default == DEFAULT_IPV4 {
                serves_ipv4 = false;
            }
        }

        let v6_is_only_v6 = self.take_set_only_ipv6();
        let Some((old, span)) = first_old else { return };
        let words: Vec<_> = addresses
            .iter()
            .filter_map(|a| a.get_ref().as_str())
            .collect();
        let mut today = format!("network.address = {words:?}");
        if !serves_ipv4 && v6_is_only_v6 {
            today += "` and `network.only_ipv6 = true";
            self.take("network.only_ipv6");
            let only = Spanned::new(span.clone(), DeValue::Boolean(true));
            self.put(old, "network.only_ipv6", only);
        }
        self.warn(span.clone(), format!("instead of `{old}`, write `{today}`"));
        let addresses = Spanned::new(span, DeValue::Array(addresses));
        self.put(old, "network.address", addresses);
    }

    /// Whether the IPv6 socket was to accept IPv6 only, which was so by default.
    fn take_set_only_ipv6(&mut self) -> bool {
        const KEY: &str = "network.set_only_ipv6";
        let Some(value) = self.take(KEY) else {
            return true;
        };
        self.warn(
            value.span(),
            format!(
                "`{KEY}` is ignored, unless it is false beside `network.use_ipv4 = false`: sockets \
                 of IPv6 accept IPv6 only"
            ),
        );
        self.report.value(&Key::former(KEY), value).unwrap_or(true)
    }

    /// `[::]` as the only address stands for IPv4, too, unless `network.only_ipv6` says no. It
    /// becomes two addresses, because an IPv6 socket accepts IPv6 only.
    fn split_address_of_both_families(&mut self) {
        let only_ipv6 = self.get("network.only_ipv6");
        // What is no boolean is reported when the section is read.
        if only_ipv6.is_some_and(|value| value.get_ref().as_bool() != Some(false)) {
            return;
        }
        let Some(value) = self.get("network.address") else {
            return;
        };
        let text = match value.get_ref() {
            DeValue::Array(list) if list.len() == 1 => {
                list.first().and_then(|a| a.get_ref().as_str())
            }
            value => value.as_str(),
        };
        let Some(Ok(v6)) = text.map(str::parse::<SocketAddrV6>) else {
            return;
        };
        if !v6.ip().is_unspecified() {
            return;
        }
        let span = value.span();
        let v4 = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, v6.port());
        let addresses = [v4.to_string(), v6.to_string()];
        self.warn(
            span.clone(),
            format!(
                "`{v6}` as the only address serves IPv4, too, as in aquatic 0.9: write \
                 `network.address = {addresses:?}`, or for IPv6 alone `network.only_ipv6 = true`"
            ),
        );
        self.take("network.address");
        let mut list = DeArray::new();
        for address in addresses {
            list.push(Spanned::new(span.clone(), DeValue::String(address.into())));
        }
        let list = Spanned::new(span, DeValue::Array(list));
        self.put("network.address", "network.address", list);
    }

    /// An IPv4-mapped address was served as what it is, IPv4, because the one socket of version 0.9
    /// accepted that, too. A list is of today, and is to say what it means.
    fn unmap_ipv4_address(&mut self) {
        const KEY: &str = "network.address";
        let text = self.get(KEY).and_then(|value| value.get_ref().as_str());
        let Some(Ok(mapped)) = text.map(str::parse::<SocketAddrV6>) else {
            return;
        };
        let Some(ip) = mapped.ip().to_ipv4_mapped() else {
            return;
        };
        let Some(value) = self.take(KEY) else { return };
        let span = value.span();
        let v4 = SocketAddrV4::new(ip, mapped.port()).to_string();
        let sentence = format!("`{mapped}` is an IPv4 address: write `{KEY} = {v4:?}`");
        self.warn(span.clone(), sentence);
        self.put(KEY, KEY, Spanned::new(span, DeValue::String(v4.into())));
    }

    /// The value of a key.
    fn get(&self, path: &str) -> Option<&Spanned<DeValue<'text>>> {
        let (section, name) = split(path);
        match section {
            None => self.root.get(name),
            Some(section) => self.root.get(section)?.get_ref().as_table()?.get(name),
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
            self.report.note_former_name(old, new);
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

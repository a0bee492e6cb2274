//! The list and its file format.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::{self, Debug, Display, Formatter};
use std::io::{self, BufRead, Read};
use std::num::NonZeroU32;
use std::sync::Arc;

use crate::active_peers::ActivePeers;
use crate::{EndDate, EndDateError};

/// The longest key. The keys of other trackers have 32 or 40 characters.
pub const KEY_BYTES_MAX: usize = 64;

/// Longer lines are of no list: see the access list.
pub const KEY_LINE_BYTES_MAX: usize = 4_096;

/// Some editors begin a file with a byte order mark, which no one can see.
const BYTE_ORDER_MARK: &str = "\u{feff}";

/// What an operator has said about a key.
#[derive(Clone, Debug, Default)]
pub struct Key {
    /// Peers that may be active under it, over all torrents; `None`: any number.
    pub peers_max: Option<NonZeroU32>,
    /// When it ends, if ever.
    pub until: Option<EndDate>,
    /// Whose it is: for people.
    pub name: Option<Box<str>>,
    /// Stay with the key when the list is replaced. Only if their number is limited.
    pub(crate) active: Option<Arc<ActivePeers>>,
}

/// Keys, each with what an operator has said about it.
///
/// About 130 bytes per key of 32 characters, and another 70 if its peers are limited; 24 to 31
/// bytes per active peer of those, and 160 for one alone (`examples/keys_memory.rs`).
#[derive(Clone, Default)]
pub struct KeyList {
    keys: HashMap<Box<str>, Key>,
    /// The peers of each key that has a limit, once the list is in use: these have an order, in
    /// which they can be looked at some at a time.
    limited: Box<[Arc<ActivePeers>]>,
}

impl KeyList {
    /// Reads one key per line: 1 to 64 letters and digits of ASCII, `-` and `_`, and behind it, in
    /// any order, `peers=N` (a limit), `until=DATE` ([`EndDate::parse`]) and `# NAME`.
    ///
    /// Blank lines, lines that start with `#`, white space around a line and either kind of line
    /// end are fine. A key is on one line only, since two could contradict each other.
    ///
    /// # Errors
    ///
    /// At the first line that is anything else, or cannot be read. The error has no part of a key.
    pub fn parse(mut reader: impl BufRead) -> Result<Self, KeyListError> {
        let mut list = Self::default();
        let mut line = Vec::new();
        for number in 1.. {
            let error = |kind| KeyListError { line: number, kind };
            line.clear();
            let limit = KEY_LINE_BYTES_MAX as u64 + 1;
            match reader.by_ref().take(limit).read_until(b'\n', &mut line) {
                Ok(0) => break,
                Ok(size) if size > KEY_LINE_BYTES_MAX && !line.ends_with(b"\n") => {
                    return Err(error(KeyListErrorKind::TooLong));
                }
                Ok(_) => {}
                Err(cause) => return Err(error(KeyListErrorKind::Read(cause))),
            }
            let Some((text, key)) = parse_line(&line).map_err(error)? else {
                continue;
            };
            if !list.add(text, key) {
                return Err(error(KeyListErrorKind::Twice));
            }
        }
        Ok(list)
    }

    /// Reads a single line, with its end or without. `None` if it is blank or a comment.
    ///
    /// # Errors
    /// If it is anything else. The error has no part of a key.
    pub fn parse_line(line: &[u8]) -> Result<Option<KeyEntry>, KeyListErrorKind> {
        let without_end = line.strip_suffix(b"\n").unwrap_or(line);
        if without_end.len() > KEY_LINE_BYTES_MAX {
            return Err(KeyListErrorKind::TooLong);
        }
        let entry = parse_line(line)?.map(|(text, key)| KeyEntry {
            text: text.into(),
            key,
        });
        Ok(entry)
    }

    /// Has a key as it is in `entry` from now on, whether it was there or not.
    pub fn put(&mut self, entry: KeyEntry) {
        self.keys.insert(entry.text, entry.key);
    }

    /// Removes a key. Returns whether it was there.
    pub fn remove(&mut self, text: &str) -> bool {
        self.keys.remove(text).is_some()
    }

    /// Adds a key, if the list does not have it. The text has to be [checked](check_key) before.
    fn add(&mut self, text: &str, key: Key) -> bool {
        match self.keys.entry(text.into()) {
            Entry::Occupied(_) => false,
            Entry::Vacant(vacant) => {
                vacant.insert(key);
                true
            }
        }
    }

    /// What has been said about a key, if the list has it.
    #[inline]
    #[must_use]
    pub fn get(&self, text: &[u8]) -> Option<&Key> {
        // A longer one is not hashed, so that its length costs nobody anything.
        let text = text.get(..=KEY_BYTES_MAX).is_none().then_some(text)?;
        self.keys.get(str::from_utf8(text).ok()?)
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Each key, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Key)> {
        self.keys.iter().map(|(text, key)| (&**text, key))
    }

    /// A peer has left a key, by the hash of the peer.
    pub(crate) fn leave(&self, text: &[u8], peer: u64) {
        if let Some(active) = self.get(text).and_then(|key| key.active.as_ref()) {
            active.remove(peer);
        }
    }

    /// Has each key go on with the peers that are active under it in `previous`. To be called when
    /// no one uses this list yet.
    pub(crate) fn go_on_from(&mut self, previous: &Self) {
        for (text, key) in &mut self.keys {
            let previous = previous.keys.get(text).and_then(|key| key.active.clone());
            if key.active.is_some() && previous.is_some() {
                key.active = previous;
            }
        }
        self.put_in_order();
    }

    /// To be called when no one uses this list yet.
    pub(crate) fn put_in_order(&mut self) {
        self.limited = self
            .keys
            .values()
            .filter_map(|key| key.active.clone())
            .collect();
    }

    /// The peers of keys with a limit.
    pub(crate) fn limited(&self) -> &[Arc<ActivePeers>] {
        &self.limited
    }
}

impl FromIterator<KeyEntry> for KeyList {
    /// Of entries with the same key, the last one is taken.
    fn from_iter<E: IntoIterator<Item = KeyEntry>>(entries: E) -> Self {
        let mut list = Self::default();
        entries.into_iter().for_each(|entry| list.put(entry));
        list
    }
}

/// A line of a list: a key, and what it says of it.
#[derive(Clone)]
pub struct KeyEntry {
    text: Box<str>,
    key: Key,
}

impl KeyEntry {
    /// The key itself, which is a secret.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether its line says what is known of `key`.
    #[must_use]
    pub fn says_of_it(&self, key: &Key) -> bool {
        let said = |key: &Key| (key.peers_max, key.until, key.name.clone());
        said(&self.key) == said(key)
    }

    /// The line, as [`Key::to_line`].
    #[must_use]
    pub fn to_line(&self) -> String {
        self.key.to_line(&self.text)
    }
}

impl Debug for KeyEntry {
    /// Keys are secrets.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("KeyEntry")
    }
}

impl Debug for KeyList {
    /// The length only: keys are secrets.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "KeyList({} keys)", self.len())
    }
}

impl Key {
    /// Appends what follows the key on its line.
    fn write_attributes(&self, out: &mut String) {
        if let Some(peers_max) = self.peers_max {
            out.push_str(&format!(" peers={peers_max}"));
        }
        if let Some(until) = self.until {
            out.push_str(" until=");
            out.push_str(&until.to_text());
        }
        if let Some(name) = &self.name {
            out.push_str(" # ");
            out.push_str(name);
        }
    }

    /// The line of a key, for [`KeyList::parse`].
    #[must_use]
    pub fn to_line(&self, text: &str) -> String {
        let mut line = text.to_owned();
        self.write_attributes(&mut line);
        line
    }
}

/// The key of a line, if it is not blank or a comment.
fn parse_line(line: &[u8]) -> Result<Option<(&str, Key)>, KeyListErrorKind> {
    let (said, name) = match line.iter().position(|byte| *byte == b'#') {
        Some(mark) => line.split_at_checked(mark).unwrap_or((line, b"")),
        None => (line, &b""[..]),
    };
    let said = str::from_utf8(said).map_err(|_| KeyListErrorKind::NotText)?;
    let said = said.strip_prefix(BYTE_ORDER_MARK).unwrap_or(said);
    let mut words = said.split_ascii_whitespace();
    let Some(text) = words.next() else {
        return Ok(None);
    };
    check_key(text)?;
    let mut key = Key::default();
    for (index, word) in words.enumerate() {
        let is_known = match word.split_once('=') {
            Some(("peers", number)) if key.peers_max.is_none() => {
                let number = number.parse().map_err(|_| KeyListErrorKind::Peers)?;
                key.peers_max = Some(number);
                key.active = Some(Arc::default());
                true
            }
            Some(("until", date)) if key.until.is_none() => {
                key.until = Some(EndDate::parse(date).map_err(KeyListErrorKind::Until)?);
                true
            }
            _ => false,
        };
        if !is_known {
            return Err(KeyListErrorKind::Word(index + 2));
        }
    }
    let name = String::from_utf8_lossy(name.strip_prefix(b"#").unwrap_or(name));
    let name = name.trim();
    key.name = (!name.is_empty()).then(|| name.into());
    Ok(Some((text, key)))
}

/// Whether a text can be a key.
fn check_key(text: &str) -> Result<(), KeyListErrorKind> {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if let Some(position) = text.bytes().position(|byte| !is_fine(byte)) {
        return Err(KeyListErrorKind::Character(position + 1));
    }
    if text.len() > KEY_BYTES_MAX {
        return Err(KeyListErrorKind::Length(text.len()));
    }
    match text {
        "announce" | "scrape" => Err(KeyListErrorKind::Reserved),
        _ => Ok(()),
    }
}

/// Why a file is no list of keys. The caller knows the file's name.
#[derive(Debug)]
pub struct KeyListError {
    /// Where: the first line is 1.
    pub line: u64,
    /// What is wrong there.
    pub kind: KeyListErrorKind,
}

/// What is wrong with a line of a list of keys.
#[derive(Debug)]
pub enum KeyListErrorKind {
    /// The key has so many characters.
    Length(usize),
    /// The character at this place, from 1, cannot be in a key.
    Character(usize),
    /// The key is a word of announce URLs.
    Reserved,
    /// An earlier line has the same key.
    Twice,
    /// `peers=` is not followed by a number.
    Peers,
    /// `until=` is not followed by a date.
    Until(EndDateError),
    /// The word at this place, from 1, is no attribute, or one that the line has already.
    Word(usize),
    /// It is longer than 4 KiB.
    TooLong,
    /// It is not even text: the file may be of another kind.
    NotText,
    /// It could not be read.
    Read(io::Error),
}

impl Display for KeyListError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.kind)
    }
}

impl Display for KeyListErrorKind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(length) => write!(
                f,
                "a key has up to {KEY_BYTES_MAX} characters, this has {length}"
            ),
            Self::Character(position) => write!(
                f,
                "character {position} of the key is none of A-Z, a-z, 0-9, - and _"
            ),
            Self::Reserved => {
                f.write_str("`announce` and `scrape` cannot be keys: announce URLs have them")
            }
            Self::Twice => f.write_str("an earlier line has the same key"),
            Self::Peers => {
                f.write_str("peers= wants a number of 1 or more; without it, there is no limit")
            }
            Self::Until(cause) => write!(f, "the value of until= is {cause}"),
            Self::Word(position) => write!(
                f,
                "word {position} is unknown or there twice: after the key, write peers=N, \
                 until=2027-01-31 or # NAME"
            ),
            Self::TooLong => write!(f, "longer than {KEY_LINE_BYTES_MAX} bytes"),
            Self::NotText => f.write_str("not UTF-8 text"),
            Self::Read(cause) => write!(f, "cannot be read: {cause}"),
        }
    }
}

/// No `source`: the cause is part of the message.
impl std::error::Error for KeyListError {}

#[cfg(test)]
mod tests;

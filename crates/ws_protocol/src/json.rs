//! Reads JSON (RFC 8259) in place.
//!
//! A message is checked to its end by the same pass that finds what is of interest in it, and what
//! is found is borrowed. So nothing is copied, and a value that is passed on unread, such as an
//! offer, is known to be valid JSON. Tolerated as by most readers: keys that repeat (the last one
//! counts) and escaped halves of surrogate pairs.

use std::iter;

use memchr::memchr2;

use crate::text::{Text, escaped};

/// How many arrays and objects may lie around a value of a message. An offer needs three; a stack
/// of this depth needs a few kilobytes.
pub const DEPTH_MAX: u32 = 32;

/// Why a text cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JsonError {
    /// Not JSON, or not the value that should stand there.
    Malformed,
    /// Nested deeper than [`DEPTH_MAX`].
    TooDeep,
}

/// Whether a text is JSON, of any kind, that could stand in a message as an offer or an answer.
#[must_use]
pub fn is_json(text: &str) -> bool {
    let mut reader = Reader::new(text);
    reader.value().is_ok() && reader.end().is_ok()
}

/// Reads a text from its start to its end. Whitespace before a token is read with it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    text: &'a str,
    /// What has not been read yet: the end of `text`.
    rest: &'a [u8],
    /// How many arrays and objects are open.
    depth: u32,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self {
            text,
            rest: text.as_bytes(),
            depth: 0,
        }
    }

    /// Reads the end of the text: there must be nothing but whitespace.
    pub(crate) fn end(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(JsonError::Malformed),
        }
    }

    /// Reads an object. `member` gets each key in turn, and has to read the value.
    pub(crate) fn members(
        &mut self,
        mut member: impl FnMut(&mut Self, Text<'a>) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        self.nested(b'{', b'}', |reader| {
            let key = reader.text()?;
            reader.require(b':')?;
            member(reader, key)
        })
    }

    /// Reads an array. `element` has to read each value in turn.
    pub(crate) fn elements(
        &mut self,
        element: impl FnMut(&mut Self) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        self.nested(b'[', b']', element)
    }

    /// Reads a value of any kind.
    pub(crate) fn value(&mut self) -> Result<Value<'a>, JsonError> {
        let first = self.peek();
        let start = self.position();
        match first {
            Some(b'"') => drop(self.text()?),
            Some(b'{') => self.members(|reader, _| reader.value().map(drop))?,
            Some(b'[') => self.elements(|reader| reader.value().map(drop))?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b'n') => self.literal(b"null")?,
            Some(b't') => self.literal(b"true")?,
            Some(b'f') => self.literal(b"false")?,
            _ => return Err(JsonError::Malformed),
        }
        Ok(Value(self.since(start)))
    }

    /// Whether an array (or an object) comes next, as its first byte tells.
    pub(crate) fn is_next(&mut self, first: u8) -> bool {
        self.peek() == Some(first)
    }

    /// Reads what lies between `open` and `close`, with commas between the items.
    fn nested(
        &mut self,
        open: u8,
        close: u8,
        mut item: impl FnMut(&mut Self) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        self.require(open)?;
        if self.depth == DEPTH_MAX {
            return Err(JsonError::TooDeep);
        }
        self.depth += 1;
        if !self.take(close) {
            item(self)?;
            while self.take(b',') {
                item(self)?;
            }
            self.require(close)?;
        }
        self.depth -= 1;
        Ok(())
    }

    /// Reads a string.
    fn text(&mut self) -> Result<Text<'a>, JsonError> {
        self.require(b'"')?;
        let start = self.position();
        while let Some(plain) = memchr2(b'"', b'\\', self.rest) {
            self.rest = self.rest.split_at(plain).1;
            let end = self.position();
            if self.skip(b"\"") {
                let text = self.text.get(start..end).unwrap_or_default();
                // A pass of its own is quicker than to look for control characters on the way.
                let lowest = text.bytes().fold(b' ', u8::min);
                return (lowest == b' ')
                    .then_some(Text(text))
                    .ok_or(JsonError::Malformed);
            }
            // Line ends are two.
            while self.escape()? {}
        }
        Err(JsonError::Malformed)
    }

    /// Reads an escaped character of a string, if one comes next.
    fn escape(&mut self) -> Result<bool, JsonError> {
        self.rest = match self.rest {
            [b'\\', letter, rest @ ..] if escaped(*letter).is_some() => rest,
            [b'\\', b'u', a, b, c, d, rest @ ..] if is_hex([*a, *b, *c, *d]) => rest,
            [b'\\', ..] => return Err(JsonError::Malformed),
            _ => return Ok(false),
        };
        Ok(true)
    }

    fn number(&mut self) -> Result<(), JsonError> {
        self.skip(b"-");
        let first = self.rest.first();
        let integer_digits = self.digits()?;
        if first == Some(&b'0') && integer_digits > 1 {
            return Err(JsonError::Malformed);
        }
        if self.skip(b".") {
            self.digits()?;
        }
        if self.skip(b"eE") {
            self.skip(b"+-");
            self.digits()?;
        }
        Ok(())
    }

    /// Reads one digit or more, and counts them.
    fn digits(&mut self) -> Result<usize, JsonError> {
        let before = self.rest.len();
        while self.skip(b"0123456789") {}
        match before - self.rest.len() {
            0 => Err(JsonError::Malformed),
            count => Ok(count),
        }
    }

    fn literal(&mut self, name: &[u8]) -> Result<(), JsonError> {
        self.rest = self.rest.strip_prefix(name).ok_or(JsonError::Malformed)?;
        Ok(())
    }

    /// Reads one of `bytes` if it comes next, without whitespace before it.
    fn skip(&mut self, bytes: &[u8]) -> bool {
        match self.rest {
            [first, rest @ ..] if bytes.contains(first) => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// Reads `byte` if it comes next.
    fn take(&mut self, byte: u8) -> bool {
        self.peek() == Some(byte) && self.skip(&[byte])
    }

    fn require(&mut self, byte: u8) -> Result<(), JsonError> {
        self.take(byte).then_some(()).ok_or(JsonError::Malformed)
    }

    /// The next byte that is not whitespace.
    fn peek(&mut self) -> Option<u8> {
        loop {
            match self.rest {
                [b' ' | b'\t' | b'\r' | b'\n', rest @ ..] => self.rest = rest,
                rest => return rest.first().copied(),
            }
        }
    }

    /// How many bytes have been read.
    fn position(&self) -> usize {
        self.text.len() - self.rest.len()
    }

    /// What has been read since there was an ASCII character at `start`.
    fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.position()).unwrap_or_default()
    }
}

/// A value as it stands in a message, known to be valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Value<'a>(&'a str);

impl<'a> Value<'a> {
    /// The value as it stands.
    pub(crate) fn json(self) -> &'a str {
        self.0
    }

    /// `None` for null, which says no more than no value.
    pub(crate) fn unless_null(self) -> Option<Self> {
        (self.0 != "null").then_some(self)
    }

    pub(crate) fn is_array(self) -> bool {
        self.0.starts_with('[')
    }

    /// What lies between the quotes of a string.
    pub(crate) fn text(self) -> Option<Text<'a>> {
        let text = self.0.strip_prefix('"')?.strip_suffix('"')?;
        Some(Text(text))
    }

    /// The 20 bytes that a string stands for.
    pub(crate) fn bytes_20(self) -> Option<[u8; 20]> {
        self.text()?.bytes_20()
    }

    /// A number, or the number that a string consists of: without its fraction, and `u64::MAX` if
    /// it is larger than that. `None` if it is negative.
    pub(crate) fn number(self) -> Option<u64> {
        let digits = self.text().map_or(self.0, |text| text.0);
        if let Ok(number) = digits.parse() {
            return Some(number);
        }
        let number: f64 = digits.parse().ok()?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "saturates, and negative numbers do not get here"
        )]
        (number >= 0.0).then_some(number as u64)
    }

    /// The values of an array; none of any other value.
    pub(crate) fn elements(self) -> impl Iterator<Item = Value<'a>> + Clone {
        let mut reader = Reader::new(self.0);
        let mut has_more = reader.take(b'[');
        iter::from_fn(move || {
            let value = has_more.then(|| reader.value().ok())??;
            has_more = reader.take(b',');
            Some(value)
        })
    }
}

fn is_hex(digits: [u8; 4]) -> bool {
    digits.iter().all(u8::is_ascii_hexdigit)
}

//! Reads bencoded values in place (BEP 3).
//!
//! Tolerant towards other trackers: keys need not be sorted, and may repeat. A value is read on
//! demand, from bytes whose structure was checked when the value around it was read. Nothing
//! recurses, so that nesting cannot exhaust the stack.

use crate::parameters::append_digit;

/// A value; strings, lists and dictionaries lie where they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// Beyond 64 bits: the nearest number that is not.
    Integer(i64),
    Bytes(&'a [u8]),
    List(List<'a>),
    Dictionary(Dictionary<'a>),
}

/// The values of a list, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct List<'a>(Reader<'a>);

/// The keys and values of a dictionary, in the order in which they lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dictionary<'a>(Reader<'a>);

/// Reads the dictionary at the start of `bytes`; `None` if there is none, or not all of it. What
/// follows it is ignored: some trackers end their answers with a line end.
pub(crate) fn read_dictionary<'a>(
    bytes: &'a [u8],
    mut note: impl FnMut(&'a [u8], Value<'a>),
) -> Option<()> {
    let mut reader = Reader(bytes);
    let Token::DictionaryStart = reader.token()? else {
        return None;
    };
    loop {
        match reader.token()? {
            Token::Bytes(key) => note(key, reader.value()?),
            Token::End => return Some(()),
            _ => return None,
        }
    }
}

impl<'a> Iterator for List<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        self.0.value()
    }
}

impl<'a> Iterator for Dictionary<'a> {
    type Item = (&'a [u8], Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        match self.0.token()? {
            Token::Bytes(key) => Some((key, self.0.value()?)),
            _ => None,
        }
    }
}

enum Token<'a> {
    Integer(i64),
    Bytes(&'a [u8]),
    ListStart,
    DictionaryStart,
    End,
}

/// The bytes that have not been read yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn value(&mut self) -> Option<Value<'a>> {
        match self.token()? {
            Token::Integer(number) => Some(Value::Integer(number)),
            Token::Bytes(bytes) => Some(Value::Bytes(bytes)),
            Token::ListStart => self.contents().map(List).map(Value::List),
            Token::DictionaryStart => self.contents().map(Dictionary).map(Value::Dictionary),
            Token::End => None,
        }
    }

    /// What lies between the start that was just read and its end.
    fn contents(&mut self) -> Option<Self> {
        let from_start = self.0;
        let mut depth = 1_usize;
        loop {
            let size = from_start.len() - self.0.len();
            match self.token()? {
                Token::ListStart | Token::DictionaryStart => depth += 1,
                Token::End if depth == 1 => return from_start.get(..size).map(Self),
                Token::End => depth -= 1,
                Token::Integer(_) | Token::Bytes(_) => {}
            }
        }
    }

    fn token(&mut self) -> Option<Token<'a>> {
        let (first, rest) = self.0.split_first()?;
        match first {
            b'i' => {
                let (is_negative, digits) = match rest.strip_prefix(b"-") {
                    Some(digits) => (true, digits),
                    None => (false, rest),
                };
                let (number, rest) = split_number(digits, b'e')?;
                self.0 = rest;
                let number = i64::try_from(number).unwrap_or(i64::MAX);
                Some(Token::Integer(if is_negative { -number } else { number }))
            }
            b'0'..=b'9' => {
                let (size, rest) = split_number(self.0, b':')?;
                let (bytes, rest) = rest.split_at_checked(usize::try_from(size).ok()?)?;
                self.0 = rest;
                Some(Token::Bytes(bytes))
            }
            b'l' | b'd' | b'e' => {
                self.0 = rest;
                Some(match first {
                    b'l' => Token::ListStart,
                    b'd' => Token::DictionaryStart,
                    _ => Token::End,
                })
            }
            _ => None,
        }
    }
}

/// The number whose digits come first, `u64::MAX` if it is larger, and what follows its end.
fn split_number(mut bytes: &[u8], end: u8) -> Option<(u64, &[u8])> {
    let digits_and_rest = bytes;
    let mut number = 0;
    while let [digit @ b'0'..=b'9', rest @ ..] = bytes {
        number = append_digit(number, *digit);
        bytes = rest;
    }
    let (first, rest) = bytes.split_first()?;
    let is_number = bytes.len() < digits_and_rest.len();
    (is_number && *first == end).then_some((number, rest))
}

/// An integer that counts something: negative ones become 0, larger ones `u32::MAX`.
pub(crate) fn count(integer: i64) -> u32 {
    u32::try_from(integer.max(0)).unwrap_or(u32::MAX)
}

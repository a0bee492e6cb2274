//! Reads bencoded values in place (BEP 3).
//!
//! Tolerant towards other trackers: keys need not be sorted, and may repeat. A value is read on
//! demand, from bytes whose structure was checked when the value around it was read. Nothing
//! recurses, so that nesting cannot exhaust the stack.

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

impl<'a> Value<'a> {
    /// Reads the value at the start of `bytes`; `None` if there is none. What follows is ignored:
    /// some trackers end their answers with a line end.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        Reader(bytes).value()
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
                let (digits, rest) = split_once(rest, b'e')?;
                self.0 = rest;
                integer(digits).map(Token::Integer)
            }
            b'0'..=b'9' => {
                let (digits, rest) = split_once(self.0, b':')?;
                let size = usize::try_from(integer(digits)?).ok()?;
                let (bytes, rest) = rest.split_at_checked(size)?;
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

fn split_once(bytes: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    // Numbers are short: farther away, there is no end of one.
    let size = bytes.iter().take(32).position(|byte| *byte == separator)?;
    let (before, after) = bytes.split_at_checked(size)?;
    Some((before, after.get(1..)?))
}

fn integer(text: &[u8]) -> Option<i64> {
    let (is_negative, digits) = match text.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let size = i64::try_from(crate::parameters::number(digits)?).unwrap_or(i64::MAX);
    Some(if is_negative { -size } else { size })
}

/// An integer that counts something: negative ones become 0, larger ones `u32::MAX`.
pub(crate) fn count(integer: i64) -> u32 {
    u32::try_from(integer.max(0)).unwrap_or(u32::MAX)
}

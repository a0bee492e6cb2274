//! Reads bencoded answers (BEP 3), as strictly as the strictest client.
//!
//! Written for the tests alone, so that an error in the daemons' own codec cannot hide itself.

use std::iter;

/// A bencoded value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `i-1e`
    Integer(i64),
    /// `2:ab`
    Bytes(Vec<u8>),
    /// `l...e`
    List(Vec<Value>),
    /// `d...e`, in its order.
    Dictionary(Vec<(Vec<u8>, Value)>),
}

impl Value {
    /// Reads one value and nothing after it. Keys must be sorted and there only once; numbers must
    /// have no zeros in front.
    ///
    /// # Errors
    /// What is wrong, and with how much left to read.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let mut rest = bytes;
        let value = Self::take(&mut rest)
            .map_err(|wrong| format!("{wrong}, before {:?}", rest.escape_ascii().to_string()))?;
        if rest.is_empty() {
            Ok(value)
        } else {
            Err(format!("followed by {:?}", rest.escape_ascii().to_string()))
        }
    }

    fn take(rest: &mut &[u8]) -> Result<Self, &'static str> {
        match rest.first() {
            Some(b'i') => {
                *rest = &rest[1..];
                Ok(Self::Integer(take_number(rest, b'e')?))
            }
            Some(b'l') => {
                *rest = &rest[1..];
                let items = iter::from_fn(|| (!take_end(rest)).then(|| Self::take(rest)));
                Ok(Self::List(items.collect::<Result<_, _>>()?))
            }
            Some(b'd') => {
                *rest = &rest[1..];
                let mut pairs: Vec<(Vec<u8>, Self)> = Vec::new();
                while !take_end(rest) {
                    let key = take_bytes(rest)?;
                    if pairs.last().is_some_and(|(last, _)| *last >= key) {
                        return Err("keys are not sorted");
                    }
                    pairs.push((key, Self::take(rest)?));
                }
                Ok(Self::Dictionary(pairs))
            }
            _ => Ok(Self::Bytes(take_bytes(rest)?)),
        }
    }

    /// The keys of a dictionary.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        let Self::Dictionary(pairs) = self else {
            panic!("not a dictionary: {self:?}");
        };
        let key = |(key, _): &(Vec<u8>, _)| key.escape_ascii().to_string();
        pairs.iter().map(key).collect()
    }

    /// What a dictionary has at this key.
    #[must_use]
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<&Self> {
        let Self::Dictionary(pairs) = self else {
            panic!("not a dictionary: {self:?}");
        };
        let pair = pairs.iter().find(|pair| pair.0 == key.as_ref());
        pair.map(|pair| &pair.1)
    }

    /// The number at this key, which must be there.
    #[track_caller]
    #[must_use]
    pub fn integer(&self, key: &str) -> i64 {
        match self.get(key) {
            Some(Self::Integer(number)) => *number,
            _ => panic!("no number {key} in {self:?}"),
        }
    }

    /// The string at this key, if there is one.
    #[must_use]
    pub fn bytes(&self, key: &str) -> Option<&[u8]> {
        match self.get(key) {
            Some(Self::Bytes(bytes)) => Some(bytes),
            _ => None,
        }
    }
}

fn take_end(rest: &mut &[u8]) -> bool {
    let is_end = rest.first() == Some(&b'e');
    if is_end {
        *rest = &rest[1..];
    }
    is_end
}

fn take_bytes(rest: &mut &[u8]) -> Result<Vec<u8>, &'static str> {
    let size = usize::try_from(take_number(rest, b':')?).map_err(|_| "a negative size")?;
    let (bytes, after) = rest.split_at_checked(size).ok_or("too few bytes")?;
    *rest = after;
    Ok(bytes.to_vec())
}

fn take_number(rest: &mut &[u8], end: u8) -> Result<i64, &'static str> {
    let size = rest.iter().position(|byte| *byte == end);
    let (digits, after) = rest.split_at(size.ok_or("a number does not end")?);
    let text = str::from_utf8(digits).map_err(|_| "not a number")?;
    let number: i64 = text.parse().map_err(|_| "not a number")?;
    if number.to_string() != text {
        return Err("a number with something in front");
    }
    *rest = &after[1..];
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_right_is_read() {
        let value = Value::read(b"d1:ai-3e2:bcl2:xyd0:i0eeee").unwrap();
        assert_eq!(value.keys(), ["a", "bc"]);
        assert_eq!(value.integer("a"), -3);
        let inner = Value::Dictionary(vec![(Vec::new(), Value::Integer(0))]);
        let list = Value::List(vec![Value::Bytes(b"xy".to_vec()), inner]);
        assert_eq!(value.get("bc"), Some(&list));
        assert_eq!(value.bytes("a"), None);
    }

    #[test]
    fn what_is_wrong_is_not() {
        for wrong in [
            "",
            "i1",
            "i01e",
            "i-0e",
            "i+1e",
            "ie",
            "i1ee",
            "2:a",
            "-1:",
            "02:ab",
            "l",
            "d1:a",
            "di1ei2ee",
            "d1:bi1e1:ai1ee",
            "d1:ai1e1:ai1ee",
            "i1e\r\n",
        ] {
            assert!(Value::read(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
    }
}

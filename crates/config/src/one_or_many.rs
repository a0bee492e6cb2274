//! Values that are one text or a list of texts.

use std::fmt::{self, Formatter};

use serde::de::{Error, SeqAccess, Visitor};

/// Reads one text, or a list of them. Holds what is said to be expected where anything else stands.
#[derive(Clone, Copy, Debug)]
pub struct OneOrMany(pub &'static str);

impl<'de> Visitor<'de> for OneOrMany {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Vec<String>, E> {
        Ok(vec![text.to_owned()])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<String>, A::Error> {
        let mut texts = Vec::new();
        while let Some(text) = list.next_element()? {
            texts.push(text);
        }
        Ok(texts)
    }
}

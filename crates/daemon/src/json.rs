//! JSON (RFC 8259): the little that answers need, and what a body costs before it is read.

use std::fmt::Write;

/// A string, with its quotes.
#[must_use]
pub fn string(text: &str) -> String {
    let mut json = String::with_capacity(text.len() + 2);
    json.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => json.extend(['\\', character]),
            '\n' => json.push_str("\\n"),
            control if control < ' ' => {
                // Writing to a string does not fail.
                let _ = write!(json, "\\u{:04x}", u32::from(control));
            }
            other => json.push(other),
        }
    }
    json.push('"');
    json
}

/// An array of what is JSON already.
#[must_use]
pub fn array(items: impl IntoIterator<Item = String>) -> String {
    let items: Vec<_> = items.into_iter().collect();
    format!("[{}]", items.join(","))
}

/// How much a reader of JSON would make a note of in `text`: brackets, commas, colons and quotes
/// outside of strings, and words. It takes many bytes of memory for each of them, before it looks
/// whether they are in order.
#[must_use]
pub fn marks(text: &[u8]) -> usize {
    let (mut is_in_string, mut is_in_word, mut is_escaped) = (false, false, false);
    let mut count = 0;
    for byte in text {
        let is_quote = *byte == b'"' && !is_escaped;
        is_escaped = *byte == b'\\' && !is_escaped;
        let is_sign = matches!(byte, b',' | b':' | b'[' | b']' | b'{' | b'}');
        let is_of_word = !is_quote && !is_sign && !byte.is_ascii_whitespace();
        let is_outside = is_sign || is_of_word && !is_in_word;
        count += usize::from(is_quote || is_outside && !is_in_string);
        is_in_string ^= is_quote;
        is_in_word = is_of_word;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_reader_notes_is_counted() {
        for (text, count) in [
            ("", 0),
            ("  \n", 0),
            ("[]", 2),
            ("[\"a b, [c]\", 17 ,true]", 8),
            ("{\"a\":1}", 6),
            (r#"["a\",b\\", 1]"#, 6),
            (r#"\"1 \"1"#, 2),
            ("\"\"\"", 3),
        ] {
            assert_eq!(marks(text.as_bytes()), count, "{text}");
        }
    }

    #[test]
    fn what_has_a_meaning_in_json_is_escaped() {
        assert_eq!(string("a\"b\\c\nd\u{1}é"), r#""a\"b\\c\nd\u0001é""#);
        assert_eq!(array(["1".to_owned(), string("x")]), r#"[1,"x"]"#);
        assert_eq!(array([]), "[]");
    }
}

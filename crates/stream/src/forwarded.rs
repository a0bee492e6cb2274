//! The header `Forwarded` (RFC 7239): what proxies say about the way of a request.
//!
//! ```text
//! Forwarded: for=203.0.113.9;proto=https, for="[2001:db8::17]:4711";by=_proxy
//! ```

use std::iter;

/// Who each proxy has seen, in the order of the line: the value of `for` in each element. `None`
/// for an element that does not say it, or not once.
///
/// Where the grammar is broken, the rest of the line is one such element: a client can begin a
/// string that the text of the next proxy ends, so nothing behind that can be relied upon.
pub(crate) fn forwarded_for(line: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    let mut rest = Some(line);
    iter::from_fn(move || {
        let Element { node, after } = read_element(rest?).unwrap_or_default();
        rest = after;
        Some(node)
    })
}

#[derive(Default)]
struct Element<'a> {
    /// The value of `for`, if it is there once.
    node: Option<&'a [u8]>,
    /// The list behind it.
    after: Option<&'a [u8]>,
}

/// The first element of a list. `None`: the grammar is broken.
fn read_element(mut text: &[u8]) -> Option<Element<'_>> {
    let mut node = None;
    let mut is_clear = true;
    loop {
        text = text.trim_ascii_start();
        // An element may have no parameters, or not one between two semicolons.
        if !matches!(text, [] | [b',' | b';', ..]) {
            let equals = text.iter().position(|byte| *byte == b'=')?;
            let (name, rest) = text.split_at(equals);
            if !name.iter().all(|byte| is_plain(*byte)) {
                return None;
            }
            let (value, rest) = read_value(rest.get(1..)?)?;
            if name.eq_ignore_ascii_case(b"for") {
                is_clear = node.replace(value).is_none();
            }
            text = rest.trim_ascii_start();
        }
        let node = node.filter(|_| is_clear);
        let after = match text {
            [] => None,
            [b',', rest @ ..] => Some(rest),
            [b';', rest @ ..] => {
                text = rest;
                continue;
            }
            _ => return None,
        };
        return Some(Element { node, after });
    }
}

/// A token or a quoted string, and what follows it. Escapes stay as they are: no address has any.
fn read_value(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let Some(quoted) = text.strip_prefix(b"\"") else {
        let size = text.iter().position(|byte| !is_plain(*byte));
        return text.split_at_checked(size.unwrap_or(text.len()));
    };
    let mut is_escaped = false;
    let size = quoted.iter().position(|byte| {
        let ends = *byte == b'"' && !is_escaped;
        is_escaped = *byte == b'\\' && !is_escaped;
        ends
    })?;
    Some((quoted.get(..size)?, quoted.get(size + 1..)?))
}

/// Whether a byte may stand outside of quotes. That includes those of addresses and ports, which
/// should be quoted (RFC 7239, 4) and not always are.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"\",;=\\".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nodes(line: &str) -> Vec<Option<&str>> {
        let nodes = forwarded_for(line.as_bytes());
        nodes
            .map(|node| node.map(|it| str::from_utf8(it).unwrap()))
            .collect()
    }

    #[test]
    fn each_element_has_a_node() {
        for (line, expected) in [
            ("for=a", &[Some("a")][..]),
            (
                "FOR=a ; by=b , proto=http;for=\"[::1]:80\"",
                &[Some("a"), Some("[::1]:80")],
            ),
            ("for=[::1]:80;by=x,for=c", &[Some("[::1]:80"), Some("c")]),
            ("for=\"a,b;c\",for=d", &[Some("a,b;c"), Some("d")]),
            ("for=\"a\\\"\",for=d", &[Some("a\\\""), Some("d")]),
            ("for=;;;by=,,for=a;", &[Some(""), None, Some("a")]),
            ("for=a;for=b,for=c", &[None, Some("c")]),
            ("", &[None]),
            ("by=a", &[None]),
            ("a", &[None]),
            ("for=a,for=\"b,for=c", &[Some("a"), None]),
            ("for=a,for=\"b\"x,for=c", &[Some("a"), None]),
            ("for=a,for=b=c,for=c", &[Some("a"), None]),
            ("for=a,f\"or=b,for=c", &[Some("a"), None]),
        ] {
            assert_eq!(nodes(line), expected, "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_line_has_an_end(line in prop::collection::vec(any::<u8>(), 0..200)) {
            let commas = line.iter().filter(|byte| **byte == b',').count();
            let nodes = forwarded_for(&line).count();
            prop_assert!((1..=commas + 1).contains(&nodes));
        }
    }
}

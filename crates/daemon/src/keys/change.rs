//! What an operator asks to be changed in the keys, from JSON. Pure.

use std::collections::HashMap;

use aquatic_keys::{KEY_LINE_BYTES_MAX, KeyEntry, KeyList, KeyListErrorKind};

use crate::edited_list::order::{self, Form, Mistakes, Place};
use crate::json;

/// What [`json::marks`] counts of a key in a list: a comma and two quotes.
const ENTRY_MARKS: usize = 3;

/// So many short keys can be in one request.
const SHORT_KEYS_MAX: usize = 65_536;

/// A body with more of them has this many bytes for each, with quotes and a comma: keys of usual
/// length. What is read of it would take many times its size in memory otherwise.
const ENTRY_BYTES: usize = 18;

const EXAMPLE: &str = "send an object such as \
                       {\"add\": [\"KEY peers=50 until=2027-01-31 # NAME\"], \
                       \"remove\": [\"KEY\"], \"write\": true}, or {\"replace\": [\"KEY\"]}";

const FORM: Form<Placed> = Form {
    example: EXAMPLE,
    entries: "a key or a list of them, as strings with what a line may have",
    parse: parse_entry,
    is_secret: true,
};

/// None is twice in one.
pub(super) type Change = order::Change<KeyEntry>;
pub(super) type Order = order::Order<KeyEntry>;

type Placed = (Place, KeyEntry);

/// Reads the body of a request, which is of no use afterwards.
///
/// # Errors
/// All that is wrong with it, up to some mistakes. No part of a key is told.
pub(super) fn parse(body: &mut [u8]) -> Result<Order, String> {
    let entries_max = body.len() / ENTRY_BYTES + SHORT_KEYS_MAX;
    if json::marks(body) > entries_max * ENTRY_MARKS {
        return Err(format!(
            "this is no list of keys, or has too many short ones: {EXAMPLE}"
        ));
    }
    let mut mistakes = Mistakes::default();
    let order = FORM.read(body, &mut mistakes)?;
    let change = match order.change {
        order::Change::Replace(entries) => {
            let [entries] = require_different([entries], &mut mistakes);
            Change::Replace(entries)
        }
        order::Change::Edit { add, remove } => {
            let [add, remove] = require_different([add, remove], &mut mistakes);
            Change::Edit { add, remove }
        }
    };
    mistakes.into_result()?;
    let write = order.write;
    Ok(Order { change, write })
}

fn parse_entry(text: &str, place: Place) -> Result<Placed, String> {
    // It is written to a file, where it would be another line.
    if text.contains(char::is_control) {
        return Err("a line of the file cannot have this (a line end or a tab)".to_owned());
    }
    match KeyList::parse_line(text.as_bytes()) {
        // It is written with spaces where it may have none, so it can have become longer.
        Ok(Some(entry)) if entry.to_line().len() > KEY_LINE_BYTES_MAX => {
            Err(KeyListErrorKind::TooLong.to_string())
        }
        Ok(Some(entry)) => Ok((place, entry)),
        Ok(None) => Err("there is no key".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// No key may be there twice: it would depend on the order what is said about it.
fn require_different<const LISTS: usize>(
    lists: [Vec<Placed>; LISTS],
    mistakes: &mut Mistakes,
) -> [Vec<KeyEntry>; LISTS] {
    let mut seen = HashMap::new();
    for (place, entry) in lists.iter().flatten() {
        if let Some(first) = seen.insert(entry.text(), *place) {
            mistakes.add(*place, format!("the same key as {first}"));
        }
    }
    lists.map(|list| list.into_iter().map(|(_, entry)| entry).collect())
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> Result<Order, String> {
        parse(&mut text.as_bytes().to_vec())
    }

    fn lines(entries: &[KeyEntry]) -> Vec<String> {
        entries.iter().map(KeyEntry::to_line).collect()
    }

    #[track_caller]
    fn assert_edit(text: &str, add: &[&str], remove: &[&str], write: bool) {
        let order = parsed(text).unwrap();
        let Change::Edit {
            add: added,
            remove: removed,
        } = order.change
        else {
            panic!("{text}");
        };
        assert_eq!(lines(&added), add, "{text}");
        assert_eq!(lines(&removed), remove, "{text}");
        assert_eq!(order.write, write, "{text}");
    }

    #[test]
    fn one_or_many_keys_are_read() {
        assert_edit(r#"{"add": "a"}"#, &["a"], &[], false);
        assert_edit(
            r#"{"remove": ["b", "c peers=5"], "add": ["a until=2027-01-31 peers=2 #  Alice "]}"#,
            &["a peers=2 until=2027-01-31 # Alice"],
            &["b", "c peers=5"],
            false,
        );
        assert_edit(r#" {"write":true,"remove":"\u0061" }"#, &[], &["a"], true);
        assert_edit(r#"{"add": []}"#, &[], &[], false);
        let order = parsed(r#"{"replace": ["a", "b"], "write": false}"#).unwrap();
        assert!(matches!(order.change, Change::Replace(list) if lines(&list) == ["a", "b"]));
    }

    /// As it would be written: with spaces that it did not have.
    #[test]
    fn a_line_that_would_be_too_long_for_the_file_is_refused() {
        let name = "n".repeat(KEY_LINE_BYTES_MAX - 4);
        assert_edit(
            &format!("{{\"add\": \"k#{name}\"}}"),
            &[&format!("k # {name}")],
            &[],
            false,
        );
        let error = parsed(&format!("{{\"add\": \"k#{name}n\"}}")).unwrap_err();
        assert_eq!(error, "`add`: longer than 4096 bytes");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place_and_without_a_key() {
        for (text, reason) in [
            ("", "not JSON"),
            (r#"{"add": ["s3cret]}"#, "not JSON"),
            ("[]", "send an object such as"),
            ("{}", "nothing is to be changed"),
            (r#"{"s3cret": []}"#, "there is an unknown member"),
            (r#"{"add": 5}"#, "`add` must be a key or a list"),
            (r#"{"add": ["s3cret", 5]}"#, "`add[1]` is no string"),
            (r#"{"add": [], "add": []}"#, "`add` is there twice"),
            (
                r#"{"add": [], "write": 1}"#,
                "`write` must be true or false",
            ),
            (
                r#"{"add": [], "replace": []}"#,
                "`replace` cannot be together",
            ),
            (r#"{"add": "s3cret peer=5"}"#, "`add`: word 2 is unknown"),
            (
                r#"{"add": ["a", "s3cret peers=0"]}"#,
                "`add[1]`: peers= wants",
            ),
            (
                r#"{"add": "s3cret\nb"}"#,
                "`add`: a line of the file cannot",
            ),
            (
                r#"{"add": ["s3cret # x\nb"]}"#,
                "`add[0]`: a line of the file",
            ),
            ("{\"remove\": \"# s3cret\"}", "`remove`: there is no key"),
            (
                r#"{"add": ["s3cret", "s3cret"]}"#,
                "`add[1]`: the same key as `add[0]`",
            ),
            (
                r#"{"replace": ["s3cret peers=1", "b", "s3cret"]}"#,
                "`replace[2]`: the same key as `replace[0]`",
            ),
            (
                r#"{"remove": "s3cret", "add": ["s3cret peers=1"]}"#,
                "`remove`: the same key as `add[0]`",
            ),
        ] {
            let error = parsed(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
            assert!(!error.contains("s3cret"), "{text}: {error}");
        }
    }

    #[test]
    fn the_first_mistakes_are_told() {
        let keys = vec![r#""?""#; 25].join(",");
        let error = parsed(&format!(r#"{{"add": [{keys}]}}"#)).unwrap_err();
        assert_eq!(error.matches("character 1 of the key").count(), 10);
        assert!(error.ends_with("; and 15 more"), "{error}");
    }

    #[test]
    fn a_body_that_would_take_many_times_its_size_is_not_read() {
        let many = |count: usize, key: &str| {
            let keys: Vec<_> = (0..count).map(|it| format!("\"{it}{key}\"")).collect();
            parsed(&format!(r#"{{"add": [{}]}}"#, keys.join(",")))
        };
        assert!(many(60_000, "").is_ok());
        assert!(
            many(200_000, "")
                .unwrap_err()
                .contains("too many short ones")
        );
        assert!(many(200_000, "0123456789abcdef").is_ok());
    }

    /// Whatever the reader of JSON makes a note of takes many times its size in memory.
    #[test]
    fn what_cannot_be_a_list_of_keys_is_not_read() {
        for rubbish in ["]", "}", "[", ",", "\"", "1 ", "\\\"1 "] {
            let body = format!("{{\"add\": {}", rubbish.repeat(2_000_000));
            let error = parsed(&body).unwrap_err();
            assert!(
                error.contains("this is no list of keys"),
                "{rubbish}: {error}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_order_or_a_mistake(mut body: Vec<u8>) {
            let _ = parse(&mut body);
        }

        #[test]
        fn lists_are_read(keys in vec("[a-z]{1,8}", 0..9), write: bool) {
            let keys: std::collections::BTreeSet<_> = keys
                .into_iter()
                .filter(|key| key != "announce" && key != "scrape")
                .collect();
            let quoted: Vec<_> = keys.iter().map(|key| format!("{key:?}")).collect();
            let body = format!(r#"{{"replace":[{}],"write":{write}}}"#, quoted.join(","));
            let order = parsed(&body).unwrap();
            prop_assert_eq!(order.write, write);
            let Change::Replace(entries) = order.change else { panic!() };
            prop_assert!(entries.iter().map(KeyEntry::text).eq(&keys));
        }
    }
}

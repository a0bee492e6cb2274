//! What an operator asks to be changed in the list, from JSON. Pure.

use std::collections::HashSet;

use aquatic_types::{InfoHash, ParseInfoHashError};

use crate::edited_list::order::{self, Form, Mistakes};
use crate::json;

/// Bytes of an info hash in a list, with quotes and a comma.
const ENTRY_BYTES: usize = 43;

/// What [`json::marks`] counts of such an info hash: a comma and two quotes.
const ENTRY_MARKS: usize = 3;

/// What may be there besides the hashes.
const OTHER_MARKS_MAX: usize = 256;

const EXAMPLE: &str = "send an object such as \
                       {\"add\": [\"40 hexadecimal digits\"], \"remove\": [], \
                       \"write\": true}, or {\"replace\": [\"40 hexadecimal digits\"]}";

const FORM: Form<InfoHash> = Form {
    example: EXAMPLE,
    entries: "an info hash or a list of them, as strings",
    parse: |text, _| {
        text.parse()
            .map_err(|error: ParseInfoHashError| error.to_string())
    },
    is_secret: false,
};

pub(super) type Change = order::Change<InfoHash>;
pub(super) type Order = order::Order<InfoHash>;

/// Reads the body of a request, which is of no use afterwards.
///
/// # Errors
/// All that is wrong with it, up to some mistakes.
pub(super) fn parse(body: &mut [u8]) -> Result<Order, String> {
    let marks_max = body.len() / ENTRY_BYTES * ENTRY_MARKS + OTHER_MARKS_MAX;
    if json::marks(body) > marks_max {
        return Err(format!("this is no list of info hashes: {EXAMPLE}"));
    }
    let mut mistakes = Mistakes::default();
    let order = FORM.read(body, &mut mistakes)?;
    mistakes.into_result()?;
    if let Change::Edit { add, remove } = &order.change {
        require_disjoint(add, remove)?;
    }
    Ok(order)
}

fn require_disjoint(add: &[InfoHash], remove: &[InfoHash]) -> Result<(), String> {
    let (few, many) = match add.len() < remove.len() {
        true => (add, remove),
        false => (remove, add),
    };
    let few: HashSet<_> = few.iter().collect();
    match many.iter().find(|it| few.contains(it)) {
        Some(both) => Err(format!("{both} is in `add` and in `remove`")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const A: InfoHash = InfoHash([0xaa; 20]);
    const B: InfoHash = InfoHash([0xbb; 20]);

    fn parsed(text: &str) -> Result<Order, String> {
        parse(&mut text.as_bytes().to_vec())
    }

    /// Each of these would take many times its size in memory.
    #[test]
    fn what_is_no_list_of_hashes_is_not_even_read() {
        for rubbish in ["]", "}", "[", ",", "\"", "\"\" ", "1 ", "a\n"] {
            let mut body = rubbish.repeat(1_000_000).into_bytes();
            let reason = parse(&mut body).unwrap_err();
            assert!(
                reason.starts_with("this is no list of info hashes: "),
                "{rubbish}: {reason}"
            );
        }
    }

    #[test]
    fn one_or_many_entries_are_read() {
        let edit = |add: &[InfoHash], remove: &[InfoHash], write| Order {
            change: Change::Edit {
                add: add.to_vec(),
                remove: remove.to_vec(),
            },
            write,
        };
        for (text, order) in [
            (format!("{{\"add\": \"{A}\"}}"), edit(&[A], &[], false)),
            (
                format!("{{\"remove\": [\"{B}\"], \"add\": [\"{A}\", \"{A}\"]}}"),
                edit(&[A, A], &[B], false),
            ),
            (
                format!(
                    " {{ \"write\":true,\"remove\":\"\\u0061{}\" }}\n",
                    &A.to_string()[1..]
                ),
                edit(&[], &[A], true),
            ),
            ("{\"add\": []}".to_owned(), edit(&[], &[], false)),
            (
                format!("{{\"replace\": [\"{A}\"], \"write\": false}}"),
                Order {
                    change: Change::Replace(vec![A]),
                    write: false,
                },
            ),
        ] {
            assert_eq!(parsed(&text), Ok(order), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let short = "aa";
        for (text, reason) in [
            (String::new(), "not JSON"),
            ("[]".to_owned(), "send an object such as"),
            ("{}".to_owned(), "nothing is to be changed"),
            ("{\"ad\": []}".to_owned(), "there is no `ad`"),
            (
                "{\"add\": 5}".to_owned(),
                "`add` must be an info hash or a list",
            ),
            (
                format!("{{\"add\": [\"{A}\", 5]}}"),
                "`add[1]` is no string",
            ),
            ("{\"add\": [[]]}".to_owned(), "`add[0]` is no string"),
            (
                "{\"add\": [], \"add\": []}".to_owned(),
                "`add` is there twice",
            ),
            (
                "{\"add\": [], \"write\": 1}".to_owned(),
                "`write` must be true or false",
            ),
            (
                "{\"add\": [], \"replace\": []}".to_owned(),
                "cannot be together",
            ),
            (
                format!("{{\"add\": \"{A}\", \"remove\": [\"{B}\", \"{A}\"]}}"),
                "is in `add` and in `remove`",
            ),
            (
                format!("{{\"add\": \"{short}\", \"remove\": [\"{B}\", \"{short}\"]}}"),
                "`add`: an info hash has 40 hexadecimal digits, this has 2 bytes; `remove[1]`: an",
            ),
            (
                format!(
                    "{{\"add\": [{}]}}",
                    [format!("\"{A:?}x\"").as_str(); 12].join(",")
                ),
                "; and 2 more",
            ),
            (
                format!("{{\"add\": [{}]}}", ["0"; 5_000].join(",")),
                "no list of info hashes",
            ),
        ] {
            let error = parsed(&text).unwrap_err();
            assert!(error.contains(reason), "{error}\n{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_order_or_an_error(body in vec(any::<u8>(), 0..200)) {
            let _ = parse(&mut body.clone());
        }

        #[test]
        fn a_printed_list_is_read(hashes in vec(any::<[u8; 20]>().prop_map(InfoHash), 0..300)) {
            let quoted: Vec<_> = hashes.iter().map(|hash| format!("\"{hash}\"")).collect();
            let order = parsed(&format!("{{\"replace\":[{}]}}", quoted.join(",")));
            prop_assert_eq!(order.unwrap().change, Change::Replace(hashes));
        }
    }
}

use std::io::BufReader;

use proptest::collection::{hash_map, vec};
use proptest::option;
use proptest::prelude::*;

use super::*;

const SECRET: &str = "0123456789abcdef0123456789ABCDEF";

fn parse(file: &str) -> KeyList {
    KeyList::parse(file.as_bytes()).unwrap()
}

fn error(file: impl AsRef<[u8]>) -> String {
    KeyList::parse(file.as_ref()).unwrap_err().to_string()
}

#[test]
fn attributes_come_in_any_order() {
    let file = format!(
        "\u{feff}# users\r\n\r\n  {SECRET}\tpeers=3  until=2027-01-31 # Alice # B.\r\n\
         a-b_C until=2027-01-31T17:00:00Z peers=1\nplain\nnamed#Bob\n"
    );
    let list = parse(&file);
    assert_eq!(list.len(), 4);
    let key = list.get(SECRET.as_bytes()).unwrap();
    assert_eq!(key.peers_max.unwrap().get(), 3);
    assert_eq!(key.until, Some(EndDate::parse("2027-01-31").unwrap()));
    assert_eq!(key.name.as_deref(), Some("Alice # B."));
    assert!(list.get(b"a-b_C").unwrap().until.is_some());
    let plain = list.get(b"plain").unwrap();
    assert!(plain.peers_max.is_none() && plain.until.is_none() && plain.name.is_none());
    assert_eq!(list.get(b"named").unwrap().name.as_deref(), Some("Bob"));
    for other in [&b"Plain"[..], b"", b"plain ", b"\xff", &[b'a'; 65]] {
        assert!(list.get(other).is_none());
    }
}

#[test]
fn the_longest_key_is_found() {
    let longest = "k".repeat(KEY_BYTES_MAX);
    assert!(parse(&longest).get(longest.as_bytes()).is_some());
    assert_eq!(
        error(longest + "k"),
        "line 1: a key has up to 64 characters, this has 65"
    );
}

#[test]
fn names_need_not_be_utf_8() {
    let list = KeyList::parse(&b"abc # \xca\xe8\xed\xee\n# \xff\n"[..]).unwrap();
    assert!(list.get(b"abc").unwrap().name.is_some());
    assert_eq!(error(b"\xff\xfea"), "line 1: not UTF-8 text");
}

#[test]
fn errors_name_the_line_and_what_to_write_but_no_key() {
    for (line, text) in [
        ("%!", "line 3: character 33 of the key is none of"),
        (" peers=0", "line 3: peers= wants a number of 1 or more"),
        (" peers=x", "line 3: peers= wants a number of 1 or more"),
        (
            " peers=1 peers=2",
            "line 3: word 3 is unknown or there twice",
        ),
        (" peer=1", "line 3: word 2 is unknown or there twice"),
        (" anotherkey", "line 3: word 2 is unknown or there twice"),
        (
            " until=2027",
            "line 3: the value of until= is neither a date",
        ),
        (
            " until=2027-02-30",
            "line 3: the value of until= is neither",
        ),
    ] {
        let error = error(format!("a\n\n{SECRET}{line}\nb"));
        assert!(error.starts_with(text), "{error}");
        assert!(!error.contains("0123") && !error.contains("anotherkey"));
    }
    assert_eq!(
        error(format!("{SECRET}\n{SECRET} peers=1\n")),
        "line 2: an earlier line has the same key"
    );
    for word in ["announce", "scrape"] {
        assert!(error(word).contains("cannot be keys"));
    }
    let shown = format!("{:?}", parse(SECRET));
    assert_eq!(shown, "KeyList(1 keys)");
}

#[test]
fn a_line_that_does_not_end_is_refused() {
    let endless = BufReader::new(io::repeat(b'a'));
    let error = KeyList::parse(endless).unwrap_err().to_string();
    assert_eq!(error, "line 1: longer than 4096 bytes");
}

fn keys() -> impl Strategy<Value = Key> {
    let until = (1_600_000_000..4_000_000_000_i64).prop_map(|seconds| {
        let moment = jiff::Timestamp::from_second(seconds).unwrap();
        EndDate::parse(&moment.to_string()).unwrap()
    });
    let name = "[a-z]( ?[a-zA-Z0-9#=]){0,9}";
    let attributes = (option::of(1..u32::MAX), option::of(until), option::of(name));
    attributes.prop_map(|(peers_max, until, name)| Key {
        peers_max: peers_max.and_then(NonZeroU32::new),
        until,
        name: name.map(Into::into),
        active: None,
    })
}

proptest! {
    #[test]
    fn written_keys_are_read_back(keys in hash_map("[A-Za-z0-9_-]{9,64}", keys(), 0..20)) {
        let lines = keys.iter().map(|(text, key)| key.to_line(text) + "\n");
        let list = parse(&lines.collect::<String>());
        prop_assert_eq!(list.len(), keys.len());
        for (text, key) in &keys {
            let read = list.get(text.as_bytes()).unwrap();
            prop_assert_eq!(read.peers_max, key.peers_max);
            prop_assert_eq!(read.until, key.until);
            prop_assert_eq!(&read.name, &key.name);
            prop_assert_eq!(read.active.is_some(), key.peers_max.is_some());
        }
    }

    #[test]
    fn any_bytes_are_a_list_or_an_error(file in vec(any::<u8>(), 0..300)) {
        let lines = 1 + file.iter().filter(|byte| **byte == b'\n').count();
        match KeyList::parse(&file[..]) {
            Ok(list) => prop_assert!(list.len() <= lines),
            Err(error) => prop_assert!((1..=lines).contains(&usize::try_from(error.line)?)),
        }
    }
}

#[test]
fn single_entries_change_a_list() {
    let entry = |line: &str| KeyList::parse_line(line.as_bytes()).unwrap().unwrap();
    let mut list = parse("a peers=1 # Alice\nb\n");
    let key = |list: &KeyList, text: &str| list.get(text.as_bytes()).cloned();
    let a = key(&list, "a").unwrap();
    assert!(entry(" a  #Alice\r\n").text() == "a");
    assert!(entry(" a #Alice  peers=2").to_line() == "a # Alice  peers=2");
    assert!(entry("a peers=1 #   Alice\n").says_of_it(&a));
    for other in [
        "a",
        "a peers=2 # Alice",
        "a peers=1",
        "a peers=1 until=2027-01-31 # Alice",
    ] {
        assert!(!entry(other).says_of_it(&a), "{other}");
    }
    list.put(entry("a peers=2"));
    list.put(entry("c"));
    assert_eq!(list.len(), 3);
    assert_eq!(key(&list, "a").unwrap().to_line("a"), "a peers=2");
    assert!(list.remove("b") && !list.remove("b"));
    assert!(key(&list, "b").is_none());
    for nothing in ["", " \r\n", "# a"] {
        assert!(KeyList::parse_line(nothing.as_bytes()).unwrap().is_none());
    }
    // With an end and without: the last line may get one.
    let longest = format!("a # {}", "x".repeat(KEY_LINE_BYTES_MAX - 4));
    for file in [format!("{longest}\nb"), format!("b\n{longest}")] {
        assert_eq!(KeyList::parse(file.as_bytes()).unwrap().len(), 2);
    }
    for line in [format!("{longest}\n"), longest.clone()] {
        assert!(KeyList::parse_line(line.as_bytes()).is_ok());
    }
    for line in [format!("{longest}x\n"), format!("{longest}x")] {
        assert!(KeyList::parse_line(line.as_bytes()).is_err());
        assert!(KeyList::parse(line.as_bytes()).is_err());
    }
    assert_eq!(format!("{:?}", entry("s3cret")), "KeyEntry");
    let list: KeyList = [entry("d"), entry("e"), entry("d peers=4")]
        .into_iter()
        .collect();
    assert_eq!(list.len(), 2);
    assert_eq!(key(&list, "d").unwrap().to_line("d"), "d peers=4");
}

//! Why a key cannot have a value, and what to write instead.
//!
//! `serde` speaks of Rust's types; an operator wants to know what to change. The comment of a key
//! says what it is measured in, and its default is an example.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};
use toml::Spanned;
use toml::de::{DeValue, ValueDeserializer};

use crate::nearest::{LETTERS, SLIPS};

/// What is known about a key, besides the value that it has been given.
pub(crate) struct Key<'a> {
    pub(crate) path: &'a str,
    unit: Option<&'static Unit>,
    /// The default, as it would stand in a file.
    example: Option<toml::Value>,
}

/// What a number counts.
struct Unit {
    words: &'static str,
    /// How long one is, if it is a time; the others are bytes.
    micros: Option<u64>,
}

const SECOND: u64 = 1_000_000;

const UNITS: [Unit; 4] = [
    Unit::new("seconds", Some(SECOND)),
    Unit::new("milliseconds", Some(1_000)),
    Unit::new("microseconds", Some(1)),
    Unit::new("bytes", None),
];

impl<'a> Key<'a> {
    pub(crate) fn new(path: &'a str, docs: &[&str], default: &impl Serialize) -> Self {
        Self {
            path,
            unit: docs.first().and_then(|line| Unit::of(line)),
            example: toml::Value::try_from(default).ok(),
        }
    }

    /// A key of a former version.
    pub(crate) fn former(path: &'a str) -> Self {
        Self {
            path,
            unit: None,
            example: None,
        }
    }

    /// The reason for which `text` (if the value is one) was refused with this `message`.
    pub(crate) fn explain(&self, message: &str, text: Option<&str>) -> String {
        if message == "invalid socket address syntax" {
            return self.not_an_address(text.unwrap_or_default());
        }
        let mut reason = in_plain_words(message);
        let hint = match text {
            Some(text) => self.hint(&reason, text),
            None => whole_number(&reason),
        };
        if let Some(hint) = hint {
            reason = format!("{reason}; {hint}");
        }
        reason
    }

    /// The reason for which something other than a text was refused, where one of these words is
    /// expected.
    pub(crate) fn explain_no_word(&self, value: Spanned<DeValue<'_>>, words: &[String]) -> String {
        let boolean = value.get_ref().as_bool().map(|it| it.to_string());
        // That of the value itself depends on what reads it.
        let message = String::deserialize(ValueDeserializer::from(value))
            .map_or_else(|error| error.message().to_owned(), |_| String::new());
        let mut reason = format!("{}: {}", in_plain_words(&message), in_quotes(words));
        let meant = boolean.as_deref().and_then(synonym);
        if let Some(word) = meant.filter(|meant| words.iter().any(|word| word == meant)) {
            reason = format!("{reason}; write {word:?}");
        }
        reason
    }

    fn not_an_address(&self, text: &str) -> String {
        let example = match &self.example {
            Some(toml::Value::String(example)) => example,
            _ => "127.0.0.1:9000",
        };
        let hint = address_hint(text);
        let start = format!("{text:?} is not an IP address with a port{hint}");
        match meant_address(text) {
            Some(meant) => format!("{start}: write {:?}", meant.to_string()),
            None => format!("{start}: write for example {example:?}"),
        }
    }

    /// What to write instead of a text where something else is expected.
    fn hint(&self, reason: &str, text: &str) -> Option<String> {
        if reason.starts_with("unknown variant") {
            return variant(text, reason).map(|word| format!("write `{word}`"));
        }
        if reason.ends_with(A_LIST) {
            let items = text.split(',').map(str::trim);
            let items: Vec<_> = items.filter(|item| !item.is_empty()).collect();
            return Some(format!("write {items:?}"));
        }
        if reason.ends_with(TRUE_OR_FALSE) {
            let value = boolean(text)?;
            return Some(format!("write {value}, without quotes"));
        }
        if !reason.contains("expected a whole number") && !reason.ends_with(A_NUMBER) {
            return None;
        }
        let number = split_number(text);
        if let Some((number, "")) = number {
            return Some(format!("write {number}, without quotes"));
        }
        let unit = self.unit?;
        let words = unit.words;
        let count = number.and_then(|(number, suffix)| unit.count(number, suffix));
        Some(match count {
            Some(count) => format!("write {count}: it is a number of {words}"),
            None => format!("write a number of {words}"),
        })
    }
}

impl Unit {
    const fn new(words: &'static str, micros: Option<u64>) -> Self {
        Self { words, micros }
    }

    /// By the first word of a key's comment.
    fn of(comment: &str) -> Option<&'static Self> {
        let first = comment.split_whitespace().next()?.to_lowercase();
        UNITS.iter().find(|unit| unit.words == first)
    }

    /// How many of this unit `number` of the unit called `suffix` are, if that is a whole number.
    fn count(&self, number: u64, suffix: &str) -> Option<u64> {
        let suffix = suffix.to_ascii_lowercase();
        let Some(own_micros) = self.micros else {
            let bytes = match suffix.as_str() {
                "b" | "byte" | "bytes" => 1,
                "k" | "kb" => 1_000,
                "m" | "mb" => 1_000_000,
                "g" | "gb" => 1_000_000_000,
                "kib" => 1 << 10,
                "mib" => 1 << 20,
                "gib" => 1 << 30,
                _ => return None,
            };
            return number.checked_mul(bytes);
        };
        let micros = match suffix.as_str() {
            "us" | "µs" => 1,
            "ms" => 1_000,
            "s" | "sec" | "secs" | "second" | "seconds" => SECOND,
            "m" | "min" | "mins" | "minute" | "minutes" => 60 * SECOND,
            "h" | "hour" | "hours" => 3_600 * SECOND,
            "d" | "day" | "days" => 86_400 * SECOND,
            _ => return None,
        };
        let micros = number.checked_mul(micros)?;
        micros
            .is_multiple_of(own_micros)
            .then_some(micros / own_micros)
    }
}

/// `20m` or `20 min` → 20 and the rest.
fn split_number(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let end = text
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at_checked(end)?;
    Some((number.parse().ok()?, suffix.trim()))
}

/// The address that is meant where only its form is wrong: `::1:3000`, `localhost:3000`.
pub(crate) fn meant_address(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.rsplit_once(':')?;
    let ip = match host {
        "localhost" => Ipv4Addr::LOCALHOST.into(),
        host => host.parse::<Ipv6Addr>().ok()?.into(),
    };
    // Without a port, the last group of an IPv6 address would be taken for one.
    let is_port = text.parse::<Ipv6Addr>().is_err() || port.len() > 3;
    is_port.then_some(SocketAddr::new(ip, port.parse().ok()?))
}

/// What is wrong with a text that should be an address, as far as it can be told.
pub(crate) fn address_hint(text: &str) -> &'static str {
    let port = text.rsplit_once(':').map_or("", |(_, port)| port);
    let is_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    if text.contains("://") {
        " but a URL"
    } else if text.contains([',', ' ']) {
        " but several: make a list of them"
    } else if is_port && port.parse::<u16>().is_err() {
        ": ports go up to 65535"
    } else if text.bytes().filter(|byte| *byte == b':').count() > 1 && !text.contains('[') {
        ": IPv6 addresses need brackets"
    } else if is_port && text.starts_with(|c: char| c.is_ascii_alphabetic()) && !text.contains('[')
    {
        ": names are not looked up"
    } else {
        ""
    }
}

/// Which of the words that a `reason` offers is meant by `text`.
fn variant<'a>(text: &str, reason: &'a str) -> Option<&'a str> {
    let mut words = offered(reason)?;
    if let Some(word) = synonym(text) {
        return words.find(|offered| *offered == word);
    }
    let near = SLIPS.nearest(text, words.clone());
    near.or_else(|| LETTERS.nearest(text, words))
}

/// The words that `serde` offers when it refuses one.
pub(crate) fn offered(reason: &str) -> Option<impl Iterator<Item = &str> + Clone> {
    let (refused, offered) = reason.split_once("expected")?;
    let is_word = refused.starts_with("unknown variant");
    is_word.then(|| offered.split('`').skip(1).step_by(2))
}

/// `"a", "b" or "c"`
fn in_quotes(words: &[String]) -> String {
    let mut quoted: Vec<_> = words.iter().map(|word| format!("{word:?}")).collect();
    let last = quoted.pop().unwrap_or_default();
    match quoted.is_empty() {
        true => last,
        false => format!("{} or {last}", quoted.join(", ")),
    }
}

/// The word that is taken for one that other programs take.
fn synonym(text: &str) -> Option<&'static str> {
    Some(match text.to_ascii_lowercase().as_str() {
        "blacklist" | "denylist" | "block" => "deny",
        "whitelist" | "allowlist" => "allow",
        "warning" => "warn",
        "err" => "error",
        "verbose" => "debug",
        "none" | "false" | "disabled" => "off",
        _ => return None,
    })
}

/// What to write instead of `1e6`, which TOML takes for a fraction.
fn whole_number(reason: &str) -> Option<String> {
    let (_, number) = reason.split_once("floating point `")?;
    let (number, expected) = number.split_once(".0`")?;
    let is_whole = number.bytes().all(|byte| byte.is_ascii_digit());
    (is_whole && expected.contains("whole number")).then(|| format!("write {number}"))
}

/// What people write for true and false in files of other kinds.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

const TRUE_OR_FALSE: &str = "expected true or false";
const A_NUMBER: &str = "expected a number";
const A_LIST: &str = "expected a list";

/// An error message of `serde`, which speaks of Rust's types, for people who do not.
fn in_plain_words(message: &str) -> String {
    const TYPES: [(&str, &str); 12] = [
        ("u8", "a whole number from 0 to 255"),
        ("u16", "a whole number from 0 to 65535"),
        ("u32", "a whole number from 0 to 4294967295"),
        ("u64", "a whole number, 0 or more"),
        ("usize", "a whole number, 0 or more"),
        ("i32", "a whole number"),
        ("i64", "a whole number"),
        ("f64", "a number"),
        ("a boolean", "true or false"),
        ("a sequence", "a list"),
        ("path string", "a path in quotes"),
        ("a string", "a text in quotes"),
    ];
    TYPES
        .iter()
        .find_map(|(name, words)| {
            let start = message.strip_suffix(name)?.strip_suffix("expected ")?;
            Some(format!("{start}expected {words}"))
        })
        .unwrap_or_else(|| message.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explain(docs: &str, message: &str, text: &str) -> String {
        Key::new("key", &[docs], &5).explain(message, Some(text))
    }

    #[test]
    fn numbers_with_a_unit_are_reckoned() {
        for (docs, text, hint) in [
            (
                " Seconds that.",
                "20m",
                "write 1200: it is a number of seconds",
            ),
            (
                " Seconds that.",
                "1 day",
                "write 86400: it is a number of seconds",
            ),
            (" Seconds that.", "1500ms", "write a number of seconds"),
            (
                " Seconds that.",
                "5 fortnights",
                "write a number of seconds",
            ),
            (
                " Milliseconds after.",
                "1s",
                "write 1000: it is a number of milliseconds",
            ),
            (
                " Microseconds after.",
                "2ms",
                "write 2000: it is a number of microseconds",
            ),
            (
                " Bytes of.",
                "8MB",
                "write 8000000: it is a number of bytes",
            ),
            (
                " Bytes of.",
                "128KiB",
                "write 131072: it is a number of bytes",
            ),
            (" Threads that.", "4", "write 4, without quotes"),
        ] {
            let reason = explain(docs, "invalid type: string, expected u32", text);
            let start = "invalid type: string, expected a whole number from 0 to 4294967295; ";
            assert_eq!(reason.strip_prefix(start), Some(hint), "{text}");
        }
        let reason = explain(" Threads.", "invalid type: string, expected usize", "many");
        assert_eq!(
            reason,
            "invalid type: string, expected a whole number, 0 or more"
        );
        for odd in ["99999999999999999999m", "18446744073709551615d", "long", ""] {
            let reason = explain(" Seconds that.", "expected u64", odd);
            assert!(reason.ends_with("; write a number of seconds"), "{reason}");
        }
    }

    #[test]
    fn words_that_are_nearly_right_are_recognised() {
        let message = |text: &str| {
            let offers = "`auto`, `io_uring`, `mio`, `deny`";
            explain(
                " Which.",
                &format!("unknown variant `{text}`, expected one of {offers}"),
                text,
            )
        };
        for (text, word) in [
            ("iouring", "io_uring"),
            ("MIO2", "mio"),
            ("moi", "mio"),
            ("blacklist", "deny"),
        ] {
            let reason = message(text);
            assert!(reason.ends_with(&format!("; write `{word}`")), "{reason}");
        }
        for text in ["tokio", "whitelist", ""] {
            assert!(message(text).ends_with("`deny`"), "{text}");
        }
    }

    #[test]
    fn other_types_are_shown_as_they_are_written() {
        let reason = explain(
            " Whether.",
            "invalid type: string, expected a boolean",
            "Yes",
        );
        assert!(reason.ends_with("; write true, without quotes"), "{reason}");
        let reason = explain(" Whom.", "invalid type: string, expected a sequence", "a");
        assert!(
            reason.ends_with("expected a list; write [\"a\"]"),
            "{reason}"
        );
    }
}

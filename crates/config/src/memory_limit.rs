//! How much memory something may take: as a share of what there is, or in bytes.

use std::fmt::{self, Display, Formatter};

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::{Serialize, Serializer};

/// The units of sizes, the largest first.
const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// What to write, in messages.
const EXAMPLES: &str = "write for example \"50%\", \"512 MiB\", \"4 GiB\" or \"off\"";

/// A bound on memory.
///
/// In the file: `"50%"` (of the memory at hand), `"512 MiB"` (also `KiB`, `GiB`; the space may be
/// left out), or `"off"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryLimit {
    /// Percent of the memory at hand, 1 to 100.
    Share(u8),
    /// Bytes, a multiple of 1,024 and not 0.
    Bytes(u64),
    /// No bound.
    Off,
}

/// Why a text is not a [`MemoryLimit`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemoryLimitError {
    /// A share that is not 1 to 100 percent.
    Share(String),
    /// No memory at all.
    Nothing(String),
    /// More bytes than 64 bits count.
    TooLarge(String),
    /// A number without a unit.
    NoUnit(String),
    /// A number that is not whole.
    Fraction(String),
    /// A unit of thousands, and the unit that is meant.
    Decimal(String, &'static str),
    /// Something else.
    Unknown(String),
}

impl MemoryLimit {
    /// # Errors
    /// If `text` is none of the three forms.
    pub fn parse(text: &str) -> Result<Self, MemoryLimitError> {
        let trimmed = text.trim();
        if trimmed.eq_ignore_ascii_case("off") {
            return Ok(Self::Off);
        }
        let end = trimmed
            .find(|character: char| !character.is_ascii_digit() && character != '.')
            .unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at_checked(end).unwrap_or((trimmed, ""));
        let unit = unit.trim();
        let error = |kind: fn(String) -> MemoryLimitError| Err(kind(text.to_owned()));
        if number.is_empty() {
            return error(MemoryLimitError::Unknown);
        }
        let known = UNITS
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(unit));
        let factor = match (unit, known) {
            ("%", _) => None,
            (_, Some((_, bytes))) => Some(*bytes),
            ("", None) => return error(MemoryLimitError::NoUnit),
            (_, None) => {
                return Err(match binary_unit(unit) {
                    Some(meant) => MemoryLimitError::Decimal(text.to_owned(), meant),
                    None => MemoryLimitError::Unknown(text.to_owned()),
                });
            }
        };
        if number.contains('.') {
            return error(MemoryLimitError::Fraction);
        }
        let number = number.parse::<u64>().ok();
        let Some(factor) = factor else {
            let share = number.and_then(|number| u8::try_from(number).ok());
            return match share {
                Some(share @ 1..=100) => Ok(Self::Share(share)),
                _ => error(MemoryLimitError::Share),
            };
        };
        match number.and_then(|number| number.checked_mul(factor)) {
            Some(0) => error(MemoryLimitError::Nothing),
            Some(bytes) => Ok(Self::Bytes(bytes)),
            None => error(MemoryLimitError::TooLarge),
        }
    }

    /// The bound in bytes where so many are at hand (`None`: that is unknown); `None` if there is
    /// no bound, or a share of something unknown.
    #[must_use]
    pub fn bytes(self, at_hand: Option<u64>) -> Option<u64> {
        match self {
            Self::Share(percent) => at_hand.map(|bytes| bytes / 100 * u64::from(percent)),
            Self::Bytes(bytes) => Some(bytes),
            Self::Off => None,
        }
    }
}

/// The unit that somebody means who counts in thousands.
fn binary_unit(unit: &str) -> Option<&'static str> {
    match unit.to_ascii_lowercase().as_str() {
        "g" | "gb" => Some("GiB"),
        "m" | "mb" => Some("MiB"),
        "k" | "kb" => Some("KiB"),
        _ => None,
    }
}

impl Display for MemoryLimit {
    /// As it stands in a file.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Share(percent) => write!(f, "{percent}%"),
            Self::Off => f.write_str("off"),
            Self::Bytes(bytes) => {
                let unit = UNITS.iter().find(|(_, unit)| bytes.is_multiple_of(*unit));
                match unit {
                    Some((name, unit)) => write!(f, "{} {name}", bytes / unit),
                    None => write!(f, "{bytes} bytes"),
                }
            }
        }
    }
}

impl Display for MemoryLimitError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Share(text) => write!(
                f,
                "{text:?} is not a share: from \"1%\" to \"100%\" of the memory at hand, or \"off\""
            ),
            Self::Nothing(text) => write!(f, "{text:?} is nothing: write \"off\" for no limit"),
            Self::TooLarge(text) => write!(f, "{text:?} is more than any machine has: {EXAMPLES}"),
            Self::NoUnit(text) => write!(f, "{text:?} has no unit: {EXAMPLES}"),
            Self::Fraction(text) => write!(f, "{text:?} is not a whole number: {EXAMPLES}"),
            Self::Decimal(text, meant) => {
                let number = text
                    .trim()
                    .trim_end_matches(|c: char| c.is_ascii_alphabetic());
                write!(f, "{text:?}: write \"{} {meant}\"", number.trim())
            }
            Self::Unknown(text) => write!(f, "{text:?} is not an amount of memory: {EXAMPLES}"),
        }
    }
}

impl std::error::Error for MemoryLimitError {}

impl Serialize for MemoryLimit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MemoryLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyForm)
    }
}

struct AnyForm;

impl Visitor<'_> for AnyForm {
    type Value = MemoryLimit;

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "an amount of memory in quotes; {EXAMPLES}")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<MemoryLimit, E> {
        MemoryLimit::parse(text).map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_read_and_written_alike() {
        for (text, limit, written) in [
            ("50%", MemoryLimit::Share(50), "50%"),
            ("100 %", MemoryLimit::Share(100), "100%"),
            ("1%", MemoryLimit::Share(1), "1%"),
            ("512 MiB", MemoryLimit::Bytes(512 << 20), "512 MiB"),
            ("4GiB", MemoryLimit::Bytes(4 << 30), "4 GiB"),
            ("2048 mib", MemoryLimit::Bytes(2 << 30), "2 GiB"),
            (" 64  KiB ", MemoryLimit::Bytes(64 << 10), "64 KiB"),
            ("off", MemoryLimit::Off, "off"),
            ("Off", MemoryLimit::Off, "off"),
        ] {
            assert_eq!(MemoryLimit::parse(text), Ok(limit), "{text}");
            assert_eq!(limit.to_string(), written);
            assert_eq!(MemoryLimit::parse(written), Ok(limit), "{written}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, part) in [
            ("0%", "\"0%\" is not a share"),
            ("150%", "\"150%\" is not a share"),
            ("99999999999999999999%", "is not a share"),
            ("0 MiB", "write \"off\" for no limit"),
            ("12 parrots", "\"12 parrots\" is not an amount of memory"),
            ("", "\"\" is not an amount of memory"),
            ("-5 MiB", "is not an amount of memory"),
            ("512", "\"512\" has no unit"),
            ("1.5 GiB", "\"1.5 GiB\" is not a whole number"),
            ("2.5%", "is not a whole number"),
            ("512 MB", "\"512 MB\": write \"512 MiB\""),
            ("4G", "write \"4 GiB\""),
            ("99999999999999 GiB", "more than any machine has"),
            ("99999999999999999999 KiB", "more than any machine has"),
            ("ein MiB ü", "is not an amount of memory"),
        ] {
            let error = MemoryLimit::parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn shares_are_of_what_is_at_hand() {
        assert_eq!(MemoryLimit::Share(50).bytes(Some(1_000)), Some(500));
        assert_eq!(
            MemoryLimit::Share(100)
                .bytes(Some(u64::MAX))
                .map(|it| it >> 60),
            Some(15)
        );
        assert_eq!(MemoryLimit::Share(50).bytes(None), None);
        assert_eq!(MemoryLimit::Bytes(7 << 10).bytes(None), Some(7 << 10));
        assert_eq!(MemoryLimit::Off.bytes(Some(1_000)), None);
    }
}

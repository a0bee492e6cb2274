//! When a key ends.

use std::fmt::{self, Display, Formatter};

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// The moment from which a key is not served any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EndDate {
    unix_seconds: i64,
}

/// Why a text is no end date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndDateError;

impl EndDate {
    /// Reads `2027-01-31`, which is the last day on which the key is served (UTC), or a moment by
    /// RFC 3339: `2027-01-31T18:00:00Z`, `2027-01-31T18:00:00+01:00`.
    ///
    /// # Errors
    /// If the text is neither.
    pub fn parse(text: &str) -> Result<Self, EndDateError> {
        let moment = match text.len() {
            DATE_BYTES => {
                let date: Date = text.parse().map_err(|_| EndDateError)?;
                let next = date.tomorrow().map_err(|_| EndDateError)?;
                let start = next.to_zoned(TimeZone::UTC).map_err(|_| EndDateError)?;
                start.timestamp()
            }
            _ => text.parse::<Timestamp>().map_err(|_| EndDateError)?,
        };
        Ok(Self {
            unix_seconds: moment.as_second(),
        })
    }

    /// Whether the key has ended.
    #[must_use]
    pub fn is_past(self, unix_seconds: i64) -> bool {
        unix_seconds >= self.unix_seconds
    }

    /// The last day on which the key is served, at least in part.
    fn last_day(self) -> Option<Date> {
        let last = Timestamp::from_second(self.unix_seconds.checked_sub(1)?).ok()?;
        Some(last.to_zoned(TimeZone::UTC).date())
    }

    /// As a file has it, for [`Self::parse`]: a day if the key is served until its end.
    #[must_use]
    pub fn to_text(self) -> String {
        let of_day = self.last_day().map(|day| day.to_string());
        match of_day {
            Some(day) if Self::parse(&day) == Ok(self) => day,
            _ => Timestamp::from_second(self.unix_seconds)
                .map(|moment| moment.to_string())
                .unwrap_or_default(),
        }
    }
}

/// Bytes of `2027-01-31`.
const DATE_BYTES: usize = 10;

impl Display for EndDate {
    /// The last day, UTC.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.last_day() {
            Some(day) => Display::fmt(&day, f),
            None => f.write_str("an unknown day"),
        }
    }
}

impl Display for EndDateError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("neither a date such as 2027-01-31 nor a time such as 2027-01-31T18:00:00Z")
    }
}

impl std::error::Error for EndDateError {}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2027-02-01T00:00:00Z.
    const FEBRUARY: i64 = 1_801_440_000;

    #[test]
    fn a_day_is_served_until_its_end() {
        let end = EndDate::parse("2027-01-31").unwrap();
        assert!(!end.is_past(FEBRUARY - 1));
        assert!(end.is_past(FEBRUARY));
        assert_eq!(end.to_string(), "2027-01-31");
        assert_eq!(end.to_text(), "2027-01-31");
    }

    #[test]
    fn a_moment_has_a_time_zone() {
        let end = EndDate::parse("2027-01-31T18:00:00+01:00").unwrap();
        let same = EndDate::parse("2027-01-31T17:00:00Z").unwrap();
        assert_eq!(end, same);
        assert!(end.is_past(FEBRUARY - 7 * 3_600) && !end.is_past(FEBRUARY - 7 * 3_600 - 1));
        assert_eq!(end.to_string(), "2027-01-31");
        assert_eq!(end.to_text(), "2027-01-31T17:00:00Z");
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in [
            "",
            "2027",
            "2027-02-30",
            "31.01.2027",
            "2027-01-31T18:00:00",
            "tomorrow!!",
            "9999-12-31",
        ] {
            assert_eq!(EndDate::parse(text), Err(EndDateError), "{text}");
        }
    }
}

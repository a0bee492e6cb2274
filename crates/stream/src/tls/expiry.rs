//! When a certificate ends: the only thing in it that the tracker itself has to know.

/// Tags of DER (X.690, 8.1.2), as far as they lead to what is looked for.
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const EXPLICIT_0: u8 = 0xa0;

const SECONDS_PER_DAY: i64 = 24 * 60 * 60;

/// The last second in which a certificate is valid (`notAfter`; RFC 5280, 4.1), in Unix time.
/// `None` if this is not the DER of a certificate.
pub(super) fn not_after(certificate: &[u8]) -> Option<i64> {
    let mut certificate = Der(Der(certificate).next(SEQUENCE)?);
    let mut fields = Der(certificate.next(SEQUENCE)?);
    if fields.tag() == Some(EXPLICIT_0) {
        fields.next(EXPLICIT_0)?; // version
    }
    fields.next(INTEGER)?; // serialNumber
    fields.next(SEQUENCE)?; // signature
    fields.next(SEQUENCE)?; // issuer
    let mut validity = Der(fields.next(SEQUENCE)?);
    validity.next(validity.tag()?)?; // notBefore
    match validity.tag()? {
        UTC_TIME => utc_time(validity.next(UTC_TIME)?),
        GENERALIZED_TIME => generalized_time(validity.next(GENERALIZED_TIME)?),
        _ => None,
    }
}

/// Elements of DER, one after the other.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The kind of the next element.
    fn tag(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// The content of the next element, which must be of this kind.
    fn next(&mut self, tag: u8) -> Option<&'a [u8]> {
        let [first, length, rest @ ..] = self.0 else {
            return None;
        };
        if *first != tag {
            return None;
        }
        let (length, rest) = match *length {
            length @ 0..0x80 => (usize::from(length), rest),
            long => {
                // At most four bytes: certificates are smaller.
                let (bytes, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
                if bytes.is_empty() || bytes.len() > 4 {
                    return None;
                }
                let length = bytes
                    .iter()
                    .fold(0, |all, byte| all << 8 | usize::from(*byte));
                (length, rest)
            }
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(content)
    }
}

/// `YYMMDDHHMMSSZ`, of the years 1950 to 2049 (RFC 5280, 4.1.2.5.1).
fn utc_time(text: &[u8]) -> Option<i64> {
    let (year, rest) = text.split_at_checked(2)?;
    let year = number(year)?;
    let century = if year < 50 { 2_000 } else { 1_900 };
    unix_time(century + year, rest)
}

/// `YYYYMMDDHHMMSSZ`.
fn generalized_time(text: &[u8]) -> Option<i64> {
    let (year, rest) = text.split_at_checked(4)?;
    unix_time(number(year)?, rest)
}

/// Of a year and `MMDDHHMMSSZ`.
fn unix_time(year: i64, rest: &[u8]) -> Option<i64> {
    let rest = rest.strip_suffix(b"Z").filter(|rest| rest.len() == 10)?;
    let mut pairs = rest.chunks_exact(2).map(number);
    let mut next = |range: std::ops::RangeInclusive<i64>| {
        pairs
            .next()
            .flatten()
            .filter(|number| range.contains(number))
    };
    let days = days_since_1970(year, next(1..=12)?, next(1..=31)?);
    let (hour, minute, second) = (next(0..=23)?, next(0..=59)?, next(0..=60)?);
    Some(days * SECONDS_PER_DAY + (hour * 60 + minute) * 60 + second)
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |all, digit| {
        let digit = char::from(*digit).to_digit(10)?;
        Some(10 * all + i64::from(digit))
    })
}

/// Of a day in the Gregorian calendar. Years are taken to begin in March here, so that a leap day
/// is the last of its year: then the months before one have (153 * months + 2) / 5 days.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = match month {
        3.. => (year, month - 3),
        _ => (year - 1, month + 9),
    };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // 719,468 days lie between 1 March of the year 0 and 1970.
    365 * year + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn certificate(year: i32, month: u8, day: u8) -> Vec<u8> {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, month, day);
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn the_end_of_a_certificate_is_found() {
        for (year, month, day) in [
            (1999, 12, 31),
            (2024, 2, 29),
            (2026, 3, 1),
            (2049, 12, 31),
            (2050, 1, 1),
            (2100, 2, 28),
            (2100, 3, 1),
            (4096, 1, 1),
        ] {
            let expected = date_time_ymd(year, month, day).unix_timestamp();
            let found = not_after(&certificate(year, month, day));
            assert_eq!(found, Some(expected), "{year}-{month}-{day}");
        }
    }

    #[test]
    fn times_are_read_to_the_second() {
        assert_eq!(utc_time(b"700101000001Z"), Some(1));
        assert_eq!(utc_time(b"491231235959Z"), Some(2_524_607_999));
        assert_eq!(utc_time(b"500101000000Z"), Some(-631_152_000));
        // The moment that stands for no end.
        let never = generalized_time(b"99991231235959Z");
        assert_eq!(never, Some(253_402_300_799));
        for wrong in [
            "",
            "7001010000Z",
            "700101000001",
            "701301000001Z",
            "70010100000aZ",
        ] {
            assert_eq!(utc_time(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_cut_off_has_no_end() {
        let certificate = certificate(2030, 1, 1);
        for size in 0..certificate.len() {
            assert_eq!(not_after(&certificate[..size]), None, "{size}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(flips in any::<[(u16, u8); 4]>(), bytes in any::<Vec<u8>>()) {
            not_after(&bytes);
            let mut certificate = certificate(2030, 1, 1);
            for (place, byte) in flips {
                let place = usize::from(place) % certificate.len();
                certificate[place] = byte;
            }
            not_after(&certificate);
        }
    }
}

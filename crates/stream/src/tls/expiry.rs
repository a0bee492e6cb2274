//! When a certificate ends: the only thing in it that the tracker itself has to know.

use jiff::civil::DateTime;

/// Tags of DER (X.690, 8.1.2), as far as they lead to what is looked for.
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const EXPLICIT_0: u8 = 0xa0;

const UNIX_EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

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
    let is_of_2000 = text.first() < Some(&b'5');
    let century: &[u8] = if is_of_2000 { b"20" } else { b"19" };
    generalized_time(&[century, text].concat())
}

/// `YYYYMMDDHHMMSSZ`.
fn generalized_time(text: &[u8]) -> Option<i64> {
    let digits = text.strip_suffix(b"Z").filter(|text| text.len() == 14)?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let time = DateTime::strptime("%Y%m%d%H%M%S", digits).ok()?;
    // Not by way of a timestamp: those end before the last day of the year 9999 does, which stands
    // for no end.
    Some(time.duration_since(UNIX_EPOCH).as_secs())
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
        // A leap second is the one before.
        assert_eq!(utc_time(b"700101000060Z"), Some(59));
        // The moment that stands for no end.
        let never = generalized_time(b"99991231235959Z");
        assert_eq!(never, Some(253_402_300_799));
        for wrong in [
            "",
            "7001010000Z",
            "700101000001",
            "701301000001Z",
            "70010100000aZ",
            // No day of the calendar.
            "300230000000Z",
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

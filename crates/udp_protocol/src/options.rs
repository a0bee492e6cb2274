//! What may follow an announce: options (BEP 41).
//!
//! An option is a type byte, a length byte and that many bytes of data; two types are a single
//! byte. The only one with data so far carries the path and query of the tracker's URL, which UDP
//! would otherwise lose.

/// Ends the options; what follows is not looked at.
const END_OF_OPTIONS: u8 = 0;
/// Padding, a single byte.
const NOP: u8 = 1;
/// A piece of the URL's path and query.
const URL_DATA: u8 = 2;

/// Path and query of the URL that the client was given, as the pieces they were cut into.
///
/// A URL longer than 255 bytes takes several options, whose data belongs together:
///
/// ```
/// use aquatic_udp_protocol::{url_data, write_url_data};
///
/// let mut options = Vec::new();
/// write_url_data(b"/announce?passkey=1234", &mut options);
/// assert_eq!(url_data(&options).collect::<Vec<_>>().concat(), b"/announce?passkey=1234");
/// ```
///
/// Options of unknown type are skipped. One that says to be longer than the packet ends the list.
#[inline]
#[must_use]
pub fn url_data(options: &[u8]) -> UrlData<'_> {
    UrlData { options }
}

/// Appends path and query of a URL, in as many options as they need. Ends the list of options only
/// by being last: more may be appended.
pub fn write_url_data(path_and_query: &[u8], out: &mut Vec<u8>) {
    for piece in path_and_query.chunks(usize::from(u8::MAX)) {
        // Never the default: chunks are no longer than a byte can say.
        let length = u8::try_from(piece.len()).unwrap_or(u8::MAX);
        out.extend([URL_DATA, length]);
        out.extend_from_slice(piece);
    }
}

/// The pieces of a URL's path and query: see [`url_data`].
#[derive(Clone, Debug)]
pub struct UrlData<'a> {
    /// Not read yet. Stays where it is at the option that ends the list.
    options: &'a [u8],
}

impl<'a> Iterator for UrlData<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            let (kind, rest) = self.options.split_first()?;
            let (data, rest) = match *kind {
                END_OF_OPTIONS => None,
                NOP => Some((&[][..], rest)),
                _ => split_data(rest),
            }?;
            self.options = rest;
            if *kind == URL_DATA {
                return Some(data);
            }
        }
    }
}

/// The data of an option, and what follows it. `None` if the packet ends before the data does.
fn split_data(after_kind: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = after_kind.split_first()?;
    rest.split_at_checked(usize::from(*length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(options: &[u8]) -> Vec<u8> {
        url_data(options).collect::<Vec<_>>().concat()
    }

    #[test]
    fn padding_and_unknown_options_are_skipped() {
        assert_eq!(joined(b"\x01\x02\x02/a\x01\x09\x03xyz\x02\x02/b"), b"/a/b");
    }

    #[test]
    fn end_of_options_ends() {
        assert_eq!(joined(b"\x02\x02/a\x00\x02\x02/b"), b"/a");
        assert_eq!(joined(b"\x02\x02/a\x00\x00\x02\x02/b"), b"/a");
    }

    #[test]
    fn option_longer_than_the_packet_ends() {
        assert_eq!(joined(b"\x02\x02/a\x02\x03/b"), b"/a");
        assert_eq!(joined(b"\x02\x02/a\x02"), b"/a");
        assert_eq!(joined(b"\x02\x02/a\x09\xff\x02\x02/b"), b"/a");

        // And it stays ended.
        let mut pieces = url_data(b"\x02\x06/b\x02\x01c");
        assert_eq!(pieces.next(), None);
        assert_eq!(pieces.next(), None);
    }

    #[test]
    fn long_url_takes_several_options() {
        let url = vec![b'x'; 600];
        let mut options = Vec::new();
        write_url_data(&url, &mut options);
        assert_eq!(options.len(), 600 + 3 * 2);
        let lengths: Vec<_> = url_data(&options).map(<[u8]>::len).collect();
        assert_eq!(lengths, [255, 255, 90]);
        assert_eq!(joined(&options), url);
    }

    #[test]
    fn empty_url_takes_no_option() {
        let mut options = Vec::new();
        write_url_data(b"", &mut options);
        assert_eq!(options, b"");
        assert_eq!(joined(b""), b"");
        assert_eq!(url_data(b"\x02\x00").next(), Some(&b""[..]));
    }
}

//! The list and its file format.

use std::collections::HashSet;
use std::fmt::{self, Debug, Display, Formatter};
use std::io::{self, BufRead, Read};

use aquatic_types::{InfoHash, ParseInfoHashError};

/// A set of info hashes.
///
/// About 24 to 48 bytes per hash, in one allocation. Strangers choose what is looked up, and often
/// what an operator has to deny, so the hash is the standard library's: SipHash with a random key.
/// A faster hash was measured to save 6 of the 13 ns that a look-up takes.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct AccessList {
    info_hashes: HashSet<InfoHash>,
}

impl AccessList {
    /// Reads one info hash per line: 40 hexadecimal digits of either case.
    ///
    /// Blank lines, lines that start with `#`, white space around a hash and either kind of line
    /// end are fine, and so is naming a hash twice. What follows a hash is a comment, as in the
    /// lists of opentracker (`<40 digits> - name`), but not another hash.
    ///
    /// # Errors
    ///
    /// At the first line that is anything else, or cannot be read.
    pub fn parse(reader: impl BufRead) -> Result<Self, AccessListError> {
        Self::parse_lines(reader, 0)
    }

    /// As [`Self::parse`], for a file of which it is known that it has about so many lines. The
    /// list is made at its final size then. One that grows leaves its earlier, smaller copies
    /// with the allocator, which together are as large as the list.
    ///
    /// # Errors
    ///
    /// Likewise.
    pub fn parse_lines(mut reader: impl BufRead, lines: usize) -> Result<Self, AccessListError> {
        let mut list = Self {
            info_hashes: HashSet::with_capacity(lines),
        };
        let mut line = Vec::new();
        for number in 1.. {
            let error = |kind| AccessListError { line: number, kind };
            line.clear();
            let limit = LINE_BYTES_MAX as u64 + 1;
            match reader.by_ref().take(limit).read_until(b'\n', &mut line) {
                Ok(0) => break,
                Ok(size) if size > LINE_BYTES_MAX => {
                    return Err(error(AccessListErrorKind::TooLong));
                }
                Ok(_) => list.info_hashes.extend(parse_line(&line).map_err(error)?),
                Err(cause) => return Err(error(AccessListErrorKind::Read(cause))),
            }
        }
        Ok(list)
    }

    /// Whether the list names this torrent.
    #[inline]
    #[must_use]
    pub fn contains(&self, info_hash: &InfoHash) -> bool {
        self.info_hashes.contains(info_hash)
    }

    /// How many torrents the list names.
    #[must_use]
    pub fn len(&self) -> usize {
        self.info_hashes.len()
    }

    /// Whether the list names none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.info_hashes.is_empty()
    }
}

/// Longer lines are of no list: without a bound, a file without line ends (an image of a disk, say)
/// would be read into memory as a whole.
const LINE_BYTES_MAX: usize = 64 * 1_024;

/// Digits of an info hash.
const DIGITS: usize = 40;

/// Some editors begin a file with a byte order mark, which no one can see.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// The info hash of a line, if it is not blank or a comment.
fn parse_line(line: &[u8]) -> Result<Option<InfoHash>, AccessListErrorKind> {
    let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
    let line = line.trim_ascii();
    if line.is_empty() || line.starts_with(b"#") {
        return Ok(None);
    }
    let line = without_comment(line)?;
    let text = str::from_utf8(line).map_err(|_| AccessListErrorKind::NotText)?;
    let info_hash = text.parse().map_err(AccessListErrorKind::InfoHash)?;
    Ok(Some(info_hash))
}

/// The line up to the end of its hash, if a comment follows. A comment need not be UTF-8: names of
/// torrents often are not.
fn without_comment(line: &[u8]) -> Result<&[u8], AccessListErrorKind> {
    let is_hash = |word: &[u8]| word.len() == DIGITS && word.iter().all(u8::is_ascii_hexdigit);
    match line.split_at_checked(DIGITS) {
        Some((hash, comment))
            if is_hash(hash) && comment.first().is_some_and(|next| !is_word(next)) =>
        {
            let mut words = comment.split(|byte| !is_word(byte));
            match words.any(is_hash) {
                true => Err(AccessListErrorKind::SecondInfoHash),
                false => Ok(hash),
            }
        }
        _ => Ok(line),
    }
}

/// Whether a byte cannot end a hash: one more letter or digit would make it another word.
fn is_word(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || !byte.is_ascii()
}

impl FromIterator<InfoHash> for AccessList {
    fn from_iter<I: IntoIterator<Item = InfoHash>>(info_hashes: I) -> Self {
        let info_hashes = info_hashes.into_iter().collect();
        Self { info_hashes }
    }
}

impl Debug for AccessList {
    /// The length only: lists are long.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "AccessList({} info hashes)", self.len())
    }
}

/// Why a file is no access list. The caller knows the file's name.
#[derive(Debug)]
pub struct AccessListError {
    /// Where: the first line is 1.
    pub line: u64,
    /// What is wrong there.
    pub kind: AccessListErrorKind,
}

/// What is wrong with a line of an access list.
#[derive(Debug)]
pub enum AccessListErrorKind {
    /// It is no info hash.
    InfoHash(ParseInfoHashError),
    /// There is more than one in it.
    SecondInfoHash,
    /// It has more than 64 KiB.
    TooLong,
    /// It is not even text: the file may be of another kind.
    NotText,
    /// It could not be read.
    Read(io::Error),
}

impl Display for AccessListError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: ", self.line)?;
        match &self.kind {
            AccessListErrorKind::InfoHash(cause) => {
                Display::fmt(cause, f)?;
                match cause {
                    ParseInfoHashError::Length(64) => {
                        f.write_str("; of a hash of BitTorrent v2, write the first 40")
                    }
                    ParseInfoHashError::Length(32) => {
                        f.write_str("; one in base 32 has to be written in hexadecimal digits")
                    }
                    _ => Ok(()),
                }
            }
            AccessListErrorKind::SecondInfoHash => {
                f.write_str("more than one info hash: write each on a line of its own")
            }
            AccessListErrorKind::TooLong => write!(f, "longer than {LINE_BYTES_MAX} bytes"),
            AccessListErrorKind::NotText => f.write_str("not UTF-8 text"),
            AccessListErrorKind::Read(cause) => write!(f, "cannot be read: {cause}"),
        }
    }
}

/// No `source`: the cause is part of the message.
impl std::error::Error for AccessListError {}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Read};

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const A: &str = "00112233445566778899aabbccddeeff00112233";
    const B: &str = "FFEEDDCCBBAA99887766554433221100FFEEDDCC";

    fn error(file: &[u8]) -> String {
        AccessList::parse(file).unwrap_err().to_string()
    }

    /// A device that never ends a line, say.
    #[test]
    fn a_line_that_does_not_end_is_refused() {
        let error = AccessList::parse(BufReader::new(io::repeat(b'a'))).unwrap_err();
        assert_eq!(error.to_string(), "line 1: longer than 65536 bytes");
        let longest = format!("{A}{}", " ".repeat(LINE_BYTES_MAX - 1 - A.len()));
        let list = AccessList::parse(format!("{longest}\n{B}").as_bytes()).unwrap();
        assert_eq!(list.len(), 2);
        let error = AccessList::parse(format!("{longest}  \n{B}").as_bytes()).unwrap_err();
        assert!(matches!(error.kind, AccessListErrorKind::TooLong));
    }

    #[test]
    fn tolerated_forms() {
        let file = format!("\u{feff}# ours\r\n\r\n  {A}\t\r\n\n   # indented\n{B}\n{A}\n{B}");
        let list = AccessList::parse(file.as_bytes()).unwrap();
        assert_eq!(list.len(), 2);
        assert!(list.contains(&A.parse().unwrap()));
        assert!(list.contains(&B.parse().unwrap()));
        assert!(!list.contains(&InfoHash([0; 20])));
    }

    #[test]
    fn lists_of_opentracker_load() {
        for comment in [
            " - Big Buck Bunny",
            "  -  a name   ",
            " # a comment",
            "# a comment",
            "\t;",
            " - name\r",
            " a4c0ffee: not a hash",
            "   ",
        ] {
            for start in ["", "\u{feff}", " "] {
                let file = format!("{start}{A}{comment}\n{B}\n");
                let list = AccessList::parse(file.as_bytes()).unwrap();
                assert_eq!(list.len(), 2, "{file}");
                assert!(list.contains(&A.parse().unwrap()), "{file}");
            }
        }
        // "Кино", in the encoding of a Windows of its country.
        let mut file = A.as_bytes().to_vec();
        file.extend(b" - \xca\xe8\xed\xee\n");
        file.extend(b"# \xca\xe8\xed\xee\n");
        assert_eq!(AccessList::parse(&file[..]).unwrap().len(), 1);
    }

    #[test]
    fn empty_file_is_an_empty_list() {
        for file in ["", "\n", "# nothing"] {
            assert!(AccessList::parse(file.as_bytes()).unwrap().is_empty());
        }
    }

    #[test]
    fn error_names_line_and_fault() {
        assert_eq!(
            error(format!("{A}\n\n{}\n{B}", &A[..39]).as_bytes()),
            "line 3: an info hash has 40 hexadecimal digits, this has 39 bytes",
        );
        assert_eq!(
            error(format!("# x\n{}g", &A[..39]).as_bytes()),
            "line 2: character 40 is not a hexadecimal digit",
        );
        for line in [
            format!("{A} {B}"),
            format!("{A},{B}"),
            format!("{A} - x # {B}"),
        ] {
            assert_eq!(
                error(line.as_bytes()),
                "line 1: more than one info hash: write each on a line of its own",
            );
        }
        assert_eq!(
            error(format!("{A}f - name").as_bytes()),
            "line 1: an info hash has 40 hexadecimal digits, this has 48 bytes",
        );
        assert_eq!(
            error(&A.repeat(2).as_bytes()[..64]),
            "line 1: an info hash has 40 hexadecimal digits, this has 64 bytes; of a hash of \
             BitTorrent v2, write the first 40",
        );
        assert_eq!(
            error(b"IFBEGRCFIZDUQSKKJNGE2TSPKBIVEU2U"),
            "line 1: an info hash has 40 hexadecimal digits, this has 32 bytes; one in base 32 has \
             to be written in hexadecimal digits",
        );
        assert_eq!(error(b"\n\xff\xfe\n"), "line 2: not UTF-8 text");
    }

    #[test]
    fn error_of_the_reader_names_the_line() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("disk on fire"))
            }
        }
        let file = BufReader::new(A.as_bytes().chain(&b"\n"[..]).chain(Broken));
        let error = AccessList::parse(file).unwrap_err().to_string();
        assert_eq!(error, "line 2: cannot be read: disk on fire");
    }

    proptest! {
        #[test]
        fn printed_list_is_parsed_back(hashes in vec(any::<[u8; 20]>().prop_map(InfoHash), 0..99)) {
            let file: String = hashes.iter().map(|hash| format!("{hash}\n")).collect();
            let list = AccessList::parse(file.as_bytes()).unwrap();
            prop_assert!(hashes.iter().all(|hash| list.contains(hash)));
            prop_assert_eq!(list, AccessList::from_iter(hashes));
        }

        #[test]
        fn any_bytes_are_a_list_or_an_error(file in vec(any::<u8>(), 0..300)) {
            let lines = 1 + file.iter().filter(|byte| **byte == b'\n').count();
            match AccessList::parse(&file[..]) {
                Ok(list) => prop_assert!(list.len() <= lines),
                Err(error) => prop_assert!((1..=lines).contains(&usize::try_from(error.line)?)),
            }
        }
    }
}

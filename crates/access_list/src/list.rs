//! The list and its file format.

use std::collections::{HashMap, HashSet};
use std::fmt::{self, Debug, Display, Formatter};
use std::io::{self, BufRead, Read};
use std::sync::Arc;

use aquatic_types::{InfoHash, ParseInfoHashError};

/// So many changes are kept beside a table at most: they stay in the cache of a CPU, and a table of
/// a million, which takes 30 ms to copy, is copied once in a thousand changes. Fewer in tests,
/// which are to see that.
const CHANGES_MAX: usize = if cfg!(test) { 8 } else { 1_024 };

/// A set of info hashes.
///
/// About 24 to 48 bytes per hash. Strangers choose what is looked up, and often what an operator
/// has to deny, so the hash is the standard library's: SipHash with a random key. A faster hash was
/// measured to save 6 of the 13 ns that a look-up takes.
///
/// A clone shares the table, and whoever changes one of the two lists keeps what has been changed
/// beside it, up to a thousand: then the list gets a table of its own. One table is one piece of
/// memory, and large ones the C library gives back to the system as soon as they are freed.
#[derive(Clone, Default)]
pub struct AccessList {
    table: Arc<HashSet<InfoHash>>,
    /// What is otherwise than in the table: whether it is on the list.
    changes: Arc<HashMap<InfoHash, bool>>,
    len: usize,
}

impl AccessList {
    /// An empty list with room for so many hashes.
    fn with_capacity(hashes: usize) -> Self {
        Self {
            table: Arc::new(HashSet::with_capacity(hashes)),
            ..Self::default()
        }
    }

    /// Puts a torrent on the list. Returns whether it was not on it.
    pub fn insert(&mut self, info_hash: InfoHash) -> bool {
        let is_new = !self.contains(&info_hash);
        if is_new {
            self.change(info_hash, true);
            self.len += 1;
        }
        is_new
    }

    /// Takes a torrent from the list. Returns whether it was on it.
    pub fn remove(&mut self, info_hash: &InfoHash) -> bool {
        let was_there = self.contains(info_hash);
        if was_there {
            self.change(*info_hash, false);
            self.len -= 1;
        }
        was_there
    }

    /// Has it otherwise than it was whether a torrent is listed.
    fn change(&mut self, info_hash: InfoHash, is_listed: bool) {
        if let Some(table) = Arc::get_mut(&mut self.table) {
            // Nobody else sees it.
            if !self.changes.is_empty() {
                let changes = std::mem::take(&mut self.changes);
                apply(table, &changes);
            }
            set(table, info_hash, is_listed);
            return;
        }
        let changes = Arc::make_mut(&mut self.changes);
        match self.table.contains(&info_hash) == is_listed {
            true => changes.remove(&info_hash),
            false => changes.insert(info_hash, is_listed),
        };
        if changes.len() > CHANGES_MAX {
            let mut table = HashSet::clone(&self.table);
            let changes = std::mem::take(&mut self.changes);
            apply(&mut table, &changes);
            self.table = Arc::new(table);
        }
    }

    /// Whether most of the memory of the two lists is the same, so that to free one of them is the
    /// work of an instant.
    #[must_use]
    pub fn shares_table_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.table, &other.table)
    }

    /// Whether there is another list with the same table.
    pub(crate) fn table_is_shared(&self) -> bool {
        Arc::strong_count(&self.table) > 1
    }

    /// The torrents of the list, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &InfoHash> {
        let is_unchanged = |it: &&InfoHash| !self.changes.contains_key(*it);
        let added = self.changes.iter().filter(|(_, is_listed)| **is_listed);
        let unchanged = self.table.iter().filter(is_unchanged);
        unchanged.chain(added.map(|(info_hash, _)| info_hash))
    }

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
        let mut list = Self::with_capacity(lines);
        let mut line = Vec::new();
        for number in 1.. {
            let error = |kind| AccessListError { line: number, kind };
            line.clear();
            let limit = LINE_BYTES_MAX as u64 + 1;
            match reader.by_ref().take(limit).read_until(b'\n', &mut line) {
                Ok(0) => break,
                Ok(size) if size > LINE_BYTES_MAX && !line.ends_with(b"\n") => {
                    return Err(error(AccessListErrorKind::TooLong));
                }
                Ok(_) => {
                    if let Some(info_hash) = Self::parse_line(&line).map_err(error)? {
                        list.insert(info_hash);
                    }
                }
                Err(cause) => return Err(error(AccessListErrorKind::Read(cause))),
            }
        }
        Ok(list)
    }

    /// The info hash of a line, if it is not blank or a comment.
    ///
    /// # Errors
    ///
    /// If it is anything else.
    pub fn parse_line(line: &[u8]) -> Result<Option<InfoHash>, AccessListErrorKind> {
        let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            return Ok(None);
        }
        if line.starts_with(b"magnet:") {
            return Err(AccessListErrorKind::MagnetLink);
        }
        let line = without_comment(line)?;
        let text = str::from_utf8(line).map_err(|_| AccessListErrorKind::NotText)?;
        let info_hash = text.parse().map_err(AccessListErrorKind::InfoHash)?;
        Ok(Some(info_hash))
    }

    /// Whether the list names this torrent.
    #[inline]
    #[must_use]
    pub fn contains(&self, info_hash: &InfoHash) -> bool {
        if !self.changes.is_empty()
            && let Some(is_listed) = self.changes.get(info_hash)
        {
            return *is_listed;
        }
        self.table.contains(info_hash)
    }

    /// How many torrents the list names.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the list names none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// Longer lines are of no list: without a bound, a file without line ends (an image of a disk, say)
/// would be read into memory as a whole.
const LINE_BYTES_MAX: usize = 64 * 1_024;

/// Digits of an info hash.
const DIGITS: usize = 40;

/// Some editors begin a file with a byte order mark, which no one can see.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

fn set(table: &mut HashSet<InfoHash>, info_hash: InfoHash, is_listed: bool) {
    match is_listed {
        true => table.insert(info_hash),
        false => table.remove(&info_hash),
    };
}

fn apply(table: &mut HashSet<InfoHash>, changes: &HashMap<InfoHash, bool>) {
    for (info_hash, is_listed) in changes {
        set(table, *info_hash, *is_listed);
    }
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
        let info_hashes = info_hashes.into_iter();
        let mut list = Self::with_capacity(info_hashes.size_hint().0);
        for info_hash in info_hashes {
            list.insert(info_hash);
        }
        list
    }
}

impl PartialEq for AccessList {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().all(|it| other.contains(it))
    }
}

impl Eq for AccessList {}

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
    /// It is a magnet link.
    MagnetLink,
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
            AccessListErrorKind::MagnetLink => {
                f.write_str("a magnet link: write only the 40 hexadecimal digits after `btih:`")
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
        // With an end and without: the last line may get one.
        let longest = format!("{A}{}", " ".repeat(LINE_BYTES_MAX - A.len()));
        for file in [format!("{longest}\n{B}"), format!("{B}\n{longest}")] {
            assert_eq!(AccessList::parse(file.as_bytes()).unwrap().len(), 2);
        }
        let error = AccessList::parse(format!("{longest} \n{B}").as_bytes()).unwrap_err();
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
            error(format!("magnet:?xt=urn:btih:{A}&dn=name").as_bytes()),
            "line 1: a magnet link: write only the 40 hexadecimal digits after `btih:`",
        );
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

    #[test]
    fn a_change_shares_the_table_and_leaves_the_clone() {
        let (a, b) = (A.parse().unwrap(), B.parse().unwrap());
        let before = AccessList::from_iter([a, InfoHash([7; 20])]);
        let mut after = before.clone();
        assert!(!after.insert(a) && !after.remove(&b));
        assert!(after.insert(b) && !after.insert(b));
        assert!(after.remove(&a) && !after.remove(&a));
        assert!(after.shares_table_with(&before));
        assert!(before.contains(&a) && !before.contains(&b));
        assert!(after.contains(&b) && !after.contains(&a));
        assert_eq!((before.len(), after.len()), (2, 2));
        assert_ne!(before, after);
        assert!(after.insert(a) && after.remove(&b));
        assert_eq!(before, after);
        assert!(after.changes.is_empty(), "changed back");
    }

    /// Or each change would copy more, and look-ups wait for two places in memory.
    #[test]
    fn many_changes_make_a_table_of_their_own() {
        let hash = |number: usize| {
            let mut hash = [0; 20];
            hash[..8].copy_from_slice(&number.to_be_bytes());
            InfoHash(hash)
        };
        let before: AccessList = (0..100).map(hash).collect();
        let mut after = before.clone();
        for number in 0..CHANGES_MAX {
            assert!(after.remove(&hash(number)));
        }
        assert!(after.shares_table_with(&before));
        assert!(after.remove(&hash(CHANGES_MAX)));
        assert!(!after.shares_table_with(&before));
        assert!(after.changes.is_empty());
        assert_eq!((before.len(), after.len()), (100, 99 - CHANGES_MAX));
        assert!(after.insert(hash(CHANGES_MAX)));
        assert!(after.changes.is_empty(), "nobody shares the new one");
        let others: HashSet<_> = (CHANGES_MAX..100).map(hash).collect();
        assert_eq!(after.iter().copied().collect::<HashSet<_>>(), others);
    }

    proptest! {
        #[test]
        fn a_changed_list_is_what_a_set_would_be(
            steps in vec((any::<bool>(), 0_u8..3, 0_u8..8), 0..200),
        ) {
            let (mut list, mut set) = (AccessList::default(), HashSet::new());
            // A list in use, from which the one that is changed comes.
            let mut in_use = None;
            for (is_added, first, last) in steps {
                match last {
                    0 => in_use = Some((list.clone(), set.clone())),
                    1 => in_use = None,
                    _ => {}
                }
                let mut info_hash = InfoHash([first; 20]);
                info_hash.0[19] = last;
                match is_added {
                    true => prop_assert_eq!(list.insert(info_hash), set.insert(info_hash)),
                    false => prop_assert_eq!(list.remove(&info_hash), set.remove(&info_hash)),
                }
                prop_assert_eq!((list.len(), list.is_empty()), (set.len(), set.is_empty()));
                if let Some((in_use, before)) = &in_use {
                    prop_assert_eq!(in_use.len(), before.len());
                    prop_assert!(in_use.iter().all(|it| before.contains(it)));
                }
            }
            prop_assert_eq!(list.iter().copied().collect::<HashSet<_>>(), set);
        }

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

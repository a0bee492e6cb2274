//! The sizes of swarms, as a tracker answers a scrape (BEP 48).

use std::borrow::Cow;

use aquatic_types::InfoHash;

use crate::Framing;
use crate::bencode::{Dictionary, Value, count};
use crate::response_head::write_answer;
use crate::sink::{Body, Sink};

/// Gives the sizes of swarms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrapeResponse<'a> {
    /// One per torrent, in the order of their info hashes.
    files: Cow<'a, [ScrapeFile]>,
    /// How long the client should wait before it scrapes again (BEP 48).
    pub min_request_interval_seconds: Option<u32>,
}

/// The size of one swarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrapeFile {
    /// The torrent.
    pub info_hash: InfoHash,
    /// Peers that have everything.
    pub seeders: u32,
    /// How often a download was completed.
    pub completed: u32,
    /// Peers that lack something.
    pub leechers: u32,
    /// Those of the leechers that are downloading; the others are partial seeds (BEP 21).
    pub downloaders: u32,
}

impl<'a> ScrapeResponse<'a> {
    /// An answer with these swarms, which may come in any order. They get sorted as the keys of a
    /// dictionary must be, and each torrent is kept once.
    #[must_use]
    pub fn new(files: &'a mut Vec<ScrapeFile>) -> Self {
        sort(files);
        Self {
            files: Cow::Borrowed(files),
            min_request_interval_seconds: None,
        }
    }

    /// The swarms, in the order of their info hashes.
    #[must_use]
    pub fn files(&self) -> &[ScrapeFile] {
        &self.files
    }

    /// Appends a whole HTTP response.
    pub fn write(&self, framing: Framing, out: &mut Vec<u8>) {
        write_answer(framing, self, out);
    }

    pub(crate) fn read(files: Dictionary<'_>, flags: Option<Dictionary<'_>>) -> Self {
        let mut files: Vec<_> = files.filter_map(read_file).collect();
        sort(&mut files);
        let interval = flags.into_iter().flatten().find_map(|flag| match flag {
            (b"min_request_interval", Value::Integer(seconds)) => Some(count(seconds)),
            _ => None,
        });
        Self {
            files: Cow::Owned(files),
            min_request_interval_seconds: interval,
        }
    }
}

impl Body for ScrapeResponse<'_> {
    fn put(&self, sink: &mut impl Sink) {
        sink.put(b"d5:filesd");
        for file in self.files.iter() {
            sink.put_string(&file.info_hash.0);
            sink.put_integer(b"d8:completei", file.seeders);
            sink.put_integer(b"10:downloadedi", file.completed);
            sink.put_integer(b"11:downloadersi", file.downloaders);
            sink.put_integer(b"10:incompletei", file.leechers);
            sink.put(b"e");
        }
        sink.put(b"e");
        if let Some(seconds) = self.min_request_interval_seconds {
            sink.put_integer(b"5:flagsd20:min_request_intervali", seconds);
            sink.put(b"e");
        }
        sink.put(b"e");
    }
}

fn sort(files: &mut Vec<ScrapeFile>) {
    files.sort_unstable_by_key(|file| file.info_hash);
    files.dedup_by_key(|file| file.info_hash);
}

/// `None` if the key is no info hash, or the value no dictionary.
fn read_file((key, value): (&[u8], Value<'_>)) -> Option<ScrapeFile> {
    let Value::Dictionary(counts) = value else {
        return None;
    };
    let mut file = ScrapeFile {
        info_hash: InfoHash(key.try_into().ok()?),
        seeders: 0,
        completed: 0,
        leechers: 0,
        downloaders: 0,
    };
    let mut downloaders = None;
    for (key, value) in counts {
        match (key, value) {
            (b"complete", Value::Integer(number)) => file.seeders = count(number),
            (b"downloaded", Value::Integer(number)) => file.completed = count(number),
            (b"downloaders", Value::Integer(number)) => downloaders = Some(count(number)),
            (b"incomplete", Value::Integer(number)) => file.leechers = count(number),
            _ => {}
        }
    }
    file.downloaders = downloaders.unwrap_or(file.leechers);
    Some(file)
}

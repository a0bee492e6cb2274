//! The sizes of swarms, as a tracker answers a scrape.

use std::borrow::Cow;

use aquatic_types::InfoHash;

use crate::json::{JsonError, Reader};
use crate::message::{Parts, Sink};
use crate::response::count;

/// Gives the sizes of swarms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrapeResponse<'a> {
    /// One per torrent, in the order of their info hashes.
    files: Cow<'a, [ScrapeFile]>,
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
}

impl<'a> ScrapeResponse<'a> {
    /// Bytes of the largest answer about so many torrents.
    #[must_use]
    pub fn size_max(files: usize) -> usize {
        // A control character is written as \u00xx, and a u32 has up to ten digits.
        const FILE: usize =
            r#","":{"complete":,"downloaded":,"incomplete":}"#.len() + 20 * 6 + 3 * 10;
        r#"{"action":"scrape","files":{}}"#.len() + files * FILE
    }

    /// An answer with these swarms, which may come in any order. They get sorted, and each torrent
    /// is kept once: a JSON object has each key once.
    #[must_use]
    pub fn new(files: &'a mut Vec<ScrapeFile>) -> Self {
        sort(files);
        Self {
            files: Cow::Borrowed(files),
        }
    }

    /// The swarms, in the order of their info hashes.
    #[must_use]
    pub fn files(&self) -> &[ScrapeFile] {
        &self.files
    }

    /// Reads the value of `files`; nothing if that is not an object.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, JsonError> {
        let mut files = Vec::new();
        if reader.is_next(b'{') {
            reader.members(|reader, key| {
                let info_hash = key.bytes_20().map(InfoHash);
                files.extend(ScrapeFile::read(info_hash, reader)?);
                Ok(())
            })?;
        } else {
            reader.value()?;
        }
        sort(&mut files);
        Ok(Self {
            files: Cow::Owned(files),
        })
    }
}

impl ScrapeFile {
    /// Reads the value of an info hash; `None` if it is not an object, or the key was none.
    fn read(
        info_hash: Option<InfoHash>,
        reader: &mut Reader<'_>,
    ) -> Result<Option<Self>, JsonError> {
        if !reader.is_next(b'{') {
            reader.value()?;
            return Ok(None);
        }
        let [mut seeders, mut completed, mut leechers] = [0; 3];
        reader.members(|reader, key| {
            let value = reader.value()?;
            match &*key.decoded() {
                "complete" => seeders = count(Some(value)),
                "downloaded" => completed = count(Some(value)),
                "incomplete" => leechers = count(Some(value)),
                _ => {}
            }
            Ok(())
        })?;
        Ok(info_hash.map(|info_hash| Self {
            info_hash,
            seeders,
            completed,
            leechers,
        }))
    }
}

impl Parts for ScrapeResponse<'_> {
    fn put(&self, sink: &mut impl Sink) {
        sink.put(r#"{"action":"scrape","files":{"#);
        let mut before = "\"";
        for file in self.files.iter() {
            sink.put_bytes_20(before, &file.info_hash.0);
            sink.put_number(r#":{"complete":"#, file.seeders);
            sink.put_number(r#","downloaded":"#, file.completed);
            sink.put_number(r#","incomplete":"#, file.leechers);
            sink.put("}");
            before = ",\"";
        }
        sink.put("}}");
    }
}

fn sort(files: &mut Vec<ScrapeFile>) {
    files.sort_unstable_by_key(|file| file.info_hash);
    files.dedup_by_key(|file| file.info_hash);
}

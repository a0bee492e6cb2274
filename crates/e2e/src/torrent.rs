//! A file of random bytes, and the `.torrent` that describes it (BEP 3, BEP 27).

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha1::{Digest, Sha1};

/// Not a multiple of the piece length: the last piece of a real torrent is short, too.
const CONTENT_BYTES: usize = 3 * 1024 * 1024 + 4321;
const PIECE_BYTES: usize = 64 * 1024;
const FILE_NAME: &str = "content.bin";

/// Something to transfer.
#[derive(Debug)]
pub struct Torrent {
    content: Vec<u8>,
    metainfo: Vec<u8>,
    /// The info dictionary.
    info: Vec<u8>,
    info_hash: [u8; 20],
}

impl Torrent {
    /// New random content, to be announced at `announce_url`. The torrent is private (BEP 27):
    /// a client must not look for peers anywhere but at that tracker.
    #[must_use]
    pub fn random(announce_url: &str) -> Self {
        let mut content = vec![0; CONTENT_BYTES];
        fastrand::fill(&mut content);
        let pieces: Vec<u8> = content.chunks(PIECE_BYTES).flat_map(Sha1::digest).collect();

        // Keys of a bencoded dictionary are sorted.
        let mut info = b"d".to_vec();
        put_integer(&mut info, b"length", content.len());
        put_bytes(&mut info, b"name", FILE_NAME.as_bytes());
        put_integer(&mut info, b"piece length", PIECE_BYTES);
        put_bytes(&mut info, b"pieces", &pieces);
        put_integer(&mut info, b"private", 1);
        info.push(b'e');

        Self {
            content,
            metainfo: metainfo(announce_url, &info),
            info_hash: Sha1::digest(&info).into(),
            info,
        }
    }

    /// The same content, to be announced elsewhere.
    #[must_use]
    pub fn at(&self, announce_url: &str) -> Self {
        Self {
            content: self.content.clone(),
            metainfo: metainfo(announce_url, &self.info),
            info_hash: self.info_hash,
            info: self.info.clone(),
        }
    }

    /// The same content, to be announced at one of these that works (BEP 12).
    #[must_use]
    pub fn at_tier(&self, announce_urls: &[&str]) -> Self {
        let mut list = b"ll".to_vec();
        for url in announce_urls {
            put_string(&mut list, url.as_bytes());
        }
        list.extend(b"ee");
        let mut metainfo = b"d".to_vec();
        let first = announce_urls.first().copied().unwrap_or_default();
        put_bytes(&mut metainfo, b"announce", first.as_bytes());
        put_string(&mut metainfo, b"announce-list");
        metainfo.extend(list);
        put_string(&mut metainfo, b"info");
        metainfo.extend(&self.info);
        metainfo.push(b'e');
        Self {
            metainfo,
            ..self.at("")
        }
    }

    /// The SHA-1 of the info dictionary.
    #[must_use]
    pub fn info_hash(&self) -> [u8; 20] {
        self.info_hash
    }

    /// Writes the `.torrent`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_metainfo(&self, path: &Path) -> Result<()> {
        fs::write(path, &self.metainfo).with_context(|| format!("write {}", path.display()))
    }

    /// Puts the content into `folder`, as a seeder has it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_content(&self, folder: &Path) -> Result<()> {
        let path = Self::content_path(folder);
        fs::write(&path, &self.content).with_context(|| format!("write {}", path.display()))
    }

    /// Whether `folder` holds the content, byte by byte.
    #[must_use]
    pub fn has_arrived(&self, folder: &Path) -> bool {
        fs::read(Self::content_path(folder)).is_ok_and(|bytes| bytes == self.content)
    }

    /// How many of its pieces `folder` holds; none if the client keeps them elsewhere until all
    /// are there.
    #[must_use]
    pub fn pieces_arrived(&self, folder: &Path) -> usize {
        let bytes = fs::read(Self::content_path(folder)).unwrap_or_default();
        let pieces = bytes
            .chunks(PIECE_BYTES)
            .zip(self.content.chunks(PIECE_BYTES));
        pieces.filter(|(arrived, piece)| arrived == piece).count()
    }

    fn content_path(folder: &Path) -> PathBuf {
        folder.join(FILE_NAME)
    }
}

/// The `.torrent` around an info dictionary.
fn metainfo(announce_url: &str, info: &[u8]) -> Vec<u8> {
    let mut metainfo = b"d".to_vec();
    put_bytes(&mut metainfo, b"announce", announce_url.as_bytes());
    put_string(&mut metainfo, b"info");
    metainfo.extend(info);
    metainfo.push(b'e');
    metainfo
}

fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(format!("{}:", bytes.len()).into_bytes());
    out.extend(bytes);
}

fn put_bytes(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    put_string(out, key);
    put_string(out, value);
}

fn put_integer(out: &mut Vec<u8>, key: &[u8], value: usize) {
    put_string(out, key);
    out.extend(format!("i{value}e").into_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_pieces_in_their_places_count() {
        let folder = tempfile::tempdir().unwrap();
        let torrent = Torrent::random("http://localhost/announce");
        assert_eq!(torrent.pieces_arrived(folder.path()), 0);
        let path = Torrent::content_path(folder.path());
        // As clients do: room for all, and then what comes, in any order.
        let mut partial = vec![0; CONTENT_BYTES];
        fs::write(&path, &partial).unwrap();
        assert_eq!(torrent.pieces_arrived(folder.path()), 0);
        for range in [
            PIECE_BYTES..2 * PIECE_BYTES,
            48 * PIECE_BYTES..CONTENT_BYTES,
        ] {
            partial[range.clone()].copy_from_slice(&torrent.content[range]);
        }
        partial[5 * PIECE_BYTES] = torrent.content[5 * PIECE_BYTES];
        fs::write(&path, &partial).unwrap();
        assert_eq!(torrent.pieces_arrived(folder.path()), 2);
        assert!(!torrent.has_arrived(folder.path()));
        torrent.write_content(folder.path()).unwrap();
        assert_eq!(torrent.pieces_arrived(folder.path()), 49);
        assert!(torrent.has_arrived(folder.path()));
    }
}

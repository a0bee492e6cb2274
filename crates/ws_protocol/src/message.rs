//! How messages are written: described once, for whatever takes their bytes.
//!
//! The description of a message runs twice: to learn its size, which has to be known before the
//! first byte of a WebSocket frame can be written, and to write it.

use aquatic_types::{InfoHash, PeerId};

use crate::OfferId;
use crate::text::written;

/// What can be sent, in either direction.
pub trait Message: Parts {
    /// How many bytes it takes.
    #[inline]
    fn size(&self) -> usize {
        let mut size = Size(0);
        self.put(&mut size);
        size.0
    }

    /// Appends the whole message.
    #[inline]
    fn write(&self, out: &mut Vec<u8>) {
        out.reserve(self.size());
        self.put(out);
    }
}

impl<T: Parts> Message for T {}

/// What a message consists of.
pub trait Parts {
    /// Puts it into a sink.
    fn put(&self, sink: &mut impl Sink);
}

/// Takes the bytes of a message in order.
pub trait Sink {
    /// Appends text as it stands.
    fn put(&mut self, text: &str);

    /// Appends the character that a byte stands for in a string.
    fn put_character(&mut self, byte: u8);

    /// Appends a text as it stands, with the quote that starts a string; the string that stands for
    /// 20 bytes; and the quote that ends it.
    #[inline]
    fn put_bytes_20(&mut self, before: &str, bytes: &[u8; 20]) {
        self.put(before);
        for byte in bytes {
            self.put_character(*byte);
        }
        self.put("\"");
    }

    /// Appends the start of an announce of any kind: which torrent, and which peer's.
    #[inline]
    fn put_announce(&mut self, info_hash: InfoHash, peer_id: PeerId) {
        self.put_bytes_20(r#"{"action":"announce","info_hash":""#, &info_hash.0);
        self.put_bytes_20(r#","peer_id":""#, &peer_id.0);
    }

    /// Appends the end of an offer or an answer: texts as they stand (keys), and after each what
    /// belongs to it.
    #[inline]
    fn put_signal(&mut self, before_id: &str, offer_id: OfferId, before_json: &str, json: &str) {
        self.put_bytes_20(before_id, &offer_id.0);
        self.put(before_json);
        self.put(json);
        self.put("}");
    }

    /// Appends a text as it stands, and a number.
    #[inline]
    fn put_number(&mut self, before: &str, number: impl itoa::Integer) {
        self.put(before);
        self.put(itoa::Buffer::new().format(number));
    }

    /// Appends what stands between the quotes of a string.
    fn put_text(&mut self, text: &str) {
        let is_special = |character| matches!(character, ..' ' | '"' | '\\');
        let mut rest = text;
        while let Some(plain_size) = rest.find(is_special) {
            let (plain, special) = rest.split_at(plain_size);
            self.put(plain);
            special
                .bytes()
                .take(1)
                .for_each(|byte| self.put_character(byte));
            rest = special.split_at(1).1;
        }
        self.put(rest);
    }
}

impl Sink for Vec<u8> {
    #[inline]
    fn put(&mut self, text: &str) {
        self.extend_from_slice(text.as_bytes());
    }

    #[inline]
    fn put_character(&mut self, byte: u8) {
        let (bytes, size) = written(byte);
        // A piece of fixed size and then a cut: quicker than a piece whose size is not known.
        let end = self.len() + size;
        self.extend_from_slice(&bytes);
        self.truncate(end);
    }
}

/// Counts bytes.
struct Size(usize);

impl Sink for Size {
    #[inline]
    fn put(&mut self, text: &str) {
        self.0 += text.len();
    }

    #[inline]
    fn put_character(&mut self, byte: u8) {
        self.0 += written(byte).1;
    }
}

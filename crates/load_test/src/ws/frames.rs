//! WebSocket frames (RFC 6455, section 5), as a client reads and writes them. Pure.

use std::io::Cursor;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::stream::{ProtocolError, take_whole};

/// Larger messages than this are none of a tracker's.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// The most that a frame has before its payload.
const HEADER_BYTES_MAX: usize = 14;

/// What has come of messages that are not whole yet.
#[derive(Debug, Default)]
pub struct FrameReader {
    /// The beginning of a frame.
    input: Vec<u8>,
    /// The fragments of a message so far.
    message: Vec<u8>,
    is_fragmented: bool,
}

/// Something to deal with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A whole message, text or binary.
    Message(&'a [u8]),
    /// A ping, which is to be answered with the same payload.
    Ping(&'a [u8]),
    /// The tracker is about to close the connection.
    Close,
}

impl FrameReader {
    /// Tells what has come.
    ///
    /// # Errors
    /// If it is no frame, or `handle` says so. Nothing that follows can be understood.
    pub fn read(
        &mut self,
        bytes: &[u8],
        mut handle: impl FnMut(Event<'_>) -> Result<(), ProtocolError>,
    ) -> Result<(), ProtocolError> {
        let mut input = std::mem::take(&mut self.input);
        take_whole(&mut input, bytes, |bytes| {
            self.take_frames(bytes, &mut handle)
        })?;
        self.input = input;
        Ok(())
    }

    /// How many bytes the whole frames took.
    fn take_frames(
        &mut self,
        bytes: &[u8],
        handle: &mut impl FnMut(Event<'_>) -> Result<(), ProtocolError>,
    ) -> Result<usize, ProtocolError> {
        let mut taken = 0;
        while taken < bytes.len() {
            let mut cursor = Cursor::new(&bytes[taken..]);
            let parsed = FrameHeader::parse(&mut cursor).map_err(|_| ProtocolError)?;
            let Some((header, payload_bytes)) = parsed else {
                break;
            };
            let start = taken + usize::try_from(cursor.position()).map_err(|_| ProtocolError)?;
            let payload_bytes = usize::try_from(payload_bytes).map_err(|_| ProtocolError)?;
            let is_extended = header.rsv1 || header.rsv2 || header.rsv3;
            let size = self.message.len().saturating_add(payload_bytes);
            if size > MESSAGE_BYTES_MAX || is_extended || header.mask.is_some() {
                return Err(ProtocolError);
            }
            let Some(payload) = bytes.get(start..start + payload_bytes) else {
                break;
            };
            taken = start + payload_bytes;
            self.take(&header, payload, handle)?;
        }
        Ok(taken)
    }

    fn take(
        &mut self,
        header: &FrameHeader,
        payload: &[u8],
        handle: &mut impl FnMut(Event<'_>) -> Result<(), ProtocolError>,
    ) -> Result<(), ProtocolError> {
        match header.opcode {
            OpCode::Control(Control::Ping) => handle(Event::Ping(payload)),
            OpCode::Control(Control::Close) => handle(Event::Close),
            OpCode::Control(_) => Ok(()),
            OpCode::Data(data) => {
                if self.is_fragmented != (data == Data::Continue) {
                    return Err(ProtocolError);
                }
                self.is_fragmented = !header.is_final;
                if header.is_final && self.message.is_empty() {
                    return handle(Event::Message(payload));
                }
                self.message.extend_from_slice(payload);
                if header.is_final {
                    handle(Event::Message(&self.message))?;
                    self.message = Vec::new();
                }
                Ok(())
            }
        }
    }
}

/// Appends a frame with a payload of a known size, which `write` appends.
pub fn write(
    opcode: OpCode,
    payload_bytes: usize,
    mask: [u8; 4],
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>),
) {
    let header = FrameHeader {
        opcode,
        mask: Some(mask),
        ..FrameHeader::default()
    };
    out.reserve(HEADER_BYTES_MAX + payload_bytes);
    let payload_bytes = u64::try_from(payload_bytes).unwrap_or(u64::MAX);
    let written = header.format(payload_bytes, out);
    debug_assert!(written.is_ok(), "writing to memory does not fail");
    let start = out.len();
    write(out);
    apply(mask, &mut out[start..]);
}

/// Eight bytes at once.
fn apply(mask: [u8; 4], payload: &mut [u8]) {
    let [a, b, c, d] = mask;
    let mask = [a, b, c, d, a, b, c, d];
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ u64::from_ne_bytes(mask)).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first_byte: u8, payload: &[u8]) -> Vec<u8> {
        let size = u8::try_from(payload.len()).unwrap();
        [&[first_byte, size][..], payload].concat()
    }

    #[test]
    fn frames_come_in_pieces_and_together() {
        let long = [7; 70_000];
        let mut long_frame = vec![0x82, 127];
        long_frame.extend(70_000_u64.to_be_bytes());
        long_frame.extend(long);
        let stream = [
            frame(0x81, b"one"),
            frame(0x01, b"t"),
            frame(0x89, b"ping"),
            frame(0x00, b"w"),
            frame(0x80, b"o"),
            frame(0x8a, b"pong"),
            long_frame,
            frame(0x82, b""),
            frame(0x88, &[3, 232]),
        ]
        .concat();
        for piece in [1, 2, 3, 7, 1_000, 65_536, stream.len()] {
            let mut reader = FrameReader::default();
            let mut seen = Vec::new();
            for bytes in stream.chunks(piece) {
                let keep = |event: Event<'_>| {
                    seen.push(match event {
                        Event::Message(bytes) => (1, bytes.to_vec()),
                        Event::Ping(bytes) => (2, bytes.to_vec()),
                        Event::Close => (3, Vec::new()),
                    });
                    Ok(())
                };
                reader.read(bytes, keep).unwrap();
            }
            let expected: [(u8, &[u8]); 6] = [
                (1, b"one"),
                (2, b"ping"),
                (1, b"two"),
                (1, &long),
                (1, b""),
                (3, b""),
            ];
            assert_eq!(seen, expected.map(|(kind, bytes)| (kind, bytes.to_vec())));
        }
    }

    #[test]
    fn what_a_tracker_must_not_send_is_seen() {
        let masked = [0x81, 0x81, 1, 2, 3, 4, 5];
        let too_large = [0x81, 127, 0, 0, 0, 0, 1, 0, 0, 0];
        for bytes in [
            &frame(0xc1, b"compressed")[..],
            &frame(0x80, b"continues nothing"),
            &[frame(0x01, b"begun"), frame(0x81, b"another")].concat(),
            &frame(0x83, b"reserved"),
            &masked,
            &too_large,
        ] {
            let result = FrameReader::default().read(bytes, |_| Ok(()));
            assert_eq!(result, Err(ProtocolError), "{bytes:?}");
        }
    }

    #[test]
    fn what_is_written_is_masked() {
        for size in [0, 1, 3, 4, 8, 13, 125, 126, 65_535, 65_536] {
            let payload: Vec<u8> = (0..=255).cycle().take(size).collect();
            let mut out = b"before".to_vec();
            let text = OpCode::Data(Data::Text);
            write(text, size, [1, 2, 3, 4], &mut out, |out| {
                out.extend(&payload)
            });
            let mut cursor = Cursor::new(&out[6..]);
            let (header, payload_bytes) = FrameHeader::parse(&mut cursor).unwrap().unwrap();
            assert_eq!((header.opcode, header.is_final), (text, true));
            assert_eq!(header.mask, Some([1, 2, 3, 4]));
            assert_eq!(usize::try_from(payload_bytes), Ok(size));
            let start = 6 + usize::try_from(cursor.position()).unwrap();
            let unmasked = out[start..].iter().zip([1, 2, 3, 4].iter().cycle());
            assert!(unmasked.map(|(byte, mask)| byte ^ mask).eq(payload));
        }
    }
}

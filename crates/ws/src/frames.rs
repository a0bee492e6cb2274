//! WebSocket frames (RFC 6455, section 5), read where they lie and written where they are sent
//! from. Pure.

use std::io::Cursor;

use aquatic_ws_protocol::Message;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, OpCode};

pub use tungstenite::protocol::frame::coding::{Control, Data};

/// Bytes of the longest header of a frame.
pub const HEADER_BYTES_MAX: usize = 14;

/// Payload of the longest control frame.
const CONTROL_BYTES_MAX: usize = 125;

/// What clients are told at a stop; browsers show it to the page.
const RESTART_REASON: &[u8] = b"service restart";

/// A frame of a client, whole.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Bytes of header and payload. The next frame starts there.
    pub size: usize,
    /// What kind of frame it is.
    pub opcode: OpCode,
    /// It ends a message.
    pub is_final: bool,
    mask: [u8; 4],
    masked: &'a [u8],
}

/// Why the bytes of a client cannot be frames that are served. The connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// Against the protocol.
    Protocol,
    /// A frame or a message is larger than allowed.
    Size,
    /// Text that is not UTF-8.
    Text,
    /// The client has begun a message and not finished it in time.
    Time,
}

impl<'a> Frame<'a> {
    /// Reads the frame at the start of `bytes`, with a payload of at most so many bytes. `None` if
    /// it is not whole yet.
    ///
    /// # Errors
    /// As soon as the header says something that is not allowed.
    pub fn read(bytes: &'a [u8], payload_bytes_max: usize) -> Result<Option<Self>, Violation> {
        let mut cursor = Cursor::new(bytes);
        let parsed = FrameHeader::parse(&mut cursor).map_err(|_| Violation::Protocol)?;
        let Some((header, payload_bytes)) = parsed else {
            return Ok(None);
        };
        let payload_bytes = usize::try_from(payload_bytes).map_err(|_| Violation::Size)?;
        let is_control = matches!(header.opcode, OpCode::Control(_));
        let is_extended = header.rsv1 || header.rsv2 || header.rsv3;
        let is_bad_control = is_control && (!header.is_final || payload_bytes > CONTROL_BYTES_MAX);
        let mask = header.mask.ok_or(Violation::Protocol)?;
        if is_extended || is_bad_control {
            return Err(Violation::Protocol);
        }
        if payload_bytes > payload_bytes_max && !is_control {
            return Err(Violation::Size);
        }
        let rest = usize::try_from(cursor.position())
            .ok()
            .and_then(|start| bytes.get(start..))
            .unwrap_or_default();
        Ok(rest.get(..payload_bytes).map(|masked| Self {
            size: bytes.len() - rest.len() + payload_bytes,
            opcode: header.opcode,
            is_final: header.is_final,
            mask,
            masked,
        }))
    }

    /// Appends the payload.
    pub fn unmask(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(self.masked);
        let fresh = out.get_mut(start..).unwrap_or_default();
        let [a, b, c, d] = self.mask;
        let mask = [a, b, c, d, a, b, c, d];
        let (words, rest) = fresh.as_chunks_mut::<8>();
        for word in words {
            *word = (u64::from_ne_bytes(*word) ^ u64::from_ne_bytes(mask)).to_ne_bytes();
        }
        for (byte, mask) in rest.iter_mut().zip(mask) {
            *byte ^= mask;
        }
    }

    /// Bytes of payload.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.masked.len()
    }
}

impl Violation {
    /// What the client is told.
    #[must_use]
    pub fn close_code(self) -> u16 {
        match self {
            Self::Protocol => CloseCode::Protocol.into(),
            Self::Size => CloseCode::Size.into(),
            Self::Text => CloseCode::Invalid.into(),
            Self::Time => CloseCode::Policy.into(),
        }
    }
}

/// Reads the payload of a client's close frame: a code and a reason, or nothing. Returns the bytes
/// of the code, which are to be sent back.
///
/// # Errors
/// If there is half a code, or one that must not be sent (RFC 6455, 7.4); or if the reason is not
/// UTF-8.
pub fn read_close(payload: &[u8]) -> Result<&[u8], Violation> {
    match payload {
        [] => Ok(payload),
        [a, b, reason @ ..] => {
            let code = CloseCode::from(u16::from_be_bytes([*a, *b]));
            if !code.is_allowed() {
                return Err(Violation::Protocol);
            }
            str::from_utf8(reason).map_err(|_| Violation::Text)?;
            Ok(payload.get(..2).unwrap_or_default())
        }
        [_] => Err(Violation::Protocol),
    }
}

/// Appends a message in a text frame.
pub fn write_text(message: &impl Message, out: &mut Vec<u8>) {
    let size = message.size();
    out.reserve(HEADER_BYTES_MAX + size);
    write_header(OpCode::Data(Data::Text), size, out);
    message.put(out);
}

/// Appends a control frame. What does not fit into one is cut off.
pub fn write_control(kind: Control, payload: &[u8], out: &mut Vec<u8>) {
    let payload = payload.get(..CONTROL_BYTES_MAX).unwrap_or(payload);
    write_header(OpCode::Control(kind), payload.len(), out);
    out.extend_from_slice(payload);
}

/// Appends the frame that ends a connection, for this reason.
pub fn write_close(code: u16, out: &mut Vec<u8>) {
    write_control(Control::Close, &code.to_be_bytes(), out);
}

/// Appends the frame that ends a connection because the tracker stops, and, as a rule, is started
/// again.
pub fn write_restart(out: &mut Vec<u8>) {
    let mut payload = u16::from(CloseCode::Restart).to_be_bytes().to_vec();
    payload.extend(RESTART_REASON);
    write_control(Control::Close, &payload, out);
}

fn write_header(opcode: OpCode, payload_bytes: usize, out: &mut Vec<u8>) {
    let header = FrameHeader {
        opcode,
        ..FrameHeader::default()
    };
    let payload_bytes = u64::try_from(payload_bytes).unwrap_or(u64::MAX);
    let written = header.format(payload_bytes, out);
    debug_assert!(written.is_ok(), "writing to memory does not fail");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As a client sends it.
    fn masked(opcode: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
        let mut bytes = vec![0x80 | opcode];
        match payload.len() {
            len @ 0..126 => bytes.push(0x80 | u8::try_from(len).unwrap()),
            len @ 126..65_536 => {
                bytes.push(0x80 | 126);
                bytes.extend(u16::try_from(len).unwrap().to_be_bytes());
            }
            len => {
                bytes.push(0x80 | 127);
                bytes.extend(u64::try_from(len).unwrap().to_be_bytes());
            }
        }
        bytes.extend(mask);
        let payload = payload.iter().zip(mask.iter().cycle());
        bytes.extend(payload.map(|(byte, mask)| byte ^ mask));
        bytes
    }

    proptest! {
        #[test]
        fn payload_comes_out_as_it_went_in(
            payload in prop::collection::vec(any::<u8>(), 0..300),
            times in prop_oneof![Just(1_usize), Just(300)],
            mask in any::<[u8; 4]>(),
            after in prop::collection::vec(any::<u8>(), 0..9),
        ) {
            let payload = payload.repeat(times);
            let mut bytes = masked(1, &payload, mask);
            let size = bytes.len();
            for cut in [0, 1, 2, 5, size / 2, size - 1] {
                prop_assert!(Frame::read(&bytes[..cut.min(size - 1)], 100_000).unwrap().is_none());
            }
            bytes.extend(after);
            let frame = Frame::read(&bytes, payload.len()).unwrap().unwrap();
            prop_assert_eq!(frame.size, size);
            prop_assert_eq!(frame.opcode, OpCode::Data(Data::Text));
            let mut out = b"x".to_vec();
            frame.unmask(&mut out);
            prop_assert_eq!(&out[1..], payload.as_slice());
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(Some(frame)) = Frame::read(&bytes, 20) {
                prop_assert!(frame.size <= bytes.len());
            }
        }
    }

    #[test]
    fn violations_are_seen_from_the_header() {
        let read = |bytes: &[u8]| Frame::read(bytes, 1_000).map(|frame| frame.map(|it| it.size));
        let violation = Err(Violation::Protocol);
        assert_eq!(read(&[0x81, 0x01, b'x']), violation, "not masked");
        assert_eq!(read(&[0xc1, 0x80, 0, 0, 0, 0]), violation, "compressed");
        assert_eq!(read(&[0x83, 0x80, 0, 0, 0, 0]), violation, "unknown opcode");
        assert_eq!(read(&[0x09, 0x80, 0, 0, 0, 0]), violation, "ping in parts");
        let long_ping = masked(9, &[0; 126], [0; 4]);
        assert_eq!(read(&long_ping[..8]), violation);
        let long = masked(2, &[0; 1_001], [1, 2, 3, 4]);
        assert_eq!(read(&long[..8]), Err(Violation::Size));
        let most = masked(2, &[0; 1_000], [1, 2, 3, 4]);
        assert_eq!(read(&most), Ok(Some(most.len())));
        let mut endless = vec![0x82, 0xff];
        endless.extend([0xff; 12]);
        assert_eq!(read(&endless), Err(Violation::Size));
    }

    #[test]
    fn what_is_written_is_not_masked() {
        let mut out = Vec::new();
        write_control(Control::Ping, b"hi", &mut out);
        write_close(1002, &mut out);
        write_restart(&mut out);
        let expected = b"\x89\x02hi\x88\x02\x03\xea\x88\x11\x03\xf4service restart";
        assert_eq!(out, expected);
    }
}

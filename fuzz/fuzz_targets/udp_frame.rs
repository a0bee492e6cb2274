//! Any bytes as a frame of AF_XDP: what is taken for a datagram can be answered, and the answer is
//! one.
#![no_main]

use std::net::SocketAddr;

use aquatic_xdp::frame::{self, Datagram};
use libfuzzer_sys::fuzz_target;

const FRAME_BYTES: usize = 2_048;

fuzz_target!(|bytes: &[u8]| {
    let mut mended = bytes.to_vec();
    mend(&mut mended);
    for bytes in [bytes, &mended] {
        if let Ok(datagram) = frame::parse(bytes) {
            answer(bytes, &datagram);
        }
    }
});

/// Gives it the sum that an IPv4 header without a tag would have, and none of UDP: nobody guesses
/// that.
fn mend(frame: &mut [u8]) {
    let Some(header) = frame.get_mut(14..34) else {
        return;
    };
    header[10..12].fill(0);
    let words = header
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !(((sum & 0xffff) + (sum >> 16)) as u16);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    if let Some(sum) = frame.get_mut(40..42) {
        sum.fill(0);
    }
}

fn answer(bytes: &[u8], datagram: &Datagram) {
    let payload = &bytes[datagram.payload.clone()];
    let link = datagram.link.reversed();
    let mut answer = vec![0; FRAME_BYTES];
    let start = frame::payload_offset(&link, datagram.from.is_ipv6());
    let Some(place) = answer.get_mut(start..start + payload.len()) else {
        return;
    };
    place.copy_from_slice(payload);
    let [from, to]: [SocketAddr; 2] = [datagram.to, datagram.from];
    let len = frame::write_headers(&mut answer, &link, from, to, payload.len()).unwrap();
    let expected = Datagram {
        link,
        from,
        to,
        payload: start..start + payload.len(),
    };
    assert_eq!(frame::parse(&answer[..len]), Ok(expected));
}

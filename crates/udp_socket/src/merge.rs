//! Which packets of an outbox can travel together.
//!
//! A client with many torrents announces them in bursts, from one socket, so that a batch holds
//! many answers to it; and many of them are equally large (connect answers always are). Such
//! packets can pass through the kernel's send path as one message that is cut apart at its end (UDP
//! generic segmentation offload, see [`segmentation`](crate::segmentation)). That costs one
//! packet's worth of work instead of several; each datagram arrives as it would have alone.

use std::io;

use crate::outbox::PacketList;
use crate::{Outbox, ReturnPath, UNFRAGMENTED_BYTES_MAX};

/// What the kernel takes in one message (`UDP_MAX_SEGMENTS` of kernels before 6.9).
pub const PACKETS_PER_MESSAGE_MAX: usize = 64;

/// The largest IPv4 payload, which a message must not exceed as a whole either.
pub(crate) const MESSAGE_BYTES_MAX: usize = 65_507;

/// Larger packets travel alone. A packet that is cut out of a message cannot be fragmented as well,
/// and the kernel refuses a message whose parts would have to be: on IPv6 that is above 1,280 bytes
/// with headers (see [`UdpSocket`](crate::UdpSocket)).
const MERGED_BYTES_MAX: usize = UNFRAGMENTED_BYTES_MAX;

/// Puts packets that can travel together next to each other. Keeps its memory between two calls.
#[derive(Debug, Default)]
pub struct Grouping {
    /// What packets that can travel together have in common, hashed; and their places.
    keys: Vec<(u64, usize)>,
    spare: PacketList,
}

impl Grouping {
    /// Reorders an outbox. Packets of the same path and size keep their order.
    pub fn group(&mut self, outbox: &mut Outbox) {
        self.keys.clear();
        let packets = outbox.iter().enumerate();
        self.keys
            .extend(packets.map(|(place, (path, bytes))| (key(path, bytes.len()), place)));
        self.keys.sort_unstable();
        // Most often all clients are different: then the order in which they came is as good.
        if self
            .keys
            .windows(2)
            .any(|pair| matches!(pair, [(a, _), (b, _)] if a == b))
        {
            outbox.reorder(self.keys.iter().map(|(_, place)| *place), &mut self.spare);
        }
    }
}

/// Equal for packets that can travel together. Others may collide: [`run`] looks closer.
fn key(path: &ReturnPath, bytes: usize) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let (chunks, _) = path.sockaddr().as_chunks::<4>();
    chunks.iter().fold(bytes as u64, |key, chunk| {
        (key ^ u64::from(u32::from_ne_bytes(*chunk)))
            .wrapping_mul(FACTOR)
            .rotate_left(29)
    })
}

/// How many packets, from `first` on, can travel together: at least 1, at most `max`.
#[must_use]
pub fn run(outbox: &Outbox, first: usize, max: usize) -> usize {
    let Some((path, bytes)) = outbox.get(first) else {
        return 1;
    };
    // Nothing marks where one empty packet ends and the next begins.
    if bytes.is_empty() || bytes.len() > MERGED_BYTES_MAX {
        return 1;
    }
    let fitting = MESSAGE_BYTES_MAX / bytes.len();
    let max = max.min(fitting).min(PACKETS_PER_MESSAGE_MAX);
    let like_first = |place: &usize| {
        outbox
            .get(*place)
            .is_some_and(|(p, b)| b.len() == bytes.len() && p == path)
    };
    1 + (first + 1..first + max).take_while(like_first).count()
}

/// Whether an error of a message with several packets says that the kernel, or an interface, cannot
/// cut messages apart, so that the packets have to be sent one by one.
///
/// `EIO`: the interface leaves the checksums to the processor. `EINVAL`: no such option, or (on
/// newer kernels `EMSGSIZE`) the packets would have to be fragmented for the interface.
#[must_use]
pub fn is_unsupported(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EIO | libc::EINVAL | libc::EMSGSIZE)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(port: u16) -> ReturnPath {
        ReturnPath::to(([192, 0, 2, 1], port).into())
    }

    fn outbox(packets: &[(u16, usize)]) -> Outbox {
        let mut outbox = Outbox::new();
        for (number, (port, len)) in (0..).zip(packets) {
            outbox.push(path(*port), &vec![number; *len]);
        }
        outbox
    }

    /// Port, length and contents of each packet, and the lengths of the runs.
    fn grouped(outbox: &mut Outbox) -> (Vec<(u16, Vec<u8>)>, Vec<usize>) {
        Grouping::default().group(outbox);
        let packets = outbox
            .iter()
            .map(|(path, bytes)| (path.peer().port(), bytes.to_vec()));
        let (packets, mut runs, mut place) = (packets.collect(), Vec::new(), 0);
        while place < outbox.len() {
            runs.push(run(outbox, place, 64));
            place += runs.last().unwrap();
        }
        (packets, runs)
    }

    #[test]
    fn packets_to_one_client_of_one_size_come_together_in_order() {
        let mut outbox = outbox(&[(1, 16), (2, 16), (1, 20), (1, 16), (2, 16), (1, 16)]);
        let (packets, mut runs) = grouped(&mut outbox);
        runs.sort_unstable();
        assert_eq!(runs, [1, 2, 3]);
        let of = |port, len| -> Vec<u8> {
            let same = packets
                .iter()
                .filter(|(p, bytes)| *p == port && bytes.len() == len);
            same.map(|(_, bytes)| bytes[0]).collect()
        };
        assert_eq!(of(1, 16), [0, 3, 5]);
        assert_eq!(of(2, 16), [1, 4]);
        assert_eq!(of(1, 20), [2]);
    }

    #[test]
    fn different_clients_keep_the_order_in_which_they_came() {
        let mut outbox = outbox(&[(3, 16), (1, 16), (2, 16)]);
        let (packets, runs) = grouped(&mut outbox);
        assert_eq!(
            packets.iter().map(|(port, _)| *port).collect::<Vec<_>>(),
            [3, 1, 2]
        );
        assert_eq!(runs, [1, 1, 1]);
    }

    #[test]
    fn runs_are_bounded() {
        let (_, runs) = grouped(&mut outbox(&[(1, 16); 150]));
        assert_eq!(runs, [64, 64, 22]);
        let (_, runs) = grouped(&mut outbox(&[(1, 1_200); 60]));
        assert_eq!(runs, [54, 6], "a message has at most 65,507 bytes");
        let (_, runs) = grouped(&mut outbox(&[(1, 0); 3]));
        assert_eq!(runs, [1, 1, 1], "empty packets travel alone");
        let (_, runs) = grouped(&mut outbox(&[(1, 1_233); 2]));
        assert_eq!(runs, [1, 1], "what may have to be fragmented travels alone");
    }
}

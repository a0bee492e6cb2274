//! How a program gets into the kernel.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use crate::kernel;
use crate::programs::Code;

/// What a program is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Kind {
    /// A socket, by `SO_ATTACH_BPF`.
    SocketFilter = 1,
    /// An interface.
    Xdp = 6,
}

/// The second register of the instruction that holds the address of a map says what it holds until
/// then: the descriptor of one.
const HOLDS_DESCRIPTOR: u64 = 1 << 12;
const SECOND_REGISTER: u64 = 0xf << 12;

/// Loads a program that uses these maps.
pub(crate) fn load(
    kind: Kind,
    code: &Code,
    maps: &[(&str, BorrowedFd<'_>)],
) -> io::Result<OwnedFd> {
    let mut instructions = code.instructions.to_vec();
    for (place, name) in code.maps {
        let map = maps.iter().find(|(known, _)| known == name);
        let instruction = instructions.get_mut(*place);
        let (Some((_, map)), Some(instruction)) = (map, instruction) else {
            return Err(io::Error::other(format!("{}: no map {name}", code.name)));
        };
        *instruction = with_map(*instruction, *map);
    }
    kernel::load(kind as u32, &instructions)
}

fn with_map(instruction: u64, map: BorrowedFd<'_>) -> u64 {
    let descriptor = u64::from(map.as_raw_fd().unsigned_abs());
    instruction & u64::from(u32::MAX) & !SECOND_REGISTER | HOLDS_DESCRIPTOR | descriptor << 32
}

//! A program for an interface: UDP datagrams to one port go to a map of queues, and all other
//! frames to the kernel.

use std::os::fd::{AsFd, AsRawFd};

use Offset::{At, To};

/// Operations of eBPF.
const LOAD_MAP: u8 = 0x18;
const LOAD_U8: u8 = 0x71;
const LOAD_U16: u8 = 0x69;
const LOAD_U32: u8 = 0x61;
const MOVE: u8 = 0xbf;
const MOVE_VALUE: u8 = 0xb7;
const ADD_VALUE: u8 = 0x07;
const JUMP: u8 = 0x05;
const JUMP_EQUAL: u8 = 0x15;
const JUMP_UNEQUAL: u8 = 0x55;
const JUMP_GREATER: u8 = 0x2d;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;

const REDIRECT_MAP: i32 = 51;
const PASS: i32 = 2;
const UDP: i32 = 17;

enum Offset {
    /// In memory.
    At(i16),
    /// Of the instruction with this number.
    To(i16),
}

/// Frames may have a tag.
pub(crate) fn redirect_port(port: u16, map: &impl AsFd) -> Vec<u64> {
    // The numbers of the instructions at which these parts start.
    const AFTER_TAG: i16 = 9;
    const IPV6: i16 = 18;
    const CHECK_PORT: i16 = 24;
    const TO_KERNEL: i16 = 32;
    let map = map.as_fd().as_raw_fd();
    // Register 6: the context; 2: the header in front of which a tag may be; 3: the end.
    let code = [
        (MOVE, (6, 1), At(0), 0),
        (LOAD_U32, (2, 1), At(0), 0),
        (LOAD_U32, (3, 1), At(4), 0),
        (MOVE, (4, 2), At(0), 0),
        (ADD_VALUE, (4, 0), At(0), 46),
        (JUMP_GREATER, (4, 3), To(TO_KERNEL), 0),
        (LOAD_U16, (5, 2), At(12), 0),
        (JUMP_UNEQUAL, (5, 0), To(AFTER_TAG), word(0x8100)),
        (ADD_VALUE, (2, 0), At(0), 4),
        // AFTER_TAG
        (MOVE, (4, 2), At(0), 0),
        (ADD_VALUE, (4, 0), At(0), 42),
        (JUMP_GREATER, (4, 3), To(TO_KERNEL), 0),
        (LOAD_U16, (5, 2), At(12), 0),
        (JUMP_EQUAL, (5, 0), To(IPV6), word(0x86dd)),
        (JUMP_UNEQUAL, (5, 0), To(TO_KERNEL), word(0x0800)),
        (LOAD_U8, (5, 2), At(23), 0),
        (LOAD_U16, (4, 2), At(36), 0),
        (JUMP, (0, 0), To(CHECK_PORT), 0),
        // IPV6
        (MOVE, (4, 2), At(0), 0),
        (ADD_VALUE, (4, 0), At(0), 62),
        (JUMP_GREATER, (4, 3), To(TO_KERNEL), 0),
        (LOAD_U8, (5, 2), At(20), 0),
        (LOAD_U16, (4, 2), At(56), 0),
        (JUMP, (0, 0), To(CHECK_PORT), 0),
        // CHECK_PORT
        (JUMP_UNEQUAL, (5, 0), To(TO_KERNEL), UDP),
        (JUMP_UNEQUAL, (4, 0), To(TO_KERNEL), word(port)),
        // To the queue by which it came; to the kernel if that is not in the map.
        (LOAD_U32, (2, 6), At(16), 0),
        (LOAD_MAP, (1, 1), At(0), map),
        (0, (0, 0), At(0), 0),
        (MOVE_VALUE, (3, 0), At(0), PASS),
        (CALL, (0, 0), At(0), REDIRECT_MAP),
        (EXIT, (0, 0), At(0), 0),
        // TO_KERNEL
        (MOVE_VALUE, (0, 0), At(0), PASS),
        (EXIT, (0, 0), At(0), 0),
    ];
    let mut here = 0;
    let instructions = code
        .into_iter()
        .map(|(operation, registers, offset, value)| {
            here += 1;
            let offset = match offset {
                At(offset) => offset,
                To(target) => target - here,
            };
            instruction(operation, registers, offset, value)
        });
    instructions.collect()
}

/// With registers: the one that is written to or compared, then the other one.
fn instruction(operation: u8, registers: (u8, u8), offset: i16, value: i32) -> u64 {
    let [low, high] = offset.to_ne_bytes();
    let [a, b, c, d] = value.to_ne_bytes();
    let registers = match cfg!(target_endian = "little") {
        true => registers.0 | registers.1 << 4,
        false => registers.0 << 4 | registers.1,
    };
    u64::from_ne_bytes([operation, registers, low, high, a, b, c, d])
}

/// Two bytes of a frame, as the program reads them.
fn word(value: u16) -> i32 {
    u16::from_ne_bytes(value.to_be_bytes()).into()
}

//! The system calls, each with arguments of types that say what they point to.

use std::ffi::{CStr, CString, c_char};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use libc::{c_int, c_long, c_uint};

/// Commands of `bpf(2)`.
const MAP_CREATE: c_int = 0;
const MAP_UPDATE_ELEMENT: c_int = 2;
const PROG_LOAD: c_int = 5;
const PROG_TEST_RUN: c_int = 10;
const LINK_CREATE: c_int = 28;

/// Programs free to anybody; the kernel asks since some of its helpers are for GPL programs only.
const LICENCE: &CStr = c"Apache-2.0";

/// Bytes of what the kernel says about a program that it refuses. It is the end that matters.
const LOG_BYTES: usize = 1 << 22;

/// How often a program is loaded that the kernel had no time to verify.
const TRIES_MAX: u32 = 10;

/// An array whose elements can be shared by `mmap(2)`.
#[repr(C)]
struct MapAttributes {
    map_type: u32,
    key_bytes: u32,
    value_bytes: u32,
    entries: u32,
    flags: u32,
}

#[repr(C)]
struct ProgramAttributes {
    program_type: u32,
    instructions_len: u32,
    instructions: u64,
    licence: u64,
    log_level: u32,
    log_bytes: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    /// Shown by `ip -details link` and `bpftool`.
    name: [u8; 16],
}

const NAME: [u8; 16] = *b"aquatic\0\0\0\0\0\0\0\0\0";

#[repr(C)]
struct TestAttributes {
    program: u32,
    verdict: u32,
    bytes_in: u32,
    bytes_out: u32,
    data_in: u64,
    data_out: u64,
    times: u32,
    nanos: u32,
}

#[repr(C)]
struct ElementAttributes {
    map: u32,
    unused: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct LinkAttributes {
    program: u32,
    interface_index: u32,
    attach_type: u32,
    flags: u32,
}

/// Makes an array.
pub(crate) fn create_array(value_bytes: u32, entries: u32) -> io::Result<OwnedFd> {
    const ARRAY: u32 = 2;
    const MMAPABLE: u32 = 1 << 10;
    let attributes = MapAttributes {
        map_type: ARRAY,
        key_bytes: 4,
        value_bytes,
        entries,
        flags: MMAPABLE,
    };
    // SAFETY: these attributes hold no pointer.
    unsafe { bpf(MAP_CREATE, &attributes) }
}

/// Makes a map of so many AF_XDP sockets (`BPF_MAP_TYPE_XSKMAP`).
pub(crate) fn create_map_of_sockets(entries: u32) -> io::Result<OwnedFd> {
    const XSKMAP: u32 = 17;
    let attributes = MapAttributes {
        map_type: XSKMAP,
        key_bytes: 4,
        value_bytes: 4,
        entries,
        flags: 0,
    };
    // SAFETY: these attributes hold no pointer.
    unsafe { bpf(MAP_CREATE, &attributes) }
}

/// Puts an element into a map whose keys are numbers, and whose values are descriptors.
pub(crate) fn set_element(map: &impl AsFd, key: u32, value: &impl AsFd) -> io::Result<()> {
    let value = value.as_fd().as_raw_fd().unsigned_abs();
    let attributes = ElementAttributes {
        map: map.as_fd().as_raw_fd().unsigned_abs(),
        unused: 0,
        key: address(&raw const key),
        value: address(&raw const value),
        flags: 0,
    };
    // SAFETY: key and value outlive the call, and are of the size that such a map has.
    unsafe { call(MAP_UPDATE_ELEMENT, &attributes) }.map(drop)
}

/// Loads a program of this type. The error tells why the kernel refuses it.
pub(crate) fn load(program_type: u32, instructions: &[u64]) -> io::Result<OwnedFd> {
    // Without a log at first: it takes time, and more memory.
    let mut loaded = try_load(program_type, instructions, &mut []);
    // A signal that is pending, or work that is left from io_uring, keeps the verifier from it.
    for _ in 1..TRIES_MAX {
        if !matches!(&loaded, Err(error) if error.raw_os_error() == Some(libc::EAGAIN)) {
            break;
        }
        loaded = try_load(program_type, instructions, &mut []);
    }
    let error = match loaded {
        Ok(program) => return Ok(program),
        Err(error) => error,
    };
    if error.raw_os_error() != Some(libc::EACCES) && error.raw_os_error() != Some(libc::EINVAL) {
        return Err(error);
    }
    let mut log = vec![0; LOG_BYTES];
    match try_load(program_type, instructions, &mut log) {
        Ok(program) => Ok(program),
        Err(error) => Err(io::Error::new(
            error.kind(),
            format!("{error}: {}", last_words(&log)),
        )),
    }
}

/// What a verifier says last besides instructions, states of registers, and how much it has done.
fn last_words(log: &[u8]) -> String {
    const BESIDES: [&str; 8] = [
        "processed ",
        "from ",
        "old state",
        "cur state",
        "last_idx",
        "regs=",
        "parent ",
        "mark_",
    ];
    let text = log.split(|byte| *byte == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(text);
    let lines = text.lines().map(str::trim);
    let mut lines = lines.filter(|line| {
        let is_register =
            line.starts_with('R') && line[1..].starts_with(|it: char| it.is_ascii_digit());
        let is_code = line.starts_with(|it: char| it.is_ascii_digit() || it == ';');
        let is_besides = BESIDES.iter().any(|it| line.starts_with(it));
        let is_state = is_register && line.contains('=');
        !(line.is_empty() || is_code || is_besides || is_state)
    });
    lines.next_back().unwrap_or("no reason given").to_owned()
}

fn try_load(program_type: u32, instructions: &[u64], log: &mut [u8]) -> io::Result<OwnedFd> {
    let to_u32 = |len: usize| u32::try_from(len).map_err(io::Error::other);
    let attributes = ProgramAttributes {
        program_type,
        instructions_len: to_u32(instructions.len())?,
        instructions: address(instructions.as_ptr()),
        licence: address(LICENCE.as_ptr()),
        log_level: u32::from(!log.is_empty()),
        log_bytes: to_u32(log.len())?,
        log: match log.is_empty() {
            true => 0,
            false => address(log.as_mut_ptr()),
        },
        kernel_version: 0,
        flags: 0,
        name: NAME,
    };
    // SAFETY: instructions, licence and log outlive the call, and their lengths are as said.
    unsafe { bpf(PROG_LOAD, &attributes) }
}

/// Attaches a program to an interface, until the descriptor is closed. With flags of 2 the kernel
/// runs it (`XDP_FLAGS_SKB_MODE`), with 4 the driver does (`XDP_FLAGS_DRV_MODE`), with 0 whoever
/// can. This takes `CAP_NET_ADMIN` besides the right to load programs.
pub(crate) fn attach_xdp(
    program: &impl AsFd,
    interface_index: u32,
    flags: u32,
) -> io::Result<OwnedFd> {
    const XDP: u32 = 37;
    let attributes = LinkAttributes {
        program: program.as_fd().as_raw_fd().unsigned_abs(),
        interface_index,
        attach_type: XDP,
        flags,
    };
    // SAFETY: these attributes hold no pointer.
    unsafe { bpf(LINK_CREATE, &attributes) }
}

/// Runs a program on a frame, so often. Returns its verdict, the frame afterwards, and how many
/// nanoseconds it took, on average.
pub(crate) fn test_run(
    program: &impl AsFd,
    frame: &[u8],
    times: u32,
) -> io::Result<(u32, Vec<u8>, u32)> {
    let bytes_in = u32::try_from(frame.len()).map_err(io::Error::other)?;
    let mut after = frame.to_vec();
    let mut attributes = TestAttributes {
        program: program.as_fd().as_raw_fd().unsigned_abs(),
        verdict: 0,
        bytes_in,
        bytes_out: bytes_in,
        data_in: address(frame.as_ptr()),
        data_out: address(after.as_mut_ptr()),
        times,
        nanos: 0,
    };
    let bytes = c_uint::try_from(size_of::<TestAttributes>()).map_err(io::Error::other)?;
    // Why unsafe: neither std nor libc has the call.
    // SAFETY: the kernel reads and writes `bytes` bytes of the attributes, reads the frame, and
    // writes at most as many bytes of it to `after`, which has as many. All outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, PROG_TEST_RUN, &raw mut attributes, bytes) };
    check(result)?;
    after.truncate(usize::try_from(attributes.bytes_out).map_err(io::Error::other)?);
    Ok((attributes.verdict, after, attributes.nanos))
}

fn address<T>(pointer: *const T) -> u64 {
    // The kernel takes addresses of any machine as 64 bits.
    u64::try_from(pointer.expose_provenance()).unwrap_or(0)
}

/// A command that opens something.
///
/// # Safety
/// Pointers in `attributes` must be valid for what the command does with them.
unsafe fn bpf<T>(command: c_int, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: as the caller promises.
    let descriptor = unsafe { call(command, attributes) }?;
    let descriptor = RawFd::try_from(descriptor).map_err(io::Error::other)?;
    // SAFETY: a descriptor that the kernel has just opened, and nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// # Safety
/// Pointers in `attributes` must be valid for what the command does with them.
unsafe fn call<T>(command: c_int, attributes: &T) -> io::Result<c_long> {
    let bytes = c_uint::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // Why unsafe: neither std nor libc has the call.
    // SAFETY: the kernel reads `bytes` bytes of the attributes, and beyond that what the caller
    // promises to be valid.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const *attributes, bytes) };
    check(result)
}

/// The number of an interface.
pub(crate) fn interface_index(name: &str) -> io::Result<u32> {
    let none = || io::Error::new(io::ErrorKind::NotFound, "there is no such interface");
    let name = CString::new(name).map_err(|_| none())?;
    // Why unsafe: std does not have the call.
    // SAFETY: a string with a zero at its end, which is only read.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(none()),
        index => Ok(index),
    }
}

/// A socket of netlink that is told when addresses come and go, and does not wait.
pub(crate) fn address_news() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    let socket = open_socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE)?;
    for group in [
        libc::RTNLGRP_LINK,
        libc::RTNLGRP_IPV4_IFADDR,
        libc::RTNLGRP_IPV6_IFADDR,
    ] {
        let group = c_int::try_from(group).map_err(io::Error::other)?;
        // SAFETY: an integer holds no pointer.
        unsafe {
            set(
                &socket,
                (libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP),
                &group,
            )?;
        }
    }
    Ok(socket)
}

fn open_socket(family: c_int, kind: c_int, protocol: c_int) -> io::Result<OwnedFd> {
    // Why unsafe: std does not have this family.
    // SAFETY: there is no pointer.
    let descriptor = unsafe { libc::socket(family, kind, protocol) };
    check(descriptor.into())?;
    // SAFETY: a descriptor that the kernel has just opened, and nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Questions of `ethtool(8)` to a driver.
const GET_DRIVER: u32 = 3;
const GET_FLAGS: u32 = 0x25;
const GET_CHANNELS: u32 = 0x3c;

/// `struct ethtool_drvinfo`.
#[repr(C)]
struct DriverAnswer {
    question: u32,
    driver: [u8; 32],
    versions: [[u8; 32]; 2],
    bus: [u8; 32],
    rest: [u8; 64],
}

const _: () = assert!(size_of::<DriverAnswer>() == 196);

/// `struct ethtool_value`.
#[repr(C)]
struct FlagsAnswer {
    question: u32,
    flags: u32,
}

/// `struct ethtool_channels`.
#[repr(C)]
#[derive(Default)]
struct ChannelsAnswer {
    question: u32,
    most: [u32; 4],
    receive: u32,
    send: u32,
    other: u32,
    combined: u32,
}

/// How many queues an interface has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueNumbers {
    /// By which it receives.
    pub receive: u32,
    /// By which it sends.
    pub send: u32,
}

impl ChannelsAnswer {
    /// A channel that is for both ways has a queue of each.
    fn queues(&self) -> QueueNumbers {
        QueueNumbers {
            receive: self.receive.saturating_add(self.combined),
            send: self.send.saturating_add(self.combined),
        }
    }
}

/// The driver of an interface.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) name: String,
    /// Where the card is; empty if there is none.
    pub(crate) bus: String,
}

/// The driver of an interface.
pub(crate) fn driver(interface: &str) -> io::Result<Driver> {
    let mut answer = DriverAnswer {
        question: GET_DRIVER,
        driver: [0; 32],
        versions: [[0; 32]; 2],
        bus: [0; 32],
        rest: [0; 64],
    };
    // SAFETY: the question is one to which a driver writes a `struct ethtool_drvinfo`, which this
    // is.
    unsafe { ask_driver(interface, &mut answer)? };
    let text = |bytes: &[u8]| {
        let text = bytes.split(|byte| *byte == 0).next();
        String::from_utf8_lossy(text.unwrap_or_default()).into_owned()
    };
    Ok(Driver {
        name: text(&answer.driver),
        bus: text(&answer.bus),
    })
}

/// Whether a card takes the tags of 802.1Q off what it receives.
pub(crate) fn strips_tags(interface: &str) -> io::Result<bool> {
    const RECEIVED_TAGS: u32 = 1 << 8;
    let mut answer = FlagsAnswer {
        question: GET_FLAGS,
        flags: 0,
    };
    // SAFETY: the question is one to which a driver writes a `struct ethtool_value`, which this is.
    unsafe { ask_driver(interface, &mut answer)? };
    Ok(answer.flags & RECEIVED_TAGS != 0)
}

/// How many queues an interface has.
pub(crate) fn queues(interface: &str) -> io::Result<QueueNumbers> {
    let mut answer = ChannelsAnswer {
        question: GET_CHANNELS,
        ..ChannelsAnswer::default()
    };
    // SAFETY: the question is one to which a driver writes a `struct ethtool_channels`, which this
    // is.
    unsafe { ask_driver(interface, &mut answer)? };
    Ok(answer.queues())
}

/// # Safety
/// `answer` begins with the number of a question, and has room for what is written to it.
unsafe fn ask_driver<T>(interface: &str, answer: &mut T) -> io::Result<()> {
    const ETHTOOL: libc::Ioctl = 0x8946;
    let data = libc::__c_anonymous_ifr_ifru {
        ifru_data: (&raw mut *answer).cast(),
    };
    // SAFETY: what the caller promises is what the request is about.
    unsafe { ask_interface(interface, ETHTOOL, data) }.map(drop)
}

/// Bytes of the largest packet that an interface sends.
pub(crate) fn mtu(interface: &str) -> io::Result<c_int> {
    // Its type differs by C library.
    const GET_MTU: libc::Ioctl = 0x8921;
    let data = libc::__c_anonymous_ifr_ifru { ifru_mtu: 0 };
    // SAFETY: the kernel writes a number.
    let data = unsafe { ask_interface(interface, GET_MTU, data) }?;
    // SAFETY: it is the one that was asked for.
    Ok(unsafe { data.ifru_mtu })
}

/// What kind of header an interface's frames begin with (`ARPHRD_ETHER` and so on).
pub(crate) fn hardware(interface: &str) -> io::Result<u16> {
    // Its type differs by C library.
    const GET_HARDWARE: libc::Ioctl = 0x8927;
    let none = libc::sockaddr {
        sa_family: 0,
        sa_data: [0; 14],
    };
    let data = libc::__c_anonymous_ifr_ifru { ifru_hwaddr: none };
    // SAFETY: the kernel writes an address.
    let data = unsafe { ask_interface(interface, GET_HARDWARE, data) }?;
    // SAFETY: it is what was asked for.
    Ok(unsafe { data.ifru_hwaddr }.sa_family)
}

/// # Safety
/// `data` is what `request` wants it to be.
unsafe fn ask_interface(
    interface: &str,
    request: libc::Ioctl,
    data: libc::__c_anonymous_ifr_ifru,
) -> io::Result<libc::__c_anonymous_ifr_ifru> {
    let socket = open_socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0)?;
    let mut question = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: data,
    };
    // The last character is a zero.
    if interface.len() >= question.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (place, byte) in question.ifr_name.iter_mut().zip(interface.bytes()) {
        *place = c_char::from_ne_bytes([byte]);
    }
    // Why unsafe: std does not have the call.
    // SAFETY: a name that ends with a zero, and what the caller promises; both are borrowed for as
    // long as it lasts.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), request, &raw mut question) };
    check(result.into())?;
    Ok(question.ifr_ifru)
}

/// Sets an option of a socket that is an integer.
pub(crate) fn set_option(socket: &impl AsFd, name: c_int, value: c_int) -> io::Result<()> {
    // SAFETY: an integer holds no pointer.
    unsafe { set(socket, (libc::SOL_SOCKET, name), &value) }
}

/// Attaches a filter of classic BPF.
pub(crate) fn attach_classic(socket: &impl AsFd, filter: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(io::Error::other)?,
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: it holds the address and the length of a borrowed slice, which the kernel copies.
    unsafe { set(socket, (libc::SOL_SOCKET, libc::SO_ATTACH_FILTER), &program) }
}

/// # Safety
/// If `T` holds pointers, they must be valid for what the option `name` makes the kernel do.
unsafe fn set<T: Copy>(
    socket: &impl AsFd,
    (level, name): (c_int, c_int),
    value: &T,
) -> io::Result<()> {
    let bytes = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // Why unsafe: std does not know these options.
    // SAFETY: `value` is valid for reads of `bytes` bytes, the kernel only reads it, and the
    // descriptor is open because it is borrowed.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            (&raw const *value).cast(),
            bytes,
        )
    };
    check(result.into()).map(drop)
}

fn check(result: c_long) -> io::Result<c_long> {
    match result {
        ..0 => Err(io::Error::last_os_error()),
        _ => Ok(result),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_of_each_kind_receive() {
        // As virtio-net, veth, a card with some of both, and nonsense.
        for (receive, combined, expected) in
            [(0, 4, 4), (3, 0, 3), (1, 8, 9), (u32::MAX, 1, u32::MAX)]
        {
            let answer = ChannelsAnswer {
                most: [99; 4],
                receive,
                send: 5,
                other: 7,
                combined,
                ..ChannelsAnswer::default()
            };
            assert_eq!(answer.queues().receive, expected);
            assert_eq!(answer.queues().send, combined.saturating_add(5));
        }
    }

    #[test]
    fn the_reason_of_a_refusal_is_its_last_line() {
        let log = b"0: (95) exit\nR0 !read_ok\nprocessed 1 insns (limit 1000000)\n\0\0\0";
        assert_eq!(last_words(log), "R0 !read_ok");
        let log = b"346: (79) r1 = *(u64 *)(r9 +24)\ninfinite loop detected at insn 346\n\
                    cur state: R0=0 R2=1\nold state: R0=0 R2=0\nR0=0 R1=map_value\n\
                    processed 2101 insns (limit 1000000)\n\0";
        assert_eq!(last_words(log), "infinite loop detected at insn 346");
        assert_eq!(last_words(b"\0"), "no reason given");
    }
}

//! Programs at interfaces that are none of this crate's.

use std::io;
use std::os::fd::OwnedFd;

use crate::kernel;

/// For tests: has any program run at an interface until the descriptor is closed, by the kernel
/// (flags of 2) or by the driver (4).
///
/// # Errors
/// If the kernel refuses it.
#[doc(hidden)]
pub fn attach_instructions(
    instructions: &[u64],
    interface_index: u32,
    flags: u32,
) -> io::Result<OwnedFd> {
    const XDP: u32 = 6;
    let program = kernel::load(XDP, instructions)?;
    kernel::attach_xdp(&program, interface_index, flags)
}

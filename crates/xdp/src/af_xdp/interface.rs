//! Interfaces by name.

use std::io;
use std::os::fd::OwnedFd;

use super::failed;
use crate::kernel;

/// The number by which the kernel knows an interface.
///
/// # Errors
/// If there is none of this name.
pub fn interface_index(name: &str) -> io::Result<u32> {
    kernel::interface_index(name).map_err(|error| failed(&format!("find interface {name}"), &error))
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_have_numbers() {
        assert_eq!(interface_index("lo").unwrap(), 1);
        let error = interface_index("none-such").unwrap_err();
        assert!(error.to_string().contains("none-such"), "{error}");
        assert!(interface_index("l\0o").is_err());
    }
}

//! Interfaces by name.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use super::failed;
use crate::kernel;

/// The number by which the kernel knows an interface.
///
/// # Errors
/// If there is none of this name.
pub fn interface_index(name: &str) -> io::Result<u32> {
    kernel::interface_index(name).map_err(|error| failed(&format!("find interface {name}"), &error))
}

/// How many queues an interface receives by: it spreads datagrams over them. Each needs a
/// [`Queue`](super::Queue), or what comes by it goes to the kernel's stack.
///
/// # Errors
/// If there is no such interface in `/sys/class/net`, or it has none.
pub fn receive_queues(name: &str) -> io::Result<u32> {
    // The name is one of a file.
    if name.contains('/') || name.starts_with('.') {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let folder = Path::new("/sys/class/net").join(name).join("queues");
    count_receive_queues(&folder)
        .map_err(|error| failed(&format!("count queues in {}", folder.display()), &error))
}

fn count_receive_queues(folder: &Path) -> io::Result<u32> {
    let mut count = 0;
    for file in fs::read_dir(folder)? {
        if file?.file_name().to_string_lossy().starts_with("rx-") {
            count += 1;
        }
    }
    match count {
        0 => Err(io::ErrorKind::NotFound.into()),
        count => Ok(count),
    }
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
    use std::env;
    use std::process;

    use super::*;

    #[test]
    fn interfaces_have_numbers() {
        assert_eq!(interface_index("lo").unwrap(), 1);
        let error = interface_index("none-such").unwrap_err();
        assert!(error.to_string().contains("none-such"), "{error}");
        assert!(interface_index("l\0o").is_err());
    }

    #[test]
    fn queues_that_receive_are_counted() {
        assert_eq!(receive_queues("lo").unwrap(), 1);
        for name in ["none-such", "../lo", "..", ""] {
            assert!(receive_queues(name).is_err(), "{name}");
        }
        let folder = env::temp_dir().join(format!("aquatic-queues-{}", process::id()));
        for name in ["rx-0", "tx-0", "rx-1", "tx-1", "rx-2"] {
            fs::create_dir_all(folder.join(name)).unwrap();
        }
        let count = count_receive_queues(&folder);
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(count.unwrap(), 3);
    }
}

//! Asks the kernel what it keeps for a connection.

use std::os::fd::AsFd;

use crate::memory::KernelBytes;

/// What the kernel keeps for a connection. `None` if it does not say: Linux does from 4.12 on.
#[cfg(target_os = "linux")]
pub(crate) fn kernel_bytes(socket: &impl AsFd) -> Option<KernelBytes> {
    let sizes = nix::sys::socket::getsockopt(socket, linux::MemInfo).ok()?;
    let size = |place: i32| sizes.get(usize::try_from(place).ok()?).copied();
    Some(KernelBytes {
        unsent: size(libc::SK_MEMINFO_WMEM_QUEUED)?,
        unread: size(libc::SK_MEMINFO_RMEM_ALLOC)?,
    })
}

/// What the kernel keeps for a connection: that is not known here.
#[cfg(not(target_os = "linux"))]
pub(crate) fn kernel_bytes(_: &impl AsFd) -> Option<KernelBytes> {
    None
}

#[cfg(target_os = "linux")]
mod linux {
    use nix::sys::socket::sockopt::GetStruct;

    /// The first numbers of `SO_MEMINFO` (linux/sock_diag.h); the kernel gives as many as there is
    /// room for.
    pub(super) type Sizes = [u32; 6];

    /// The option.
    #[derive(Clone, Copy, Debug)]
    pub(super) struct MemInfo;

    nix::getsockopt_impl!(
        MemInfo,
        libc::SOL_SOCKET,
        libc::SO_MEMINFO,
        Sizes,
        GetStruct<Sizes>
    );
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn what_nobody_reads_is_with_the_kernel() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut ours, _) = listener.accept().unwrap();
        assert_eq!(kernel_bytes(&ours), Some(KernelBytes::default()));
        client.write_all(&[b'x'; 3_000]).unwrap();
        let mut first = [0; 1];
        ours.read_exact(&mut first).unwrap();
        let unread = kernel_bytes(&ours).unwrap().unread;
        assert!((2_999..30_000).contains(&unread), "{unread}");
        ours.set_nonblocking(true).unwrap();
        let written = loop {
            if let Err(error) = ours.write_all(&[b'x'; 16 * 1024]) {
                break error.kind();
            }
        };
        assert_eq!(written, ErrorKind::WouldBlock);
        assert!(kernel_bytes(&ours).unwrap().unsent >= 16 * 1024);
    }
}

//! Which queue of an interface has which socket, for a program.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::{Queue, failed};
use crate::kernel;

/// A map of queues (`BPF_MAP_TYPE_XSKMAP`), by which a program at their interface hands frames to
/// them: `bpf_redirect_map(&map, ctx->rx_queue_index, XDP_PASS)`. Where there is no queue, frames
/// go the way of all others.
#[derive(Debug)]
pub struct QueueMap {
    descriptor: OwnedFd,
}

impl QueueMap {
    /// An empty one, for queues from 0 to `queues - 1`.
    ///
    /// # Errors
    /// If the process may not: it takes `CAP_BPF` and `CAP_NET_ADMIN`.
    pub fn new(queues: u32) -> io::Result<Self> {
        let descriptor = kernel::create_map_of_sockets(queues)
            .map_err(|error| failed("make a map of AF_XDP sockets", &error))?;
        Ok(Self { descriptor })
    }

    /// Has frames of this queue of the interface go to `socket`, which has to be open for that very
    /// queue. It is no longer in the map when it is dropped. This takes no rights.
    ///
    /// # Errors
    /// If the map has no room for that number.
    pub fn insert(&self, queue: u32, socket: &Queue) -> io::Result<()> {
        kernel::set_element(&self.descriptor, queue, socket)
            .map_err(|error| failed(&format!("put queue {queue} into a map"), &error))
    }
}

impl AsFd for QueueMap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

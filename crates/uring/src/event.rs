//! What one turn of the loop brought.

use std::collections::VecDeque;

use aquatic_udp_socket::{Datagram, wire};

use crate::pool::BufferPool;

/// Something that a [`Ring`](crate::Ring) reports.
#[derive(Debug)]
pub enum Event<'a> {
    /// A datagram came in.
    Datagram {
        /// At which socket: its index in the list that the ring was made with.
        socket: usize,
        /// Who sent it, and what.
        datagram: Datagram<'a>,
    },
    /// A [`Waker`](crate::Waker) was used.
    Woken,
    /// Something has happened at the file that is [watched](crate::Ring::watch).
    Ready,
}

/// A completion that the caller has not seen yet.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pending {
    Received {
        socket: usize,
        buffer: u16,
        len: u32,
    },
    Woken,
    Ready,
}

/// Events in the order in which they happened.
pub(crate) struct Queue {
    pub(crate) pending: VecDeque<Pending>,
    /// The buffer that the caller is looking at.
    lent: Option<u16>,
}

impl Queue {
    pub(crate) fn new() -> Self {
        Self {
            pending: VecDeque::new(),
            lent: None,
        }
    }

    pub(crate) fn take_back(&mut self, pool: &mut BufferPool) {
        if let Some(buffer) = self.lent.take() {
            pool.give_back(buffer);
        }
    }
}

/// The events of one turn. What is not looked at comes again in the next turn.
///
/// Not an iterator, because each datagram's buffer goes back to the kernel as soon as the next one
/// is asked for: few buffers, all of them warm in the processor's cache, serve a large load.
pub struct Events<'a> {
    pub(crate) queue: &'a mut Queue,
    pub(crate) pool: &'a mut BufferPool,
}

impl Events<'_> {
    /// The next event, if there is one.
    pub fn next_event(&mut self) -> Option<Event<'_>> {
        loop {
            self.queue.take_back(self.pool);
            match self.queue.pending.pop_front()? {
                Pending::Woken => return Some(Event::Woken),
                Pending::Ready => return Some(Event::Ready),
                Pending::Received {
                    socket,
                    buffer,
                    len,
                } => {
                    self.queue.lent = Some(buffer);
                    let received = self.pool.read(buffer, len);
                    let path = received.and_then(|it| wire::return_path(it.name, it.control));
                    let Some(path) = path else { continue };
                    // Read again, because a loop cannot return what one of its turns borrowed.
                    let received = self.pool.read(buffer, len)?;
                    let datagram = Datagram {
                        path,
                        bytes: received.payload,
                        truncated: received.truncated,
                    };
                    return Some(Event::Datagram { socket, datagram });
                }
            }
        }
    }

    /// How many events are left.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.pending.len()
    }

    /// Whether none is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.pending.is_empty()
    }
}

impl Drop for Events<'_> {
    fn drop(&mut self) {
        self.queue.take_back(self.pool);
    }
}

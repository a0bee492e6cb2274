//! The kernel's side of the buffers, played by a thread. Under Miri (`scripts/check-unsafe.sh`)
//! each access of both sides is checked: that it is allowed, and that there is no data race.

use std::ptr::{self, with_exposed_provenance_mut};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::*;

const COUNT: u16 = 4;
const DATAGRAM_BYTES_MAX: usize = 64;

/// What the kernel knows: addresses.
struct Kernel {
    entries: u64,
    head: u16,
    /// What is to come in.
    datagrams: Receiver<Vec<u8>>,
    /// Completions: buffer and result.
    completions: SyncSender<(u16, u32)>,
}

impl Kernel {
    fn run(mut self) {
        for datagram in &self.datagrams {
            let entries = usize::try_from(self.entries).unwrap();
            let entries = with_exposed_provenance_mut::<BufferEntry>(entries);
            // SAFETY: the kernel may read the queue from its registration on.
            let tail = unsafe { AtomicU16::from_ptr(&raw mut (*entries).tail) };
            while tail.load(Ordering::Acquire) == self.head {
                thread::yield_now();
            }
            let slot = usize::from(self.head & (COUNT - 1));
            // SAFETY: the tail says that the entry is written.
            let (addr, len, buffer) = unsafe {
                let entry = entries.add(slot);
                ((*entry).addr, (*entry).len, (*entry).buffer)
            };
            self.head = self.head.wrapping_add(1);
            let start = with_exposed_provenance_mut::<u8>(usize::try_from(addr).unwrap());
            let len = usize::try_from(len).unwrap();
            let written = written(&datagram, len);
            // SAFETY: the buffer is the kernel's until a completion names it.
            unsafe {
                ptr::write_bytes(start, 0xee, len);
                ptr::copy_nonoverlapping(written.as_ptr(), start, written.len());
            }
            let completion = (buffer, u32::try_from(written.len()).unwrap());
            self.completions.send(completion).unwrap();
        }
    }
}

/// What the kernel writes for a datagram from 192.0.2.1, port 1.
fn written(datagram: &[u8], room: usize) -> Vec<u8> {
    let mut name = [2_u16.to_ne_bytes(), 1_u16.to_be_bytes()].concat();
    name.extend([192, 0, 2, 1]);
    name.resize(16, 0);
    let space = room - RECVMSG_OUT_BYTES - SOCKADDR_BYTES - CONTROL_BYTES;
    let flags = match datagram.len() > space {
        true => libc::MSG_TRUNC.cast_unsigned(),
        false => 0,
    };
    let lengths = [16, 0, u32::try_from(datagram.len()).unwrap(), flags];
    let mut bytes = lengths.map(u32::to_ne_bytes).concat();
    name.resize(SOCKADDR_BYTES + CONTROL_BYTES, 0);
    bytes.extend(name);
    bytes.extend(datagram);
    bytes.truncate(room);
    bytes
}

struct Played {
    pool: BufferPool,
    datagrams: SyncSender<Vec<u8>>,
    completions: Receiver<(u16, u32)>,
    kernel: thread::JoinHandle<()>,
}

fn play() -> Played {
    let mut pool = BufferPool::new(COUNT, DATAGRAM_BYTES_MAX).unwrap();
    let (datagrams, coming) = sync_channel(64);
    let (done, completions) = sync_channel(64);
    let kernel = Kernel {
        entries: pool.entries.expose(),
        head: 0,
        datagrams: coming,
        completions: done,
    };
    assert_eq!(kernel.entries % PAGE_BYTES as u64, 0);
    assert!(!pool.has_free());
    pool.give_all();
    Played {
        pool,
        datagrams,
        completions,
        kernel: thread::spawn(move || kernel.run()),
    }
}

impl Played {
    fn receive(&mut self) -> (u16, u32) {
        let (buffer, len) = self.completions.recv().unwrap();
        // SAFETY: as in `Ring`: a completion has named it.
        unsafe { self.pool.take_over(buffer) };
        (buffer, len)
    }

    /// The pool outlives the kernel, as the ring takes care of.
    fn end(self) {
        drop(self.datagrams);
        self.kernel.join().unwrap();
    }
}

#[test]
fn buffers_go_round_many_times() {
    let mut played = play();
    // More than there are buffers, so that the kernel has to wait for some.
    for number in 0..3 * u8::try_from(COUNT).unwrap() {
        played.datagrams.send(vec![number; 10]).unwrap();
    }
    for number in 0..3 * u8::try_from(COUNT).unwrap() {
        let (buffer, len) = played.receive();
        let received = played.pool.read(buffer, len).unwrap();
        assert_eq!(received.payload, [number; 10]);
        assert_eq!(received.name[4..8], [192, 0, 2, 1]);
        assert_eq!((received.name.len(), received.control.len()), (16, 0));
        assert!(!received.truncated);
        played.pool.give_back(buffer);
        assert!(
            played.pool.read(buffer, len).is_none(),
            "it is the kernel's"
        );
    }
    played.end();
}

#[test]
fn buffers_of_ours_can_be_read_while_the_kernel_fills_others() {
    let mut played = play();
    for number in 0..u8::try_from(COUNT).unwrap() {
        played.datagrams.send(vec![number; 70]).unwrap();
    }
    let first = played.receive();
    let second = played.receive();
    let one = played.pool.read(first.0, first.1).unwrap();
    let other = played.pool.read(second.0, second.1).unwrap();
    assert_eq!((one.payload, other.payload), (&[0; 64][..], &[1; 64][..]));
    assert!(one.truncated && other.truncated);
    // In another order than that in which they came.
    played.pool.give_back(second.0);
    played.pool.give_back(first.0);
    assert!(played.pool.has_free());
    for number in 2..u8::try_from(COUNT).unwrap() {
        let (buffer, len) = played.receive();
        assert_eq!(played.pool.read(buffer, len).unwrap().payload, [number; 64]);
    }
    assert!(played.pool.has_free());
    played.end();
}

#[test]
fn what_no_kernel_should_say_does_no_harm() {
    let mut played = play();
    assert!(played.pool.read(0, 100).is_none());
    assert!(played.pool.read(u16::MAX, 100).is_none());
    played.pool.give_back(u16::MAX);
    // SAFETY: no such buffer can be taken over.
    unsafe { played.pool.take_over(COUNT) };
    played.datagrams.send(vec![7; 3]).unwrap();
    let (buffer, len) = played.receive();
    assert!(played.pool.read(buffer, 15).is_none(), "too short");
    let received = played.pool.read(buffer, u32::MAX).unwrap();
    assert_eq!(received.payload[..3], [7; 3]);
    assert_eq!(received.payload.len(), DATAGRAM_BYTES_MAX);
    assert!(played.pool.read(buffer, len).is_some());
    played.end();
}

#[test]
fn what_the_kernel_may_still_write_to_is_not_freed() {
    let mut pool = BufferPool::new(COUNT, DATAGRAM_BYTES_MAX).unwrap();
    pool.give_all();
    let addr = usize::try_from(pool.buffers.expose()).unwrap();
    let (allocation, layout) = (pool.buffers.allocation, pool.buffers.layout);
    let (queue, queue_layout) = (pool.entries.allocation, pool.entries.layout);
    pool.leak();
    drop(pool);
    // SAFETY: a kernel that did not end its requests would write here; then the test frees what it
    // has made leak, which nobody knows any more.
    unsafe {
        with_exposed_provenance_mut::<u8>(addr).write(1);
        dealloc(allocation.as_ptr(), layout);
        dealloc(queue.as_ptr(), queue_layout);
    }
}

//! The kernel's side of rings and frames, played by the test: what it says, and what it should
//! never say. Under Miri (`scripts/check-unsafe.sh`) each access of both sides is checked.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{NonNull, with_exposed_provenance_mut};
use std::sync::atomic::{AtomicU32, Ordering};

use super::memory::HEADROOM_BYTES;
use super::*;

/// Places of each half.
const COUNT: u32 = 8;
const PLACES: usize = 8;

const OFFSETS: libc::xdp_ring_offset = libc::xdp_ring_offset {
    producer: 0,
    consumer: 64,
    desc: 192,
    flags: 128,
};

/// The kernel's view of a ring.
pub(super) struct Side<T> {
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    entries: NonNull<[T]>,
}

impl<T: Shared> Side<T> {
    /// Whose indices start so.
    fn new(start: u32) -> (Mapping, Self) {
        let mapping = Mapping::anonymous(ring::bytes::<T>(&OFFSETS, COUNT).unwrap()).unwrap();
        let number = |offset| mapping.elements::<AtomicU32>(offset, 1).unwrap().cast();
        let side = Self {
            producer: number(OFFSETS.producer),
            consumer: number(OFFSETS.consumer),
            flags: number(OFFSETS.flags),
            entries: mapping.elements(OFFSETS.desc, PLACES).unwrap(),
        };
        side.producer().store(start, Ordering::Relaxed);
        side.consumer().store(start, Ordering::Relaxed);
        (mapping, side)
    }

    fn producer(&self) -> &AtomicU32 {
        // SAFETY: the ring that has the mapping lives as long as this.
        unsafe { self.producer.as_ref() }
    }

    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: the same.
        unsafe { self.consumer.as_ref() }
    }

    pub(super) fn set_flags(&self, value: u32) {
        // SAFETY: the same.
        unsafe { self.flags.as_ref() }.store(value, Ordering::Relaxed);
    }

    fn entry(&self, index: u32) -> &T {
        // SAFETY: the same.
        let entries = unsafe { self.entries.as_ref() };
        &entries[usize::try_from(index % COUNT).unwrap()]
    }

    /// Takes an entry of the tracker's.
    fn take<R>(&self, read: impl FnOnce(&T) -> R) -> Option<R> {
        let index = self.consumer().load(Ordering::Relaxed);
        let is_empty = self.producer().load(Ordering::Acquire) == index;
        (!is_empty).then(|| {
            let value = read(self.entry(index));
            self.consumer()
                .store(index.wrapping_add(1), Ordering::Release);
            value
        })
    }

    /// Adds an entry for the tracker.
    fn put(&self, write: impl FnOnce(&T)) {
        let index = self.producer().load(Ordering::Relaxed);
        let used = index.wrapping_sub(self.consumer().load(Ordering::Acquire));
        assert!(used < COUNT, "full");
        write(self.entry(index));
        self.producer()
            .store(index.wrapping_add(1), Ordering::Release);
    }
}

pub(super) struct Kernel {
    frames: u64,
    received: Side<Descriptor>,
    pub(super) fill: Side<Address>,
    pub(super) transmit: Side<Descriptor>,
    sent: Side<Address>,
}

impl Kernel {
    fn bytes(&self, address: u64) -> *mut u8 {
        with_exposed_provenance_mut(usize::try_from(self.frames + address).unwrap())
    }

    /// A frame comes in, if there is a place for it. Which?
    fn receive(&self, content: &[u8]) -> Option<u64> {
        let place = self.fill.take(|entry| entry.load(Ordering::Relaxed))?;
        let address = place + u64::try_from(HEADROOM_BYTES).unwrap();
        // SAFETY: the place is the kernel's, since it was in the ring.
        unsafe {
            self.bytes(address)
                .copy_from_nonoverlapping(content.as_ptr(), content.len());
        }
        self.say(address, u32::try_from(content.len()).unwrap());
        Some(place)
    }

    /// Says that a frame came in.
    fn say(&self, address: u64, len: u32) {
        self.received.put(|descriptor| {
            descriptor.address.store(address, Ordering::Relaxed);
            descriptor.len.store(len, Ordering::Relaxed);
        });
    }

    /// The next frame to be sent, and its address.
    pub(super) fn next_sent(&self) -> Option<(u64, Vec<u8>)> {
        let (address, len) = self.transmit.take(|descriptor| {
            let address = descriptor.address.load(Ordering::Relaxed);
            assert_eq!(descriptor.options.load(Ordering::Relaxed), 0);
            (address, descriptor.len.load(Ordering::Relaxed))
        })?;
        let len = usize::try_from(len).unwrap();
        // SAFETY: the place is the kernel's, since it was in the ring.
        let bytes = unsafe { std::slice::from_raw_parts(self.bytes(address), len) };
        Some((address, bytes.to_vec()))
    }

    fn complete(&self, address: u64) {
        self.sent
            .put(|entry| entry.store(address, Ordering::Relaxed));
    }
}

fn ring<T: Shared>(mapping: Mapping) -> Ring<T> {
    Ring::new(mapping, &OFFSETS, COUNT).unwrap()
}

/// A queue whose rings have been used so often that their indices are about to start anew.
pub(super) fn play() -> (Queue, Kernel) {
    let start = u32::MAX - 2;
    let memory = Mapping::anonymous(2 * PLACES * FRAME_BYTES).unwrap();
    let frames = memory.address();
    let (received, for_received) = Side::new(start);
    let (fill, for_fill) = Side::new(start);
    let (transmit, for_transmit) = Side::new(start);
    let (sent, for_sent) = Side::new(start);
    // No call is made on it, unless a test has it made.
    let socket = Arc::new(OwnedFd::from(File::open("/dev/null").unwrap()));
    let (first, second) = Half::both(memory);
    let queue = Queue {
        receiver: Receiver::new(
            Consumer::new(ring(received)),
            Producer::new(ring(fill)),
            first,
            Arc::clone(&socket),
        ),
        sender: Sender::new(
            Producer::new(ring(transmit)),
            Consumer::new(ring(sent)),
            second,
            Arc::clone(&socket),
        ),
        socket,
        is_zero_copy: false,
    };
    let kernel = Kernel {
        frames,
        received: for_received,
        fill: for_fill,
        transmit: for_transmit,
        sent: for_sent,
    };
    (queue, kernel)
}

fn received(queue: &mut Queue, max: usize) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let count = queue
        .receiver
        .receive(max, |frame| frames.push(frame.to_vec()))
        .unwrap();
    assert!(frames.len() <= count);
    frames
}

/// Commits a frame; false if none is free.
pub(super) fn send(queue: &mut Queue, content: &[u8]) -> bool {
    let Some(mut frame) = queue.sender.frame() else {
        return false;
    };
    frame.bytes()[..content.len()].copy_from_slice(content);
    assert!(frame.commit(content.len()));
    true
}

#[test]
fn frames_are_received_in_order_and_their_places_used_again() {
    let (mut queue, kernel) = play();
    for round in 0..40_u8 {
        for number in 0..5 {
            assert!(kernel.receive(&[round, number, 3]).is_some());
        }
        assert_eq!(received(&mut queue, 2), [[round, 0, 3], [round, 1, 3]]);
        let rest = [[round, 2, 3], [round, 3, 3], [round, 4, 3]];
        assert_eq!(received(&mut queue, 64), rest);
        assert!(received(&mut queue, 64).is_empty());
    }
}

#[test]
fn a_burst_loses_datagrams_but_no_place() {
    let (mut queue, kernel) = play();
    for _ in 0..3 {
        let places: Vec<_> = (0..20).map(|byte| kernel.receive(&[byte])).collect();
        let mut got: Vec<_> = places.iter().flatten().copied().collect();
        got.sort_unstable();
        got.dedup();
        assert_eq!(got.len(), PLACES);
        assert_eq!(received(&mut queue, 64).len(), PLACES);
    }
}

#[test]
fn a_place_is_given_back_although_its_reader_panics() {
    let (mut queue, kernel) = play();
    assert!(kernel.receive(&[1]).is_some());
    let result = catch_unwind(AssertUnwindSafe(|| {
        queue.receiver.receive(1, |_| panic!("of the test"))
    }));
    assert!(result.is_err());
    for _ in 1..COUNT {
        assert!(kernel.receive(&[2]).is_some());
    }
    assert!(kernel.receive(&[2]).is_none());
    assert_eq!(received(&mut queue, 64).len(), PLACES - 1);
    assert!((0..COUNT).all(|_| kernel.receive(&[3]).is_some()));
}

#[test]
fn frames_that_no_kernel_should_tell_of_are_not_there() {
    let (mut queue, kernel) = play();
    let half = u64::from(COUNT) * 2_048;
    // So that there is room in the ring for what does not belong there.
    let places: Vec<_> = (0..COUNT)
        .map(|_| kernel.fill.take(|it| it.load(Ordering::Relaxed)))
        .collect();
    for address in [half, half + 100, 2 * half, 1 << 32, u64::MAX - 2, u64::MAX] {
        kernel.say(address, 60);
        assert!(received(&mut queue, 64).is_empty(), "{address}");
        assert!(kernel.fill.take(|_| ()).is_none(), "{address}");
    }
    for place in places {
        kernel.say(place.unwrap(), 60);
    }
    assert_eq!(received(&mut queue, 64).len(), PLACES);
    // Beyond its place.
    for (offset, len) in [(0, 2_049), (256, 1_793), (2_047, 2), (0, u32::MAX)] {
        kernel.say(
            kernel.fill.take(|it| it.load(Ordering::Relaxed)).unwrap() + offset,
            len,
        );
        assert!(received(&mut queue, 64).is_empty(), "{offset} {len}");
    }
    kernel.say(
        kernel.fill.take(|it| it.load(Ordering::Relaxed)).unwrap(),
        2_048,
    );
    assert_eq!(received(&mut queue, 64)[0].len(), 2_048);
    // All are still used.
    assert!((0..COUNT).all(|_| kernel.receive(&[3]).is_some()));
}

#[test]
fn an_index_that_no_kernel_should_have_ends_nothing() {
    for wrong in [0_u32, 1_000, u32::MAX / 2, u32::MAX - 3] {
        let (mut queue, kernel) = play();
        kernel.received.producer().store(wrong, Ordering::Release);
        kernel.sent.producer().store(wrong, Ordering::Release);
        assert!(queue.receiver.receive(64, |_| {}).unwrap() <= PLACES);
        kernel.transmit.consumer().store(wrong, Ordering::Release);
        kernel.fill.consumer().store(wrong, Ordering::Release);
        for _ in 0..3 * COUNT {
            if let Some(frame) = queue.sender.frame() {
                frame.commit(60);
            }
            queue.sender.flush().unwrap();
            assert!(queue.sender.waiting() <= PLACES);
            queue.receiver.receive(64, |_| {}).unwrap();
        }
    }
}

#[test]
fn frames_are_sent_in_order_when_they_are_flushed() {
    let (mut queue, kernel) = play();
    for round in 0..40_u8 {
        for number in 0..5 {
            assert!(send(&mut queue, &[round + number; 61]));
        }
        assert!(kernel.next_sent().is_none());
        queue.sender.flush().unwrap();
        assert_eq!(queue.sender.waiting(), 5);
        for number in 0..5 {
            let (address, bytes) = kernel.next_sent().unwrap();
            assert_eq!(bytes, [round + number; 61]);
            kernel.complete(address);
        }
        assert_eq!(queue.sender.waiting(), 0);
    }
}

#[test]
fn without_a_free_frame_nothing_is_sent_until_one_comes_back() {
    let (mut queue, kernel) = play();
    assert!((0..COUNT).all(|_| send(&mut queue, &[7; 60])));
    assert!(queue.sender.frame().is_none());
    queue.sender.flush().unwrap();
    assert!(queue.sender.frame().is_none());
    let (address, _) = kernel.next_sent().unwrap();
    assert!(queue.sender.frame().is_none(), "the card has it");
    kernel.complete(address);
    assert!(send(&mut queue, &[8; 60]));
    assert!(queue.sender.frame().is_none());
}

#[test]
fn a_frame_comes_back_once() {
    let (mut queue, kernel) = play();
    assert!(send(&mut queue, &[7; 60]));
    queue.sender.flush().unwrap();
    let (address, _) = kernel.next_sent().unwrap();
    // Twice; one that was never sent; and places that are none, or to receive into.
    let half = u64::from(COUNT) * 2_048;
    for address in [address, address, half + 2_048, 0, 2 * half, u64::MAX] {
        kernel.complete(address);
    }
    queue.sender.flush().unwrap();
    assert!((0..COUNT).all(|_| send(&mut queue, &[8; 60])));
    assert!(queue.sender.frame().is_none());
}

#[test]
fn a_short_frame_is_filled_up_by_zeros() {
    let (mut queue, kernel) = play();
    for (len, expected) in [(14, 60), (59, 60), (60, 60), (61, 61), (2_048, 2_048)] {
        // What an earlier frame has left.
        queue.sender.frame().unwrap().bytes().fill(0xee);
        assert!(send(&mut queue, &vec![1; len]));
        queue.sender.flush().unwrap();
        let (address, bytes) = kernel.next_sent().unwrap();
        assert_eq!(bytes.len(), expected);
        assert!(bytes[..len].iter().all(|byte| *byte == 1));
        assert!(bytes[len..].iter().all(|byte| *byte == 0));
        kernel.complete(address);
    }
    for len in [0, 13, 2_049, usize::MAX] {
        assert!(!queue.sender.frame().unwrap().commit(len), "{len}");
    }
    queue.sender.flush().unwrap();
    assert!(kernel.next_sent().is_none());
}

#[test]
fn a_ring_has_to_be_within_its_memory() {
    let offset = |change: fn(&mut libc::xdp_ring_offset)| {
        let mut offsets = OFFSETS;
        change(&mut offsets);
        offsets
    };
    let wrong = [
        offset(|it| it.producer = 1),
        offset(|it| it.consumer = 1 << 20),
        offset(|it| it.flags = u64::MAX),
        offset(|it| it.desc = 193),
        offset(|it| it.desc = 4_096 - 8),
    ];
    let new = |offsets: &libc::xdp_ring_offset, count| {
        let mapping = Mapping::anonymous(4_096).unwrap();
        Ring::<Descriptor>::new(mapping, offsets, count)
    };
    assert!(new(&OFFSETS, COUNT).is_ok());
    for offsets in wrong {
        assert!(new(&offsets, COUNT).is_err(), "{offsets:?}");
    }
    for count in [0, 3, 256, 1 << 31] {
        assert!(new(&OFFSETS, count).is_err(), "{count}");
    }
}

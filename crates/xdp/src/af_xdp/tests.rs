//! What is decided before the kernel is asked.

use super::played::{play, send};
use super::*;

/// The file is no socket, which is how a call is noticed.
#[test]
fn the_kernel_is_woken_only_when_it_asks_for_it() {
    let (mut queue, kernel) = play();
    kernel.transmit.set_flags(libc::XDP_RING_NEED_WAKEUP);
    kernel.fill.set_flags(libc::XDP_RING_NEED_WAKEUP);
    queue.sender.flush().expect("there is nothing to be sent");
    assert!(queue.receiver.receive(1, |_| {}).is_err());
    assert!(send(&mut queue, &[1; 60]));
    let error = queue.sender.flush().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOTSOCK));
    kernel.transmit.set_flags(0);
    kernel.fill.set_flags(0);
    queue.sender.flush().unwrap();
    queue.receiver.receive(1, |_| {}).unwrap();
    assert!(kernel.next_sent().is_some());
}

#[test]
fn numbers_of_frames_are_checked() {
    for frames in [0, 8, 17, 100, 1 << 19, u32::MAX] {
        let options = QueueOptions {
            frames,
            mode: Mode::Copy,
        };
        let error = Queue::open(1, 0, &options).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{frames}");
    }
}

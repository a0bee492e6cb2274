//! No wake-up is lost, in any interleaving of two ringers and a gate.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p aquatic_channel --release --test loom`

#![cfg(loom)]

use aquatic_channel::waker_pair;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

/// If a wake-up were lost, the gate would wait for ever, which loom reports as a deadlock.
#[test]
fn every_message_is_seen_by_a_worker_that_really_sleeps() {
    const RINGERS: usize = 2;
    let mut model = loom::model::Builder::new();
    // All interleavings with up to this many preemptions. Without a bound the model passes too,
    // but takes minutes (LOOM_MAX_PREEMPTIONS=100).
    model.preemption_bound.get_or_insert(3);
    model.check(|| {
        let queue = Arc::new(AtomicUsize::new(0));
        let sleeping_thread = thread::current();
        let (gate, waker) = waker_pair(move || sleeping_thread.unpark());

        let ringers: Vec<_> = (0..RINGERS)
            .map(|_| {
                let (queue, waker) = (Arc::clone(&queue), waker.clone());
                thread::spawn(move || {
                    queue.fetch_add(1, Ordering::Release);
                    waker.wake();
                })
            })
            .collect();

        let mut seen = 0;
        while seen < RINGERS {
            seen += queue.swap(0, Ordering::Acquire);
            if seen < RINGERS {
                let _guard = gate.prepare_to_sleep();
                if queue.load(Ordering::Acquire) == 0 {
                    thread::park();
                }
            }
        }
        for ringer in ringers {
            ringer.join().unwrap();
        }
    });
}

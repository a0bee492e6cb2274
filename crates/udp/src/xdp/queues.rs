//! The queues of AF_XDP by which requests come, with `network.xdp = "full"`.

use std::io;

use anyhow::Context;
use aquatic_xdp::af_xdp::{self, Mode, Queue, QueueOptions};
use aquatic_xdp::{AttachMode, QueueNumbers, XDP_QUEUES_MAX, Xdp};

use super::At;
use crate::socket_worker::frames::FrameQueue;

const QUEUE_RIGHTS: &str = "it takes root or CAP_NET_RAW, and memory that may be locked (in a unit \
                            of systemd: AmbientCapabilities=, CapabilityBoundingSet=, \
                            LimitMEMLOCK=, RestrictAddressFamilies=AF_XDP)";

/// Receive queues of an interface that are tried if it does not say how many it has.
const TRIES_MAX: u32 = 64;

/// Whether there is AF_XDP, and this process may have it.
pub(super) fn require() -> anyhow::Result<()> {
    af_xdp::probe().with_context(|| format!("`network.xdp` = full: {QUEUE_RIGHTS}"))
}

/// How many queues can be served: those with both ways, since answers leave by the queue that their
/// requests have come by, and not more than the program knows.
fn served(name: &str, queues: QueueNumbers) -> u32 {
    let QueueNumbers { receive, send } = queues;
    let two_ways = match send {
        // A driver that tells only of the others.
        0 => receive,
        send => receive.min(send),
    };
    let served = two_ways.min(XDP_QUEUES_MAX);
    if served < receive {
        log::warn!(
            "AF_XDP: of the {receive} queues of {name} to receive by, {served} are served: there \
             are no more to send by, or not more than {XDP_QUEUES_MAX} can be. What comes by the \
             others goes by the network stack (see ethtool -L)"
        );
    }
    served
}

/// Whether there is no queue of this number; all other reasons why one cannot be had are told.
fn is_beyond_the_last(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidInput
}

/// Has requests go to this process, by all queues of the interface.
pub(super) fn open(xdp: &Xdp, at: &At) -> anyhow::Result<Vec<FrameQueue>> {
    let (interface, name) = (&at.interface, at.interface.name());
    let what = || format!("`network.xdp` = full at {name}: no queues ({QUEUE_RIGHTS})");
    let options = QueueOptions {
        mode: match at.mode {
            AttachMode::Native => Mode::ZeroCopyIfPossible,
            AttachMode::Generic => Mode::Copy,
        },
        ..QueueOptions::default()
    };
    let mtu = interface.mtu().with_context(what)?;
    let mut opened = Vec::new();
    let count = interface.queues().map(|it| served(name, it));
    for number in 0..count.unwrap_or(TRIES_MAX) {
        let queue = match Queue::open(interface.index(), number, &options) {
            // It does not say how many there are.
            Err(error) if count.is_none() && number > 0 && is_beyond_the_last(&error) => break,
            queue => queue.with_context(what)?,
        };
        let copies = if queue.is_zero_copy() {
            "zero-copy"
        } else {
            "copies"
        };
        opened.push((number, copies, queue));
    }
    // All of them, or none.
    for (number, _, queue) in &opened {
        xdp.redirect(interface.index(), *number, queue)
            .with_context(what)?;
    }
    for (number, copies, _) in &opened {
        log::info!("AF_XDP: queue {number} of {name}, {copies}");
    }
    let queues = opened
        .into_iter()
        .map(|(number, _, queue)| FrameQueue::new(queue, interface, number, mtu));
    Ok(queues.collect())
}

/// A share for each worker.
pub(super) fn share_out(queues: Vec<FrameQueue>, workers: usize) -> Vec<Vec<FrameQueue>> {
    if !queues.is_empty() && queues.len() != workers {
        log::info!("{}", unequal(queues.len(), workers));
    }
    shares(queues, workers)
}

/// One for each worker in turn.
fn shares<Q>(queues: Vec<Q>, workers: usize) -> Vec<Vec<Q>> {
    let mut shares: Vec<Vec<Q>> = (0..workers).map(|_| Vec::new()).collect();
    for (number, queue) in queues.into_iter().enumerate() {
        if let Some(share) = shares.get_mut(number % workers.max(1)) {
            share.push(queue);
        }
    }
    shares
}

fn unequal(queues: usize, workers: usize) -> String {
    let plural = |count: usize| if count == 1 { "" } else { "s" };
    format!(
        "{queues} receive queue{} for {workers} socket worker{}: one each is best \
         (`socket_workers`, ethtool -L)",
        plural(queues),
        plural(workers)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_have_to_send_as_well() {
        let queues = |receive, send| served("eth0", QueueNumbers { receive, send });
        assert_eq!([queues(4, 4), queues(4, 1), queues(2, 8)], [4, 1, 2]);
        assert_eq!(
            [queues(300, 300), queues(300, 0), queues(256, 300)],
            [256; 3]
        );
        // A driver that tells only of the others.
        assert_eq!(queues(3, 0), 3);
    }

    #[test]
    fn queues_are_spread_over_workers() {
        assert_eq!(shares(vec![0, 1, 2, 3, 4], 2), [vec![0, 2, 4], vec![1, 3]]);
        assert_eq!(shares(vec![0], 3), [vec![0], vec![], vec![]]);
        assert_eq!(shares(vec![0], 0), Vec::<Vec<i32>>::new());
    }

    #[test]
    fn one_is_not_spoken_of_as_many() {
        for (queues, workers, told) in [
            (1, 4, "1 receive queue for 4 socket workers: one each"),
            (2, 1, "2 receive queues for 1 socket worker: one each"),
        ] {
            let said = unequal(queues, workers);
            assert!(said.starts_with(told), "{said}");
        }
    }
}

//! What is on its way to connections of other socket workers: offers and answers. And to other
//! nodes, by way of the thread that has the [replica](crate::cluster::replica).
//!
//! What a shard has decided comes back to the socket worker that asked. What is for a connection of
//! its own it writes there; the rest goes, as whole WebSocket frames, to the workers that can.

use aquatic_channel::{Batch, Lane, Responder, Waker, exchange};
use aquatic_cluster::nodes::NodeIndex;
use aquatic_stream::ConnectionKey;
use aquatic_types::IpFamily;

use crate::counters::ResponseKind;
use crate::messages::{Evicted, HandedOffer};

/// Bytes after which a batch takes no more.
const DELIVERY_BYTES_MAX: usize = 256 * 1_024;

/// Peers that have had to give way after which a batch takes no more.
const DELIVERY_EVICTED_MAX: usize = 256;

/// Letters for other nodes after which a batch takes no more.
const DELIVERY_LETTERS_MAX: usize = 2_048;

/// Room that an empty batch keeps for letters: for so many bytes, and so many of them.
const LETTER_BYTES_KEPT: usize = 8 * 1_024;
const LETTERS_KEPT: usize = 32;

/// Batches that can be on their way from one worker to another.
const DELIVERY_BATCHES_MAX: usize = 16;

/// Frames for connections of one worker, one behind the other.
#[derive(Debug, Default)]
pub struct DeliveryBatch {
    bytes: Vec<u8>,
    items: Vec<Delivery>,
    /// Peers of the worker's connections.
    evicted: Vec<Evicted>,
    /// Letters for other nodes, one behind the other; where each ends.
    letters: Vec<u8>,
    letter_ends: Vec<(NodeIndex, usize)>,
}

/// A frame, and where it goes.
#[derive(Clone, Copy, Debug)]
pub struct Delivery {
    /// Where it goes.
    pub connection: ConnectionKey,
    /// What it is.
    pub message: Forwarded,
    /// Where it ends.
    end: usize,
}

/// What else is known about a message that one client has for another.
#[derive(Clone, Copy, Debug)]
pub struct Forwarded {
    /// What it is counted as.
    pub kind: ResponseKind,
    /// The family of the client that has sent it.
    pub from: IpFamily,
    /// The network of that client.
    pub network: u64,
    /// What becomes of it if it is an offer, and dropped.
    pub offer: Option<HandedOffer>,
}

impl DeliveryBatch {
    /// All items with their frames, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = (Delivery, &[u8])> {
        let mut start = 0;
        self.items.iter().map(move |item| {
            let frame = self.bytes.get(start..item.end).unwrap_or_default();
            start = item.end;
            (*item, frame)
        })
    }

    /// All letters for other nodes, as they stand in a parcel, in the order in which they were
    /// added.
    pub fn letters(&self) -> impl Iterator<Item = (NodeIndex, &[u8])> {
        let mut start = 0;
        self.letter_ends.iter().map(move |(node, end)| {
            let letter = self.letters.get(start..*end).unwrap_or_default();
            start = *end;
            (*node, letter)
        })
    }

    /// Peers that have had to give way.
    #[must_use]
    pub fn evicted(&self) -> &[Evicted] {
        &self.evicted
    }

    fn clear(&mut self) {
        self.evicted.clear();
        self.evicted.shrink_to(DELIVERY_EVICTED_MAX);
        self.items.clear();
        self.bytes.clear();
        self.bytes.shrink_to(2 * DELIVERY_BYTES_MAX);
        self.letter_ends.clear();
        self.letter_ends.shrink_to(LETTERS_KEPT);
        self.letters.clear();
        self.letters.shrink_to(LETTER_BYTES_KEPT);
    }
}

/// One worker's ways to and from all others.
#[derive(Debug, Default)]
pub struct Forwarding {
    /// By worker; none to itself.
    outgoing: Vec<Option<Lane<DeliveryBatch>>>,
    incoming: Vec<Responder<DeliveryBatch>>,
    /// Whether the last of them is the thread that has the replica.
    reaches_nodes: bool,
}

impl Forwarding {
    /// Connects socket workers with each other, and with the thread that has the replica, if there
    /// is one: its own ways are the last. Each is woken by its waker.
    #[must_use]
    pub fn connect(wakers: &[Waker], replica: Option<&Waker>) -> Vec<Self> {
        let wakers: Vec<_> = wakers.iter().chain(replica).collect();
        let none = || Self {
            reaches_nodes: replica.is_some(),
            ..Self::default()
        };
        let mut all: Vec<_> = wakers.iter().map(|_| none()).collect();
        for (from, from_waker) in wakers.iter().enumerate() {
            for (to, to_waker) in wakers.iter().enumerate() {
                let connect = || {
                    let (to_waker, from_waker) = ((*to_waker).clone(), (*from_waker).clone());
                    exchange(DELIVERY_BATCHES_MAX, to_waker, from_waker)
                };
                let (requester, responder) = (from != to).then(connect).unzip();
                if let Some(other) = all.get_mut(to) {
                    other.incoming.extend(responder);
                }
                if let Some(own) = all.get_mut(from) {
                    own.outgoing.push(requester.map(Lane::new));
                }
            }
        }
        all
    }

    /// Puts the letter that `write` appends into the batch for the thread that has the replica,
    /// which brings it to another node. Returns whether there was room.
    pub fn send_letter(&mut self, node: NodeIndex, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let replica = self.outgoing.last_mut().filter(|_| self.reaches_nodes);
        let Some(Some(outgoing)) = replica else {
            return false;
        };
        let Some(batch) = outgoing.batch(DeliveryBatch::default) else {
            return false;
        };
        write(&mut batch.letters);
        batch.letter_ends.push((node, batch.letters.len()));
        true
    }

    /// Puts the frame that `write` appends into the batch for a worker. Returns
    /// whether there was room; there is none if that worker does not keep up.
    pub fn add(
        &mut self,
        worker: u16,
        connection: ConnectionKey,
        message: Forwarded,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> bool {
        let Some(Some(outgoing)) = self.outgoing.get_mut(usize::from(worker)) else {
            return false;
        };
        let Some(batch) = outgoing.batch(DeliveryBatch::default) else {
            return false;
        };
        write(&mut batch.bytes);
        batch.items.push(Delivery {
            connection,
            message,
            end: batch.bytes.len(),
        });
        true
    }

    /// Tells the worker that holds its connection of a peer that had to give way. Returns whether
    /// there was room.
    pub fn tell(&mut self, evicted: Evicted) -> bool {
        let worker = usize::from(evicted.member.worker);
        let Some(Some(outgoing)) = self.outgoing.get_mut(worker) else {
            return false;
        };
        let Some(batch) = outgoing.batch(DeliveryBatch::default) else {
            return false;
        };
        batch.evicted.push(evicted);
        true
    }

    /// Takes back batches that have been unpacked.
    pub fn collect(&mut self) {
        for outgoing in self.outgoing.iter_mut().flatten() {
            // They were emptied where they were unpacked.
            outgoing.collect(|_| ());
        }
    }

    /// Puts batches on their way, unless the [lane](Lane) holds them back.
    pub fn forward(&mut self) {
        for outgoing in self.outgoing.iter_mut().flatten() {
            outgoing.forward();
        }
    }

    /// Whether there are batches to [take back](Self::collect).
    #[must_use]
    pub fn has_returned(&self) -> bool {
        self.outgoing.iter().flatten().any(Lane::has_answers)
    }

    /// Gives every batch that has come to `unpack`. Returns their number.
    pub fn unpack(&mut self, mut unpack: impl FnMut(&DeliveryBatch)) -> usize {
        let mut unpacked = 0;
        for incoming in &mut self.incoming {
            let before = unpacked;
            while let Some(mut batch) = incoming.receive() {
                unpack(&batch);
                batch.clear();
                // There is room for every batch that was received.
                let sent = incoming.answer(batch);
                debug_assert!(sent.is_ok(), "the batch came from this exchange");
                unpacked += 1;
            }
            // With so many, the sender may hold something back until they return.
            if unpacked - before > 1 {
                incoming.wake();
            }
        }
        unpacked
    }

    /// Whether there is something to [unpack](Self::unpack), or to [forward](Self::forward) that
    /// was held back.
    #[must_use]
    pub fn has_pending(&self) -> bool {
        let goes_on = |it: &Lane<DeliveryBatch>| it.holds_back() && it.has_answers();
        self.incoming.iter().any(Responder::has_requests)
            || self.outgoing.iter().flatten().any(goes_on)
    }
}

impl Batch for DeliveryBatch {
    fn is_full(&self) -> bool {
        self.bytes.len() >= DELIVERY_BYTES_MAX
            || self.evicted.len() >= DELIVERY_EVICTED_MAX
            || self.letters.len() >= DELIVERY_BYTES_MAX
            || self.letter_ends.len() >= DELIVERY_LETTERS_MAX
    }

    fn is_empty(&self) -> bool {
        self.items.is_empty() && self.evicted.is_empty() && self.letter_ends.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use aquatic_channel::waker_pair;

    use super::*;

    const MESSAGES: usize = 500;

    /// Offers that come one by one.
    fn send_many(own: &mut Forwarding) {
        let message = Forwarded {
            kind: ResponseKind::Offer,
            from: IpFamily::V4,
            network: 0,
            offer: None,
        };
        for number in 0..MESSAGES {
            let write = |out: &mut Vec<u8>| out.extend([0; 1_000]);
            assert!(
                own.add(1, ConnectionKey::default(), message, write),
                "{number}"
            );
            own.collect();
            own.forward();
        }
    }

    fn two(wakers: &[Waker; 2]) -> [Forwarding; 2] {
        let all = Forwarding::connect(wakers, None);
        all.try_into().unwrap()
    }

    /// While the other worker is busy for many rounds, offers that come one by one are not lost.
    #[test]
    fn what_comes_one_by_one_waits_together() {
        let [mut own, mut other] = two(&[waker_pair(|| ()).1, waker_pair(|| ()).1]);
        send_many(&mut own);
        let mut came = 0;
        let mut unpack = |other: &mut Forwarding| other.unpack(|it| came += it.iter().count());
        assert!(!own.has_pending(), "no batch is back that could be filled");
        assert!(unpack(&mut other) > 0);
        assert!(own.has_pending(), "what was held back can go");
        own.collect();
        own.forward();
        while unpack(&mut other) > 0 {
            own.collect();
            own.forward();
        }
        assert_eq!(came, MESSAGES);
        assert!(!own.has_pending() && !other.has_pending());
    }

    /// Not without the thread that has the replica, and no more than there is room for.
    #[test]
    fn letters_go_to_the_replica_in_order() {
        let silent = || waker_pair(|| ()).1;
        let [mut alone, _] = two(&[silent(), silent()]);
        assert!(!alone.send_letter(NodeIndex(1), |_| ()));
        let all = Forwarding::connect(&[silent(), silent()], Some(&silent()));
        let [mut own, mut other, mut replica] = <[_; 3]>::try_from(all).unwrap();
        assert!(!replica.send_letter(NodeIndex(1), |_| ()), "to itself");
        let mut sent = Vec::new();
        let letter = |number: usize| vec![7; number % 1_000];
        while own.send_letter(NodeIndex(5), |out| out.extend(letter(sent.len()))) {
            sent.push(letter(sent.len()));
            own.collect();
            own.forward();
        }
        assert!((1_000..100_000).contains(&sent.len()), "{}", sent.len());
        assert!(other.send_letter(NodeIndex(6), |out| out.push(8)));
        other.forward();
        let (mut came, mut others) = (Vec::new(), Vec::new());
        while replica.unpack(|batch| {
            for (node, letter) in batch.letters() {
                let list = if node == NodeIndex(5) {
                    &mut came
                } else {
                    &mut others
                };
                list.push(letter.to_vec());
            }
        }) > 0
        {
            own.collect();
            own.forward();
        }
        assert!(came == sent, "{} of {}", came.len(), sent.len());
        assert_eq!(others, [[8]]);
        assert!(own.send_letter(NodeIndex(5), |_| ()));
    }

    /// There are many of them, of which few are in use most of the time.
    #[test]
    fn an_empty_batch_keeps_little_room_for_letters() {
        let mut batch = DeliveryBatch::default();
        while !batch.is_full() {
            batch.letters.extend([7; 100]);
            batch.letter_ends.push((NodeIndex(1), batch.letters.len()));
        }
        batch.letters.extend([7; 1_000_000]);
        batch.clear();
        assert!(batch.is_empty());
        assert!(batch.letters.capacity() <= 2 * LETTER_BYTES_KEPT);
        assert!(batch.letter_ends.capacity() <= 2 * LETTERS_KEPT);
    }

    /// It sleeps until batches are back, with what it has held back.
    #[test]
    fn whoever_has_sent_many_batches_is_woken_when_they_are_back() {
        let wakes = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&wakes);
        let (gate, own_waker) = waker_pair(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        let [mut own, mut other] = two(&[own_waker, waker_pair(|| ()).1]);
        send_many(&mut own);
        let _guard = gate.prepare_to_sleep();
        assert!(other.unpack(|_| ()) > 1);
        assert_eq!(wakes.load(Ordering::Relaxed), 1);
    }
}

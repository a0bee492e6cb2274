//! What is on its way to connections of other socket workers: offers and answers.
//!
//! What a relay has decided comes back to the socket worker that asked. What is for a connection of
//! its own it writes there; the rest goes, as whole WebSocket frames, to the workers that can.

use aquatic_channel::{Bell, Requester, Responder, exchange};
use aquatic_stream::ConnectionId;
use aquatic_types::IpFamily;

use crate::counters::ResponseKind;
use crate::messages::HandedOffer;

/// Bytes after which a parcel takes no more.
const PARCEL_BYTES_MAX: usize = 256 * 1_024;

/// Parcels that can be on their way from one worker to another.
const PARCELS_MAX: usize = 16;

/// Frames for connections of one worker, one behind the other.
#[derive(Debug, Default)]
pub struct Parcel {
    bytes: Vec<u8>,
    items: Vec<Item>,
}

/// A frame, and where it goes.
#[derive(Clone, Copy, Debug)]
pub struct Item {
    /// Where it goes.
    pub connection: ConnectionId,
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
    /// What becomes of it if it is an offer, and dropped.
    pub offer: Option<HandedOffer>,
}

impl Parcel {
    /// All items with their frames, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = (Item, &[u8])> {
        let mut start = 0;
        self.items.iter().map(move |item| {
            let frame = self.bytes.get(start..item.end).unwrap_or_default();
            start = item.end;
            (*item, frame)
        })
    }

    fn clear(&mut self) {
        self.items.clear();
        self.bytes.clear();
        self.bytes.shrink_to(2 * PARCEL_BYTES_MAX);
    }
}

/// One worker's ways to and from all others.
#[derive(Debug, Default)]
pub struct Deliveries {
    /// By worker; none to itself.
    outgoing: Vec<Option<Outgoing>>,
    incoming: Vec<Responder<Parcel>>,
}

#[derive(Debug)]
struct Outgoing {
    requester: Requester<Parcel>,
    filling: Option<Parcel>,
}

impl Deliveries {
    /// Connects workers with each other. `bells` wake them.
    #[must_use]
    pub fn connect(workers: usize, bells: &[Bell]) -> Vec<Self> {
        let bells = bells.get(..workers).unwrap_or(bells);
        let mut all: Vec<_> = bells.iter().map(|_| Self::default()).collect();
        for (from, from_bell) in bells.iter().enumerate() {
            for (to, to_bell) in bells.iter().enumerate() {
                let way =
                    (from != to).then(|| exchange(PARCELS_MAX, to_bell.clone(), from_bell.clone()));
                let (requester, responder) = way.unzip();
                if let Some(other) = all.get_mut(to) {
                    other.incoming.extend(responder);
                }
                if let Some(own) = all.get_mut(from) {
                    own.outgoing.push(requester.map(|requester| Outgoing {
                        requester,
                        filling: None,
                    }));
                }
            }
        }
        all
    }

    /// Puts the frame that `write` appends into the parcel for a worker. Returns
    /// whether there was room; there is none if that worker does not keep up.
    pub fn add(
        &mut self,
        worker: u16,
        connection: ConnectionId,
        message: Forwarded,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> bool {
        let Some(Some(outgoing)) = self.outgoing.get_mut(usize::from(worker)) else {
            return false;
        };
        let Some(parcel) = outgoing.parcel() else {
            return false;
        };
        write(&mut parcel.bytes);
        parcel.items.push(Item {
            connection,
            message,
            end: parcel.bytes.len(),
        });
        true
    }

    /// Puts all parcels on their way, and takes back those that have been unpacked.
    pub fn forward(&mut self) {
        for outgoing in self.outgoing.iter_mut().flatten() {
            outgoing.send();
            outgoing.requester.ring();
            while let Some(parcel) = outgoing.requester.receive() {
                outgoing.requester.recycle(parcel);
            }
        }
    }

    /// Gives every parcel that has come to `unpack`. Returns their number.
    pub fn unpack(&mut self, mut unpack: impl FnMut(&Parcel)) -> usize {
        let mut unpacked = 0;
        for incoming in &mut self.incoming {
            while let Some(mut parcel) = incoming.receive() {
                unpack(&parcel);
                parcel.clear();
                // There is room for every parcel that was received.
                let sent = incoming.answer(parcel);
                debug_assert!(sent.is_ok(), "the parcel came from this exchange");
                unpacked += 1;
            }
        }
        unpacked
    }

    /// Whether there is something to [unpack](Self::unpack).
    #[must_use]
    pub fn has_mail(&self) -> bool {
        self.incoming.iter().any(Responder::has_requests)
    }
}

impl Outgoing {
    fn parcel(&mut self) -> Option<&mut Parcel> {
        let is_full = |parcel: &Parcel| parcel.bytes.len() >= PARCEL_BYTES_MAX;
        if self.filling.as_ref().is_some_and(is_full) {
            self.send();
        }
        if self.filling.is_none() {
            while let Some(parcel) = self.requester.receive() {
                self.requester.recycle(parcel);
            }
            self.filling = self.requester.vacant(Parcel::default);
        }
        self.filling.as_mut()
    }

    fn send(&mut self) {
        if let Some(parcel) = self.filling.take_if(|parcel| !parcel.items.is_empty()) {
            // There is room for every parcel that was vacant.
            let sent = self.requester.send(parcel);
            debug_assert!(sent.is_ok(), "the parcel came from this exchange");
        }
    }
}

//! A client's part: it speaks HTTP for some of the peers.

use std::ops::Range;

use fastrand::Rng;

use crate::http::exchange::Exchange;
use crate::http::kinds::{Asked, RequestKind};
use crate::http::requests::RequestWriter;
use crate::stream::{Dialogue, ProtocolError, Shared};

/// A client that speaks HTTP.
#[derive(Debug)]
pub struct HttpDialogue {
    exchange: Exchange,
    /// Numbers of the peers that it speaks for: a peer's address must not change.
    peers: Range<u32>,
}

impl HttpDialogue {
    /// Speaks for these peers. An answer that takes longer than `late_after_micros` is late.
    #[must_use]
    pub fn new(peers: Range<u32>, late_after_micros: u64) -> Self {
        Self {
            exchange: Exchange::new(late_after_micros),
            peers,
        }
    }
}

impl Dialogue for HttpDialogue {
    type Request = RequestKind;
    type Writer = RequestWriter;

    const ANNOUNCE: RequestKind = RequestKind::Announce;

    fn sample(writer: &RequestWriter, rng: &mut Rng) -> RequestKind {
        writer.sample(rng)
    }

    fn ask(&mut self, shared: &mut Shared<Self>, kind: RequestKind, due_micros: u64) {
        let peers = self.peers.clone();
        let Shared { writer, rng, .. } = shared;
        let asked = Asked {
            kind,
            item: writer.write(kind, peers, rng, &mut shared.out),
            due_micros,
        };
        self.exchange.sent(asked, &mut shared.tally);
    }

    fn greet(&mut self, _shared: &mut Shared<Self>) {}

    fn is_greeted(&self) -> bool {
        true
    }

    fn receive(
        &mut self,
        shared: &mut Shared<Self>,
        now_micros: u64,
        bytes: &[u8],
    ) -> Result<usize, ProtocolError> {
        self.exchange.receive(now_micros, bytes, &mut shared.tally)
    }

    fn ended(&mut self, shared: &mut Shared<Self>, now_micros: u64) -> bool {
        self.exchange.ended(now_micros, &mut shared.tally) == 0
    }

    fn give_up(&mut self, shared: &mut Shared<Self>) {
        self.exchange.give_up(&mut shared.tally);
    }

    fn waiting(&self) -> usize {
        self.exchange.waiting()
    }

    fn oldest_micros(&self) -> Option<u64> {
        self.exchange.oldest_micros()
    }

    fn stays_open(&self) -> bool {
        self.exchange.stays_open()
    }

    fn may_end(&self) -> bool {
        self.exchange.waiting() == 0
    }

    fn is_settled(&self) -> bool {
        self.exchange.waiting() == 0
    }
}

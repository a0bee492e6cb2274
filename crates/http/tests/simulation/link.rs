//! One connection, seen by its client.

use std::collections::VecDeque;
use std::net::SocketAddr;

use aquatic_http_protocol::{BodySize, ResponseHead};
use aquatic_stream::ConnectionKey;
use aquatic_test_support::wire::{Handshake, Wire};

use super::requests::Request;

pub(crate) struct Link {
    pub(crate) worker: usize,
    pub(crate) id: ConnectionKey,
    pub(crate) peer: SocketAddr,
    pub(crate) wire: Wire,
    /// Requests without an answer so far.
    open: VecDeque<Open>,
    made: usize,
    /// What has come back and is no whole answer yet.
    received: Vec<u8>,
    /// The client sends nothing more after what is unsent.
    pub(crate) is_finished: bool,
    /// The tracker has been told so.
    pub(crate) has_ended: bool,
    /// The tracker has closed its sending half, or all.
    pub(crate) is_closed: bool,
    /// At least one request has been answered.
    pub(crate) has_asked: bool,
    /// When the last whole request was delivered or answered, in seconds.
    pub(crate) active_at: u32,
}

struct Open {
    request: Request,
    /// Where it ends, in bytes.
    end: usize,
    /// The access list that was in force when it was delivered, if it was.
    since: Option<usize>,
}

/// An answer, with the request that it belongs to.
pub(crate) struct Answer {
    pub(crate) request: Request,
    /// The access list that was in force when the request was delivered.
    pub(crate) since: usize,
    pub(crate) head: ResponseHead,
    pub(crate) body: Vec<u8>,
}

impl Link {
    pub(crate) fn new(
        worker: usize,
        id: ConnectionKey,
        peer: SocketAddr,
        wire: Wire,
        now: u32,
    ) -> Self {
        Self {
            worker,
            id,
            peer,
            wire,
            open: VecDeque::new(),
            made: 0,
            received: Vec::new(),
            is_finished: false,
            has_ended: false,
            is_closed: false,
            has_asked: false,
            active_at: now,
        }
    }

    /// Sends a request, as soon as its bytes are [taken](Self::take).
    pub(crate) fn send(&mut self, request: Request) {
        assert!(!self.is_finished);
        self.wire.send(&request.bytes);
        self.made += request.bytes.len();
        self.is_finished |= request.is_last;
        self.open.push_back(Open {
            request,
            end: self.made,
            since: None,
        });
    }

    /// Takes the next bytes to deliver, while this access list and this certificate are in force.
    pub(crate) fn take(&mut self, bytes_max: usize, list: usize, certificate: usize) -> Vec<u8> {
        let bytes = self.wire.take(bytes_max, certificate);
        let delivered = self.wire.delivered();
        for open in self.open.iter_mut().take_while(|it| it.end <= delivered) {
            open.since.get_or_insert(list);
        }
        bytes
    }

    /// Requests that wait for an answer.
    pub(crate) fn open(&self) -> usize {
        self.open.len()
    }

    /// The requests that the tracker has, and has not answered: first the one that it is about.
    /// Each with the access list that was in force when it was delivered.
    pub(crate) fn delivered_open(&self) -> Vec<(Request, usize)> {
        if self.is_closed {
            return Vec::new();
        }
        let delivered = self.open.iter().map_while(|it| Some((it, it.since?)));
        delivered
            .map(|(open, since)| (open.request.clone(), since))
            .collect()
    }

    /// The requests that wait for an answer, whether delivered or not.
    pub(crate) fn requests(&self) -> impl Iterator<Item = &Request> {
        self.open.iter().map(|open| &open.request)
    }

    /// Requests that have no answer, whether delivered or not.
    pub(crate) fn into_open(self) -> impl Iterator<Item = Request> {
        self.open.into_iter().map(|open| open.request)
    }

    /// Takes bytes of the tracker, and gives back the answers that are whole now, and the
    /// handshake. `list` is the access list that is in force.
    pub(crate) fn receive(
        &mut self,
        bytes: &[u8],
        list: usize,
    ) -> (Vec<Answer>, Option<Handshake>) {
        assert!(
            !self.is_closed || bytes.is_empty(),
            "sent after it was closed"
        );
        let (plain, handshake) = self.wire.receive(bytes);
        self.received.extend(plain);
        let mut answers = Vec::new();
        while let Some(head) = ResponseHead::parse(&self.received).expect("an HTTP response") {
            let Open { request, .. } = self.open.front().expect("a request for each answer");
            let body_size = match head.body {
                BodySize::Known(_) if request.omits_body => 0,
                BodySize::Known(size) => size,
                _ if request.is_head_of_announce() => 0,
                _ => panic!("no Content-Length"),
            };
            if self.received.len() < head.size + body_size {
                break;
            }
            let open = self.open.pop_front().expect("as above");
            let Open { request, since, .. } = open;
            assert!(since.is_some() || request.is_last, "an early answer");
            let mut body = self.received.split_off(head.size);
            self.received = body.split_off(body_size);
            answers.push(Answer {
                request,
                since: since.unwrap_or(list),
                head,
                body,
            });
        }
        (answers, handshake)
    }

    /// Nothing is left of an answer.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.open.is_empty() && self.received.is_empty()
    }
}

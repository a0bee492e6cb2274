//! One connection, seen by its client.

use std::collections::VecDeque;
use std::net::SocketAddr;

use aquatic_http_protocol::{BodySize, ResponseHead};
use aquatic_stream::ConnectionId;

use super::requests::Request;

pub(crate) struct Link {
    pub(crate) worker: usize,
    pub(crate) id: ConnectionId,
    pub(crate) peer: SocketAddr,
    /// Not delivered yet.
    unsent: VecDeque<u8>,
    /// Bytes delivered so far.
    delivered: usize,
    /// Requests without an answer so far, with where each ends.
    open: VecDeque<(Request, usize)>,
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

/// An answer, with the request that it belongs to.
pub(crate) struct Answer {
    pub(crate) request: Request,
    pub(crate) head: ResponseHead,
    pub(crate) body: Vec<u8>,
}

impl Link {
    pub(crate) fn new(worker: usize, id: ConnectionId, peer: SocketAddr, now: u32) -> Self {
        Self {
            worker,
            id,
            peer,
            unsent: VecDeque::new(),
            delivered: 0,
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

    /// Sends a request, as soon as its bytes are [taken](Self::chunk).
    pub(crate) fn send(&mut self, request: Request) {
        assert!(!self.is_finished);
        self.unsent.extend(&request.bytes);
        self.made += request.bytes.len();
        self.is_finished |= request.is_last;
        self.open.push_back((request, self.made));
    }

    /// Takes the next bytes to deliver.
    pub(crate) fn chunk(&mut self, bytes_max: usize) -> Vec<u8> {
        let size = self.unsent.len().min(bytes_max);
        self.delivered += size;
        self.unsent.drain(..size).collect()
    }

    pub(crate) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Requests that wait for an answer.
    pub(crate) fn open(&self) -> usize {
        self.open.len()
    }

    /// The requests that the tracker has, and has not answered: first the one that it is about.
    pub(crate) fn delivered_open(&self) -> Vec<Request> {
        if self.is_closed {
            return Vec::new();
        }
        let open = self.open.iter();
        let delivered = open.take_while(|(_, end)| *end <= self.delivered);
        delivered.map(|(request, _)| request.clone()).collect()
    }

    /// Requests that have no answer, whether delivered or not.
    pub(crate) fn into_open(self) -> impl Iterator<Item = Request> {
        self.open.into_iter().map(|(request, _)| request)
    }

    /// Takes bytes of the tracker, and gives back the answers that are whole now.
    pub(crate) fn receive(&mut self, bytes: &[u8]) -> Vec<Answer> {
        assert!(
            !self.is_closed || bytes.is_empty(),
            "sent after it was closed"
        );
        self.received.extend_from_slice(bytes);
        let mut answers = Vec::new();
        while let Some(head) = ResponseHead::parse(&self.received).expect("an HTTP response") {
            let (request, _) = self.open.front().expect("a request for each answer");
            let body_size = match head.body {
                BodySize::Known(_) if request.omits_body => 0,
                BodySize::Known(size) => size,
                _ if request.is_head_of_announce() => 0,
                _ => panic!("no Content-Length"),
            };
            if self.received.len() < head.size + body_size {
                break;
            }
            let (request, end) = self.open.pop_front().expect("as above");
            assert!(end <= self.delivered || request.is_last, "an early answer");
            let mut body = self.received.split_off(head.size);
            self.received = body.split_off(body_size);
            answers.push(Answer {
                request,
                head,
                body,
            });
        }
        answers
    }

    /// Nothing is left of an answer.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.open.is_empty() && self.received.is_empty()
    }
}

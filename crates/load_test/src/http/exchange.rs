//! What is asked and answered on one connection: answers come in the order of their requests. No
//! I/O, no clock.

use std::collections::VecDeque;
use std::mem;

use aquatic_http_protocol::{BodySize, Response, ResponseError, ResponseHead};

use crate::http::kinds::{Asked, RequestKind, Tally};
use crate::stream::{Fault, ProtocolError};

/// Requests that wait for their answers, and the bytes of an answer that is not whole yet.
#[derive(Debug)]
pub struct Exchange {
    waiting: VecDeque<Asked>,
    /// What has come of the next answer.
    input: Vec<u8>,
    late_after_micros: u64,
    stays_open: bool,
}

impl Exchange {
    /// An answer that takes longer than `late_after_micros` is late.
    #[must_use]
    pub fn new(late_after_micros: u64) -> Self {
        Self {
            waiting: VecDeque::new(),
            input: Vec::new(),
            late_after_micros,
            stays_open: true,
        }
    }

    /// How many requests wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// When the oldest request that waits was due, in microseconds.
    #[must_use]
    pub fn oldest_micros(&self) -> Option<u64> {
        self.waiting.front().map(|asked| asked.due_micros)
    }

    /// Whether another request may be sent: the last answer did not say that it is the last.
    #[must_use]
    pub fn stays_open(&self) -> bool {
        self.stays_open
    }

    /// Notes a request that is being sent.
    pub fn sent(&mut self, asked: Asked, tally: &mut Tally) {
        tally.sent(&asked);
        self.waiting.push_back(asked);
    }

    /// Judges what has come. Gives back how many answers were complete.
    ///
    /// # Errors
    /// If it is no answer. The connection is of no more use.
    pub fn receive(
        &mut self,
        now_micros: u64,
        bytes: &[u8],
        tally: &mut Tally,
    ) -> Result<usize, ProtocolError> {
        if self.input.is_empty() {
            // By far the most common: whole answers, which need not be copied.
            let (answers, taken) = self.take_answers(now_micros, bytes, tally)?;
            self.input.extend_from_slice(&bytes[taken..]);
            return Ok(answers);
        }
        let mut input = mem::take(&mut self.input);
        input.extend_from_slice(bytes);
        let (answers, taken) = self.take_answers(now_micros, &input, tally)?;
        input.drain(..taken);
        self.input = input;
        Ok(answers)
    }

    /// The tracker has closed the connection: an answer without a size ends here, and what is not
    /// answered by now is lost. Gives back how many were.
    pub fn ended(&mut self, now_micros: u64, tally: &mut Tally) -> usize {
        let input = mem::take(&mut self.input);
        if let Ok(Some(head)) = ResponseHead::parse(&input)
            && head.body == BodySize::UntilClose
            && let Some(asked) = self.waiting.pop_front()
        {
            self.judge(&asked, now_micros, head.status, &input[head.size..], tally);
        }
        self.give_up(tally)
    }

    /// What is not answered is lost; the next connection may begin. Gives back how many were.
    pub fn give_up(&mut self, tally: &mut Tally) -> usize {
        let lost = self.waiting.len();
        for asked in self.waiting.drain(..) {
            tally.lost(&asked);
        }
        self.input = Vec::new();
        self.stays_open = true;
        lost
    }

    /// How many answers there were, and how many bytes they took.
    fn take_answers(
        &mut self,
        now_micros: u64,
        bytes: &[u8],
        tally: &mut Tally,
    ) -> Result<(usize, usize), ProtocolError> {
        let (mut answers, mut taken) = (0, 0);
        while taken < bytes.len() {
            let rest = &bytes[taken..];
            let protocol_error = |tally: &mut Tally| {
                tally.error(Fault::Malformed, now_micros);
                ProtocolError
            };
            let Some(asked) = self.waiting.front().copied() else {
                return Err(protocol_error(tally));
            };
            let head = match ResponseHead::parse(rest) {
                Ok(Some(head)) => head,
                Ok(None) => break,
                Err(_) => return Err(protocol_error(tally)),
            };
            self.stays_open = head.stays_open;
            let body_bytes = match head.body {
                BodySize::Known(bytes) => bytes,
                BodySize::UntilClose => break,
                // No tracker is known that does this.
                BodySize::Chunked => return Err(protocol_error(tally)),
            };
            let Some(body) = rest[head.size..].get(..body_bytes) else {
                break;
            };
            self.waiting.pop_front();
            self.judge(&asked, now_micros, head.status, body, tally);
            answers += 1;
            taken += head.size + body_bytes;
        }
        Ok((answers, taken))
    }

    fn judge(&self, asked: &Asked, now_micros: u64, status: u16, body: &[u8], tally: &mut Tally) {
        if status != 200 {
            tally.refused(
                asked,
                now_micros,
                format!("HTTP status {status}").as_bytes(),
            );
            return;
        }
        let fault = match (asked.kind, Response::parse(body)) {
            (_, Ok(Response::Failure(failure))) => {
                tally.refused(asked, now_micros, failure.reason);
                return;
            }
            (RequestKind::Announce, Ok(Response::Announce(announce))) => {
                let peers = announce.peers.v4.len() / 6 + announce.peers.v6.len() / 18;
                tally.got_peers(asked, peers);
                (peers > index(asked.item)).then_some(Fault::WrongCount)
            }
            (RequestKind::Scrape, Ok(Response::Scrape(scrape))) => {
                (scrape.files().len() != index(asked.item)).then_some(Fault::WrongCount)
            }
            // An answer to something else is no answer.
            (_, response) => {
                tally.lost(asked);
                let fault = match response {
                    Err(ResponseError::Bencode | ResponseError::Head) => Fault::Malformed,
                    _ => Fault::WrongKind,
                };
                tally.error(fault, now_micros);
                return;
            }
        };
        let latency_micros = now_micros.saturating_sub(asked.due_micros);
        tally.answered(asked, now_micros, latency_micros > self.late_after_micros);
        if let Some(fault) = fault {
            tally.error(fault, now_micros);
        }
    }
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally() -> Tally {
        Tally::new(0..1_000_000)
    }

    fn announce(due_micros: u64) -> Asked {
        Asked {
            kind: RequestKind::Announce,
            item: 2,
            due_micros,
        }
    }

    fn scrape(due_micros: u64) -> Asked {
        Asked {
            kind: RequestKind::Scrape,
            item: 1,
            due_micros,
        }
    }

    fn answer(status: u16, body: &str) -> Vec<u8> {
        let length = body.len();
        format!("HTTP/1.1 {status} Words\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
    }

    fn peers(number: usize) -> Vec<u8> {
        let rows = "abcdef".repeat(number);
        answer(
            200,
            &format!("d8:intervali120e5:peers{}:{rows}e", rows.len()),
        )
    }

    const FILES: &str = "d5:filesd20:aaaaaaaaaaaaaaaaaaaad8:completei1eeee";

    #[test]
    fn answers_come_in_pieces_and_together() {
        let stream = [peers(2), answer(200, FILES), peers(1)].concat();
        for piece in 1..=stream.len() {
            let (mut exchange, mut tally) = (Exchange::new(100), tally());
            exchange.sent(announce(10), &mut tally);
            exchange.sent(scrape(20), &mut tally);
            exchange.sent(announce(30), &mut tally);
            let answers: usize = stream
                .chunks(piece)
                .map(|bytes| exchange.receive(120, bytes, &mut tally).unwrap())
                .sum();
            assert_eq!((answers, exchange.waiting()), (3, 0), "{piece} bytes");
            let kind = tally.kind(RequestKind::Announce);
            assert_eq!((kind.late, kind.answered), (1, 1));
            assert_eq!(tally.kind(RequestKind::Scrape).answered, 1);
            assert_eq!(tally.peers, 3);
            assert_eq!(tally.errors(Fault::WrongCount), 0);
            assert!(exchange.stays_open());
        }
    }

    #[test]
    fn refusals_keep_their_words() {
        let (mut exchange, mut tally) = (Exchange::new(100), tally());
        exchange.sent(announce(10), &mut tally);
        exchange.sent(announce(20), &mut tally);
        let refusal = answer(200, "d14:failure reason9:not todaye");
        exchange.receive(30, &refusal, &mut tally).unwrap();
        exchange
            .receive(30, &answer(404, "Not Found"), &mut tally)
            .unwrap();
        assert_eq!(tally.kind(RequestKind::Announce).refused, 2);
        assert_eq!(tally.messages["not today"], 1);
        assert_eq!(tally.messages["HTTP status 404"], 1);
    }

    #[test]
    fn wrong_answers_are_counted() {
        let (mut exchange, mut tally) = (Exchange::new(100), tally());
        for _ in 0..4 {
            exchange.sent(announce(10), &mut tally);
        }
        for bytes in [peers(3), answer(200, FILES), answer(200, "words"), peers(0)] {
            assert_eq!(exchange.receive(20, &bytes, &mut tally), Ok(1));
        }
        for fault in [Fault::WrongCount, Fault::WrongKind, Fault::Malformed] {
            assert_eq!(tally.errors(fault), 1, "{fault:?}");
        }
        let kind = tally.kind(RequestKind::Announce);
        assert_eq!((kind.answered, kind.lost), (2, 2));
    }

    #[test]
    fn garbage_ends_the_connection() {
        for bytes in [
            &b"\0\0garbage\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        ] {
            let (mut exchange, mut tally) = (Exchange::new(100), tally());
            exchange.sent(announce(10), &mut tally);
            assert_eq!(exchange.receive(20, bytes, &mut tally), Err(ProtocolError));
            assert_eq!(exchange.give_up(&mut tally), 1);
            assert_eq!(tally.errors(Fault::Malformed), 1);
            assert_eq!(tally.kind(RequestKind::Announce).lost, 1);
        }
        // An answer that nobody asked for.
        let (mut exchange, mut tally) = (Exchange::new(100), tally());
        assert_eq!(
            exchange.receive(20, &peers(1), &mut tally),
            Err(ProtocolError)
        );
    }

    #[test]
    fn a_body_may_end_with_the_connection() {
        let (mut exchange, mut tally) = (Exchange::new(100), tally());
        exchange.sent(announce(10), &mut tally);
        exchange.sent(announce(20), &mut tally);
        let bytes = b"HTTP/1.0 200 OK\r\n\r\nd8:intervali120e5:peers0:e";
        assert_eq!(exchange.receive(30, bytes, &mut tally), Ok(0));
        assert!(!exchange.stays_open());
        assert_eq!(exchange.ended(40, &mut tally), 1, "one was not answered");
        let kind = tally.kind(RequestKind::Announce);
        assert_eq!((kind.answered, kind.lost), (1, 1));
        assert!(exchange.stays_open(), "the next connection may be used");
    }
}

//! A client that speaks HTTP for some of the peers: answers come in the order of their requests. No
//! I/O, no clock.

use std::collections::VecDeque;
use std::mem;
use std::ops::Range;

use aquatic_http_protocol::{BodySize, Response, ResponseError, ResponseHead};

use crate::core::kind::{Fault, RequestKind};
use crate::core::tally::{Asked, Tally};
use crate::http::requests::RequestWriter;
use crate::stream::{Dialogue, ProtocolError, Shared, take_whole};

/// Requests that wait for their answers, and the bytes of an answer that is not whole yet.
#[derive(Debug)]
pub struct HttpDialogue {
    /// Numbers of the peers that it speaks for: a peer's address must not change.
    peers: Range<u32>,
    /// The `item` of each is the number of entries that its answer should have, or for announces
    /// may have.
    waiting: VecDeque<Asked>,
    /// What has come of the next answer.
    input: Vec<u8>,
    stays_open: bool,
}

impl HttpDialogue {
    /// Speaks for these peers.
    #[must_use]
    pub fn new(peers: Range<u32>) -> Self {
        Self {
            peers,
            waiting: VecDeque::new(),
            input: Vec::new(),
            stays_open: true,
        }
    }

    /// Notes a request that is being sent.
    fn sent(&mut self, asked: Asked, tally: &mut Tally) {
        tally.sent(&asked);
        self.waiting.push_back(asked);
    }

    /// How many bytes the whole answers took.
    fn take_answers(
        &mut self,
        now_micros: u64,
        bytes: &[u8],
        tally: &mut Tally,
    ) -> Result<usize, ProtocolError> {
        let mut taken = 0;
        while taken < bytes.len() {
            let rest = &bytes[taken..];
            let asked = self.waiting.front().copied().ok_or(ProtocolError)?;
            let Some(head) = ResponseHead::parse(rest).map_err(|_| ProtocolError)? else {
                break;
            };
            self.stays_open = head.stays_open;
            let body_bytes = match head.body {
                BodySize::Known(bytes) => bytes,
                BodySize::UntilClose => break,
                // No tracker is known that does this.
                BodySize::Chunked => return Err(ProtocolError),
            };
            let Some(body) = rest[head.size..].get(..body_bytes) else {
                break;
            };
            self.waiting.pop_front();
            judge(&asked, now_micros, head.status, body, tally);
            taken += head.size + body_bytes;
        }
        Ok(taken)
    }
}

/// Judges an answer.
fn judge(asked: &Asked, now_micros: u64, status: u16, body: &[u8], tally: &mut Tally) {
    if status != 200 {
        let message = format!("HTTP status {status}");
        tally.refused(asked, now_micros, message.as_bytes());
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
    tally.answered(asked, now_micros);
    if let Some(fault) = fault {
        tally.error(fault, now_micros);
    }
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

impl Dialogue for HttpDialogue {
    type Writer = RequestWriter;

    const IS_PUSHED: bool = false;

    fn ask(&mut self, shared: &mut Shared<Self>, kind: RequestKind, due_micros: u64) {
        let peers = self.peers.clone();
        let item = shared
            .writer
            .write(kind, peers, &mut shared.rng, &mut shared.out);
        let asked = Asked {
            kind,
            item,
            due_micros,
        };
        self.sent(asked, &mut shared.tally);
    }

    fn receive(
        &mut self,
        shared: &mut Shared<Self>,
        now_micros: u64,
        bytes: &[u8],
    ) -> Result<usize, ProtocolError> {
        let waiting_before = self.waiting.len();
        let mut input = mem::take(&mut self.input);
        let tally = &mut shared.tally;
        take_whole(&mut input, bytes, |bytes| {
            self.take_answers(now_micros, bytes, tally)
        })
        .inspect_err(|_| shared.tally.error(Fault::Malformed, now_micros))?;
        self.input = input;
        Ok(waiting_before - self.waiting.len())
    }

    /// An answer without a size ends here.
    fn ended(&mut self, shared: &mut Shared<Self>, now_micros: u64) {
        let input = mem::take(&mut self.input);
        if let Ok(Some(head)) = ResponseHead::parse(&input)
            && head.body == BodySize::UntilClose
            && let Some(asked) = self.waiting.pop_front()
        {
            let body = &input[head.size..];
            judge(&asked, now_micros, head.status, body, &mut shared.tally);
        }
    }

    fn give_up(&mut self, shared: &mut Shared<Self>) {
        for asked in self.waiting.drain(..) {
            shared.tally.lost(&asked);
        }
        self.input = Vec::new();
        self.stays_open = true;
    }

    fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn oldest_micros(&self) -> Option<u64> {
        self.waiting.front().map(|asked| asked.due_micros)
    }

    fn stays_open(&self) -> bool {
        self.stays_open
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use fastrand::Rng;

    use crate::core::kind::Mix;
    use crate::core::population::Population;
    use crate::http::config::LoadTestConfig;

    use super::*;

    fn begin() -> (HttpDialogue, Shared<HttpDialogue>) {
        let mut config = LoadTestConfig::default();
        config.requests.population.number_of_peers = 1;
        config.requests.population.number_of_torrents = 1;
        let population = Population::new(&config.requests.population, 1);
        let shared = Shared {
            writer: RequestWriter::new(&config, Arc::new(population)),
            mix: Mix::new(&[]),
            rng: Rng::with_seed(1),
            tally: Tally::new(0..1_000_000, 100),
            out: Vec::new(),
        };
        (HttpDialogue::new(0..1), shared)
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
            let (mut dialogue, mut shared) = begin();
            dialogue.sent(announce(10), &mut shared.tally);
            dialogue.sent(scrape(20), &mut shared.tally);
            dialogue.sent(announce(30), &mut shared.tally);
            let answers: usize = stream
                .chunks(piece)
                .map(|bytes| dialogue.receive(&mut shared, 120, bytes).unwrap())
                .sum();
            assert_eq!((answers, dialogue.waiting()), (3, 0), "{piece} bytes");
            let kind = shared.tally.kind(RequestKind::Announce);
            assert_eq!((kind.late, kind.answered), (1, 1));
            assert_eq!(shared.tally.kind(RequestKind::Scrape).answered, 1);
            assert_eq!(shared.tally.peers, 3);
            assert_eq!(shared.tally.errors(Fault::WrongCount), 0);
            assert!(dialogue.stays_open());
        }
    }

    #[test]
    fn refusals_keep_their_words() {
        let (mut dialogue, mut shared) = begin();
        dialogue.sent(announce(10), &mut shared.tally);
        dialogue.sent(announce(20), &mut shared.tally);
        let refusal = answer(200, "d14:failure reason9:not todaye");
        dialogue.receive(&mut shared, 30, &refusal).unwrap();
        dialogue
            .receive(&mut shared, 30, &answer(404, "Not Found"))
            .unwrap();
        assert_eq!(shared.tally.kind(RequestKind::Announce).refused, 2);
        assert_eq!(shared.tally.messages["not today"], 1);
        assert_eq!(shared.tally.messages["HTTP status 404"], 1);
    }

    #[test]
    fn wrong_answers_are_counted() {
        let (mut dialogue, mut shared) = begin();
        for _ in 0..4 {
            dialogue.sent(announce(10), &mut shared.tally);
        }
        for bytes in [peers(3), answer(200, FILES), answer(200, "words"), peers(0)] {
            assert_eq!(dialogue.receive(&mut shared, 20, &bytes), Ok(1));
        }
        for fault in [Fault::WrongCount, Fault::WrongKind, Fault::Malformed] {
            assert_eq!(shared.tally.errors(fault), 1, "{fault:?}");
        }
        let kind = shared.tally.kind(RequestKind::Announce);
        assert_eq!((kind.answered, kind.lost), (2, 2));
    }

    #[test]
    fn garbage_ends_the_connection() {
        for bytes in [
            &b"\0\0garbage\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        ] {
            let (mut dialogue, mut shared) = begin();
            dialogue.sent(announce(10), &mut shared.tally);
            assert_eq!(dialogue.receive(&mut shared, 20, bytes), Err(ProtocolError));
            assert_eq!(dialogue.waiting(), 1);
            dialogue.give_up(&mut shared);
            assert_eq!(shared.tally.errors(Fault::Malformed), 1);
            assert_eq!(shared.tally.kind(RequestKind::Announce).lost, 1);
        }
        // An answer that nobody asked for.
        let (mut dialogue, mut shared) = begin();
        assert_eq!(
            dialogue.receive(&mut shared, 20, &peers(1)),
            Err(ProtocolError)
        );
    }

    #[test]
    fn a_body_may_end_with_the_connection() {
        let (mut dialogue, mut shared) = begin();
        dialogue.sent(announce(10), &mut shared.tally);
        dialogue.sent(announce(20), &mut shared.tally);
        let bytes = b"HTTP/1.0 200 OK\r\n\r\nd8:intervali120e5:peers0:e";
        assert_eq!(dialogue.receive(&mut shared, 30, bytes), Ok(0));
        assert!(!dialogue.stays_open());
        dialogue.ended(&mut shared, 40);
        assert_eq!(dialogue.waiting(), 1, "one was not answered");
        dialogue.give_up(&mut shared);
        let kind = shared.tally.kind(RequestKind::Announce);
        assert_eq!((kind.answered, kind.lost), (1, 1));
        assert!(dialogue.stays_open(), "the next connection may be used");
    }
}

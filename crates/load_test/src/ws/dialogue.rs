//! A browser: it announces, offers connections, and answers the offers that reach it. Pure.

use std::mem;

use aquatic_types::{InfoHash, PeerId};
use aquatic_ws_protocol::{
    AnnounceResponse, FailureResponse, ForwardedAnswer, ForwardedOffer, Response, ScrapeResponse,
};
use tungstenite::handshake::client::generate_key;
use tungstenite::handshake::derive_accept_key;

use crate::core::kind::{Fault, RequestKind};
use crate::core::population::{Peer, peer_id};
use crate::core::tally::{Asked, Tally};
use crate::stream::{Dialogue, ProtocolError, Shared};
use crate::ws::frames::{Event, FrameReader};
use crate::ws::writer::{MessageWriter, OfferName, write_pong};

/// Header lines of the tracker's answer to the request that becomes a WebSocket, at most.
const HEADERS_MAX: usize = 64;

/// Bytes of that answer, at most.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// A browser, on one connection after the other.
#[derive(Debug)]
pub struct Browser {
    number: u32,
    peer_id: PeerId,
    /// The swarms that it takes part in.
    members: Vec<Peer>,
    /// How many offers it has made.
    offers: u32,
    /// When it has last answered one.
    answered_micros: Option<u64>,
    state: State,
    waiting: Option<Waiting>,
}

/// How far the connection has come.
#[derive(Debug)]
enum State {
    /// The request that becomes a WebSocket is not sent.
    Closed,
    /// It is sent. What has come of the answer.
    Upgrading { accept_key: String, head: Vec<u8> },
    /// It is a WebSocket.
    Open(FrameReader),
}

/// The request that waits.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    /// Its `item` is the number of torrents that a scrape is about.
    asked: Asked,
    /// The torrent of an announce.
    info_hash: Option<InfoHash>,
}

impl Browser {
    /// The browser of a number, which takes part in these swarms.
    #[must_use]
    pub fn new(number: u32, mut members: Vec<Peer>) -> Self {
        // In each swarm once, so that it does not become a seeder and a leecher by turns.
        members.sort_unstable_by_key(|member| member.torrent);
        members.dedup_by_key(|member| member.torrent);
        Self {
            number,
            peer_id: peer_id(number),
            members,
            offers: 0,
            answered_micros: None,
            state: State::Closed,
            waiting: None,
        }
    }

    /// Gives back how many requests were answered.
    fn receive_frames(
        &mut self,
        shared: &mut Shared<Self>,
        now_micros: u64,
        bytes: &[u8],
    ) -> Result<usize, ProtocolError> {
        let State::Open(frames) = &mut self.state else {
            return Ok(0);
        };
        let was_waiting = self.waiting.is_some();
        let mut frames = mem::take(frames);
        let read = frames.read(bytes, |event| {
            match event {
                Event::Message(message) => {
                    let response = Response::parse(message).map_err(|_| ProtocolError)?;
                    self.judge(&response, now_micros, shared);
                }
                Event::Ping(payload) => write_pong(payload, &mut shared.rng, &mut shared.out),
                // The end of the connection follows.
                Event::Close => {}
            }
            Ok(())
        });
        read.inspect_err(|_| shared.tally.error(Fault::Malformed, now_micros))?;
        self.state = State::Open(frames);
        Ok(usize::from(was_waiting && self.waiting.is_none()))
    }

    fn receive_head(
        &mut self,
        shared: &mut Shared<Self>,
        now_micros: u64,
        bytes: &[u8],
    ) -> Result<usize, ProtocolError> {
        let State::Upgrading { accept_key, head } = &mut self.state else {
            return Err(ProtocolError);
        };
        head.extend_from_slice(bytes);
        match upgraded(head, accept_key)? {
            None => Ok(0),
            Some(size) => {
                let rest = head.split_off(size);
                self.state = State::Open(FrameReader::default());
                self.receive_frames(shared, now_micros, &rest)
            }
        }
    }

    fn judge(&mut self, response: &Response<'_>, now_micros: u64, shared: &mut Shared<Self>) {
        let tally = &mut shared.tally;
        match response {
            Response::Offer(offer) => self.offered(offer, now_micros, shared),
            Response::Answer(answer) => self.answered(answer, now_micros, tally),
            Response::Announce(reply) => self.announced(reply, now_micros, tally),
            Response::Scrape(reply) => self.scraped(reply, now_micros, tally),
            Response::Failure(failure) => self.refused(failure, now_micros, tally),
        }
    }

    fn announced(&mut self, reply: &AnnounceResponse<'_>, now_micros: u64, tally: &mut Tally) {
        let is_about = |waiting: &mut Waiting| waiting.info_hash == Some(reply.info_hash);
        if let Some(Waiting { asked, .. }) = self.waiting.take_if(is_about) {
            tally.answered(&asked, now_micros);
        } else if let Some(due_micros) = self.answered_micros {
            let asked = Asked::new(RequestKind::AnswerReply, due_micros);
            tally.sent(&asked);
            tally.answered(&asked, now_micros);
        } else {
            tally.error(Fault::WrongKind, now_micros);
        }
    }

    fn scraped(&mut self, reply: &ScrapeResponse<'_>, now_micros: u64, tally: &mut Tally) {
        let is_scrape = |waiting: &mut Waiting| waiting.asked.kind == RequestKind::Scrape;
        let Some(Waiting { asked, .. }) = self.waiting.take_if(is_scrape) else {
            tally.error(Fault::WrongKind, now_micros);
            return;
        };
        tally.answered(&asked, now_micros);
        if u32::try_from(reply.files().len()) != Ok(asked.item) {
            tally.error(Fault::WrongCount, now_micros);
        }
    }

    /// Another browser offers a connection, and gets an answer.
    fn offered(&mut self, offer: &ForwardedOffer<'_>, now_micros: u64, shared: &mut Shared<Self>) {
        let (writer, tally) = (&shared.writer, &mut shared.tally);
        let name = OfferName::from_id(offer.offer_id);
        let Some(name) = name.filter(|name| name.client != self.number) else {
            tally.error(Fault::WrongKind, now_micros);
            return;
        };
        let asked = Asked::new(RequestKind::Offer, name.due_micros);
        tally.sent(&asked);
        tally.answered(&asked, now_micros);
        tally.sent(&Asked::new(RequestKind::Answer, name.due_micros));
        writer.answer(self.peer_id, offer, &mut shared.rng, &mut shared.out);
        self.answered_micros = Some(now_micros);
    }

    /// Another browser has answered an offer.
    fn answered(&self, answer: &ForwardedAnswer<'_>, now_micros: u64, tally: &mut Tally) {
        let name = OfferName::from_id(answer.offer_id);
        match name.filter(|name| name.client == self.number) {
            Some(name) => {
                tally.answered(
                    &Asked::new(RequestKind::Answer, name.due_micros),
                    now_micros,
                );
            }
            None => tally.error(Fault::WrongKind, now_micros),
        }
    }

    /// A refusal belongs to what waits, unless it names another torrent: then it is about an
    /// answer, of which nothing was kept.
    fn refused(&mut self, failure: &FailureResponse<'_>, now_micros: u64, tally: &mut Tally) {
        let is_about = |waiting: &mut Waiting| {
            failure.info_hash.is_none() || waiting.info_hash == failure.info_hash
        };
        let asked = match self.waiting.take_if(is_about) {
            Some(Waiting { asked, .. }) => asked,
            None => Asked::new(RequestKind::Answer, now_micros),
        };
        tally.refused(&asked, now_micros, failure.reason.as_bytes());
    }
}

/// How many bytes the answer takes that makes the connection a WebSocket, if it is whole.
fn upgraded(head: &[u8], accept_key: &str) -> Result<Option<usize>, ProtocolError> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(head) {
        Ok(httparse::Status::Complete(size)) => {
            let is_accepted = response.headers.iter().any(|header| {
                let is_key = header.name.eq_ignore_ascii_case("Sec-WebSocket-Accept");
                is_key && header.value == accept_key.as_bytes()
            });
            if response.code == Some(101) && is_accepted {
                return Ok(Some(size));
            }
            log::warn!(
                "the tracker refuses to speak WebSocket: HTTP status {}",
                response.code.unwrap_or(0)
            );
            Err(ProtocolError)
        }
        Ok(httparse::Status::Partial) if head.len() <= HEAD_BYTES_MAX => Ok(None),
        _ => {
            log::warn!("the tracker does not speak HTTP");
            Err(ProtocolError)
        }
    }
}

impl Dialogue for Browser {
    type Writer = MessageWriter;

    /// An offer or an answer may be on its way.
    const IS_PUSHED: bool = true;

    fn ask(&mut self, shared: &mut Shared<Self>, kind: RequestKind, due_micros: u64) {
        let (writer, rng, out) = (&mut shared.writer, &mut shared.rng, &mut shared.out);
        let mut asked = Asked::new(kind, due_micros);
        let mut info_hash = None;
        if kind == RequestKind::Scrape {
            asked.item = writer.scrape(rng, out);
        } else {
            let name = OfferName {
                client: self.number,
                number: self.offers,
                due_micros,
            };
            let member = self.members[rng.usize(..self.members.len())];
            let (torrent, offers) = writer.announce(self.peer_id, member, name, rng, out);
            info_hash = Some(torrent);
            self.offers = self.offers.wrapping_add(offers.into());
        }
        shared.tally.sent(&asked);
        self.waiting = Some(Waiting { asked, info_hash });
    }

    fn greet(&mut self, shared: &mut Shared<Self>) {
        let key = generate_key();
        shared.writer.upgrade(&key, &mut shared.out);
        self.state = State::Upgrading {
            accept_key: derive_accept_key(key.as_bytes()),
            head: Vec::new(),
        };
    }

    fn is_greeted(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    fn receive(
        &mut self,
        shared: &mut Shared<Self>,
        now_micros: u64,
        bytes: &[u8],
    ) -> Result<usize, ProtocolError> {
        match &self.state {
            State::Open(_) => self.receive_frames(shared, now_micros, bytes),
            _ => self.receive_head(shared, now_micros, bytes),
        }
    }

    fn give_up(&mut self, shared: &mut Shared<Self>) {
        if let Some(Waiting { asked, .. }) = self.waiting.take() {
            shared.tally.lost(&asked);
        }
        self.state = State::Closed;
    }

    fn waiting(&self) -> usize {
        usize::from(self.waiting.is_some())
    }

    fn oldest_micros(&self) -> Option<u64> {
        self.waiting.map(|waiting| waiting.asked.due_micros)
    }
}

//! A tracker that misbehaves by plan and keeps book of it. It speaks WebSocket by way of another
//! implementation than the tester does.

use std::collections::{HashMap, HashSet};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use aquatic_daemon::clock::Clock;
use aquatic_test_support::load_test::FakeTracker;
use aquatic_test_support::load_test::fake_tracker::{listen, self_signed_tls};
use aquatic_types::{InfoHash, PeerId};
use aquatic_ws_protocol::{
    Action, AnnounceRequest, AnnounceResponse, AnswerRequest, FailureResponse, ForwardedAnswer,
    ForwardedOffer, Message, Request, ScrapeFile, ScrapeRequest, ScrapeResponse,
};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tungstenite::handshake::server::{ErrorResponse, Request as Upgrade, Response as Upgraded};
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::{WebSocket, accept_hdr};

/// Every so many announces; 0: never.
#[derive(Clone, Copy, Default)]
pub(crate) struct Plan {
    pub(crate) delay: u64,
    pub(crate) refuse: u64,
    /// Close the connection instead of answering.
    pub(crate) close: u64,
    /// Never answer.
    pub(crate) hang: u64,
    /// Answer with the wrong kind.
    pub(crate) confuse: u64,
    /// Answer with a message that is not JSON.
    pub(crate) garble: u64,
    /// Ping before the answer, and send that in two frames.
    pub(crate) ping: u64,
    /// Pass no answer on: every so many answers.
    pub(crate) lose_answer: u64,
    /// Refuse an answer: every so many answers.
    pub(crate) refuse_answer: u64,
    /// Reply to each answer.
    pub(crate) reply_to_answers: bool,
    /// Refuse every so many connections.
    pub(crate) forbid: u64,
    pub(crate) tls: bool,
}

/// Longer than `answers.late_after_ms`, and by far shorter than `answers.lost_after_ms`.
pub(crate) const DELAY: Duration = Duration::from_millis(1500);

#[derive(Default)]
pub(crate) struct Book {
    pub(crate) connections: u64,
    pub(crate) forbidden: u64,
    pub(crate) announces: u64,
    pub(crate) scrapes: u64,
    pub(crate) offers: u64,
    pub(crate) answers: u64,
    pub(crate) delayed: u64,
    pub(crate) refused: u64,
    pub(crate) closed: u64,
    pub(crate) hung: u64,
    pub(crate) confused: u64,
    pub(crate) garbled: u64,
    pub(crate) pings: u64,
    pub(crate) pongs: u64,
    pub(crate) lost_answers: u64,
    pub(crate) refused_answers: u64,
    pub(crate) clients: HashSet<IpAddr>,
}

/// A tracker with or without TLS.
pub(crate) fn start(address: &str, plan: Plan) -> FakeTracker<Book> {
    let listener = listen(address);
    let tls = plan.tls.then(self_signed_tls);
    let address = listener.local_addr().unwrap();
    FakeTracker::start(address, move |should_stop| {
        let mut tracker = Tracker::new(plan);
        let (opened, newcomers) = mpsc::channel();
        while !should_stop.load(Ordering::Relaxed) {
            while let Ok((stream, from)) = listener.accept() {
                let (opened, tls) = (opened.clone(), tls.clone());
                let number = tracker.next_number();
                // Handshakes take a while.
                thread::spawn(move || opened.send(open(stream, from, tls, number, plan)));
            }
            while let Ok(newcomer) = newcomers.try_recv() {
                tracker.enter(newcomer);
            }
            if !tracker.turn() {
                thread::sleep(Duration::from_millis(1));
            }
        }
        tracker.book
    })
}

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

struct Tracker {
    plan: Plan,
    book: Book,
    clock: Clock,
    sockets: HashMap<u64, WebSocket<Box<dyn Stream>>>,
    swarms: HashMap<InfoHash, Vec<(PeerId, u64)>>,
    /// When to send what to whom.
    later: Vec<(Duration, u64, Vec<u8>)>,
    accepted: u64,
}

/// Who has come.
enum Newcomer {
    Client(u64, SocketAddr, Box<WebSocket<Box<dyn Stream>>>),
    /// Has been refused.
    Forbidden,
    /// Has gone at once: the tester looks once whether anybody is there.
    Visitor,
}

fn open(
    stream: TcpStream,
    from: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    number: u64,
    plan: Plan,
) -> Newcomer {
    stream.set_nonblocking(false).unwrap();
    stream.set_nodelay(true).unwrap();
    let own = stream.try_clone().unwrap();
    let stream: Box<dyn Stream> = match tls {
        None => Box::new(stream),
        Some(config) => {
            let connection = ServerConnection::new(config).unwrap();
            Box::new(StreamOwned::new(connection, stream))
        }
    };
    let is_forbidden = number.checked_rem(plan.forbid) == Some(0);
    #[expect(clippy::result_large_err, reason = "the library wants it so")]
    let decide = |request: &Upgrade, response: Upgraded| {
        assert_eq!(request.uri().path(), "/announce");
        assert_eq!(request.headers()["Origin"], "https://webtorrent.example");
        if is_forbidden {
            let mut forbidden = ErrorResponse::new(None);
            *forbidden.status_mut() = tungstenite::http::StatusCode::FORBIDDEN;
            return Err(forbidden);
        }
        Ok(response)
    };
    match accept_hdr(stream, decide) {
        Ok(socket) => {
            own.set_nonblocking(true).unwrap();
            Newcomer::Client(number, from, Box::new(socket))
        }
        Err(_) if is_forbidden => Newcomer::Forbidden,
        Err(_) => Newcomer::Visitor,
    }
}

impl Tracker {
    fn new(plan: Plan) -> Self {
        Self {
            plan,
            book: Book::default(),
            clock: Clock::start(),
            sockets: HashMap::new(),
            swarms: HashMap::new(),
            later: Vec::new(),
            accepted: 0,
        }
    }

    fn next_number(&mut self) -> u64 {
        self.accepted += 1;
        self.accepted
    }

    fn enter(&mut self, newcomer: Newcomer) {
        match newcomer {
            Newcomer::Client(number, from, socket) => {
                self.book.connections += 1;
                self.book.clients.insert(from.ip());
                self.sockets.insert(number, *socket);
            }
            Newcomer::Forbidden => self.book.forbidden += 1,
            Newcomer::Visitor => {}
        }
    }

    /// Whether anything has happened.
    fn turn(&mut self) -> bool {
        let now = self.clock.elapsed();
        let (due, later) = self.later.drain(..).partition(|(at, ..)| *at <= now);
        self.later = later;
        let due: Vec<_> = due;
        for (_, to, bytes) in due {
            self.send(to, &bytes);
        }
        let numbers: Vec<u64> = self.sockets.keys().copied().collect();
        let mut has_read = false;
        for number in numbers {
            while let Some(socket) = self.sockets.get_mut(&number) {
                match socket.read() {
                    Ok(tungstenite::Message::Text(text)) => {
                        has_read = true;
                        self.handle(number, text.as_bytes());
                    }
                    Ok(tungstenite::Message::Pong(payload)) => {
                        assert_eq!(payload.as_ref(), b"alive");
                        self.book.pongs += 1;
                    }
                    Ok(other) => panic!("{other:?}"),
                    Err(tungstenite::Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                        break;
                    }
                    Err(_) => self.close(number),
                }
            }
        }
        has_read
    }

    fn close(&mut self, number: u64) {
        self.sockets.remove(&number);
        for members in self.swarms.values_mut() {
            members.retain(|(_, member)| *member != number);
        }
    }

    fn send(&mut self, to: u64, bytes: &[u8]) {
        if let Some(socket) = self.sockets.get_mut(&to) {
            let text = str::from_utf8(bytes).unwrap().to_owned();
            // The tester may have gone; then reading tells.
            let _ = socket.send(text.into());
        }
    }

    fn handle(&mut self, from: u64, message: &[u8]) {
        match Request::parse(message).unwrap() {
            Request::Announce(announce) => self.announce(from, &announce),
            Request::Answer(answer) => self.answer(from, &answer),
            Request::Scrape(scrape) => {
                self.book.scrapes += 1;
                self.scrape(from, &scrape);
            }
        }
    }

    fn announce(&mut self, from: u64, announce: &AnnounceRequest<'_>) {
        let (plan, book) = (self.plan, &mut self.book);
        book.announces += 1;
        let is_turn = |every| book.announces.checked_rem(every) == Some(0);
        let info_hash = announce.info_hash;
        if is_turn(plan.close) {
            book.closed += 1;
            return self.close(from);
        }
        if is_turn(plan.hang) {
            book.hung += 1;
            return;
        }
        if is_turn(plan.garble) {
            book.garbled += 1;
            return self.send(from, b"{nonsense");
        }
        if is_turn(plan.confuse) {
            book.confused += 1;
            let info_hashes = vec![info_hash];
            return self.scrape(from, &ScrapeRequest { info_hashes });
        }
        if is_turn(plan.refuse) {
            book.refused += 1;
            return self.send(from, &failure(info_hash));
        }
        let members = self.swarms.entry(info_hash).or_default();
        if !members.iter().any(|(_, member)| *member == from) {
            members.push((announce.peer_id, from));
        }
        let reply = reply(info_hash, members.len());
        let others = members.iter().filter(|(_, member)| *member != from);
        let others: Vec<u64> = others.map(|(_, member)| *member).collect();
        if is_turn(plan.delay) {
            book.delayed += 1;
            self.later.push((self.clock.elapsed() + DELAY, from, reply));
        } else if is_turn(plan.ping) {
            book.pings += 1;
            self.send_in_pieces(from, &reply);
        } else {
            self.send(from, &reply);
        }
        assert_eq!(announce.offers.len(), 3);
        assert_eq!(announce.num_want, Some(3));
        for (to, offer) in others.into_iter().zip(&announce.offers) {
            self.book.offers += 1;
            let mut bytes = Vec::new();
            ForwardedOffer {
                info_hash,
                peer_id: announce.peer_id,
                offer_id: offer.offer_id,
                offer: offer.offer,
            }
            .write(&mut bytes);
            self.send(to, &bytes);
        }
    }

    fn send_in_pieces(&mut self, to: u64, bytes: &[u8]) {
        let socket = self.sockets.get_mut(&to).unwrap();
        let (one, other) = bytes.split_at(10);
        let data = |data, bytes: &[u8], is_final| {
            tungstenite::Message::Frame(Frame::message(
                bytes.to_vec(),
                OpCode::Data(data),
                is_final,
            ))
        };
        for message in [
            data(Data::Text, one, false),
            tungstenite::Message::Ping(b"alive".to_vec().into()),
            data(Data::Continue, other, true),
        ] {
            socket.send(message).unwrap();
        }
    }

    fn answer(&mut self, from: u64, answer: &AnswerRequest<'_>) {
        self.book.answers += 1;
        if self.plan.reply_to_answers {
            self.send(from, &reply(answer.info_hash, 1));
        }
        let book = &mut self.book;
        if book.answers.checked_rem(self.plan.lose_answer) == Some(0) {
            book.lost_answers += 1;
            return;
        }
        if book.answers.checked_rem(self.plan.refuse_answer) == Some(0) {
            book.refused_answers += 1;
            // Of no torrent that anybody announces.
            return self.send(from, &failure(InfoHash([0; 20])));
        }
        let members = &self.swarms[&answer.info_hash];
        let is_meant = |(peer_id, _): &&(PeerId, u64)| *peer_id == answer.to_peer_id;
        let Some((_, to)) = members.iter().find(is_meant) else {
            return;
        };
        let mut bytes = Vec::new();
        ForwardedAnswer {
            info_hash: answer.info_hash,
            peer_id: answer.peer_id,
            offer_id: answer.offer_id,
            answer: answer.answer,
        }
        .write(&mut bytes);
        self.send(*to, &bytes);
    }

    fn scrape(&mut self, from: u64, scrape: &ScrapeRequest) {
        let file = |info_hash: &InfoHash| ScrapeFile {
            info_hash: *info_hash,
            seeders: 1,
            completed: 2,
            leechers: 3,
        };
        let mut bytes = Vec::new();
        let mut files = scrape.info_hashes.iter().map(file).collect();
        ScrapeResponse::new(&mut files).write(&mut bytes);
        self.send(from, &bytes);
    }
}

fn reply(info_hash: InfoHash, members: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    AnnounceResponse {
        info_hash,
        seeders: 0,
        leechers: u32::try_from(members).unwrap(),
        interval_seconds: 120,
        warning: None,
    }
    .write(&mut bytes);
    bytes
}

fn failure(info_hash: InfoHash) -> Vec<u8> {
    let mut bytes = Vec::new();
    FailureResponse {
        action: Action::Announce,
        reason: "not today".into(),
        info_hash: Some(info_hash),
        retry_seconds: None,
    }
    .write(&mut bytes);
    bytes
}

//! One connection: from bytes to requests, one at a time. Pure.
//!
//! ```text
//!            bytes            a head                   the swarms know
//!  ready ─────────▶ next() ─────────────▶ the service ──────────────────▶ in flight
//!    ▲                │ incomplete: wait      │ refused: responded to        │
//!    │                ▼ for the rest          ▼ at once                      │
//!    └──────────────────────────────────────────────────── responded() ◀─────┘
//! ```
//!
//! While a request is on its way to the swarms, the bytes of those that the client has sent behind
//! it stay where they are. So answers are in the order of the requests by construction, and a
//! client cannot have more than one request in the queues between workers.

use std::net::IpAddr;

use aquatic_daemon::clock::Now;
use aquatic_http_protocol::{Framing, Head};
use aquatic_stream::{Connections, Io, SessionState, WaitingFor};
use aquatic_swarm::Counts;
use aquatic_tracker::dispatch::gather::PendingScrape;
use aquatic_types::CanonicalAddr;

use crate::config::HEAD_BYTES_MAX;
use crate::refusal::Refusal;

/// The state of a connection.
#[derive(Debug)]
pub struct Session {
    peer: CanonicalAddr,
    /// Bytes in which no head ends, so that one that trickles in is not read again and again.
    seen_bytes: usize,
    /// Set while a request is on its way.
    in_flight: Option<InFlight>,
    /// The client will send nothing more.
    input_ended: bool,
}

// Clients may keep tens of thousands of connections open.
const _: () = assert!(Connections::<Session>::BYTES_EACH <= 176);

/// A request that waits for its answer.
#[derive(Debug)]
struct InFlight {
    at_micros: u64,
    framing: Framing,
    scrape: Option<Box<PendingScrape>>,
}

/// What the bytes of a connection amount to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// Nothing, for now.
    Nothing,
    /// A request, which the caller answers, or [sends](Session::request_sent) to the swarms.
    Request(Head<'a>),
    /// Something that cannot be answered but with an HTTP error, and then a closed connection.
    Refuse(Refusal),
}

impl Session {
    /// A connection with a client, or with the proxy in front of it.
    #[must_use]
    pub fn new(peer: CanonicalAddr) -> Self {
        Self {
            peer,
            seen_bytes: 0,
            in_flight: None,
            input_ended: false,
        }
    }

    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> CanonicalAddr {
        self.peer
    }

    /// Looks at all the bytes that have not been taken so far.
    #[inline]
    pub fn next<'a>(&mut self, bytes: &'a [u8], io: &mut Io<'_>) -> Next<'a> {
        if self.in_flight.is_some() || io.closes() {
            return Next::Nothing;
        }
        let may_be_whole = self.seen_bytes == 0 || Head::may_end(bytes, self.seen_bytes);
        let head = if may_be_whole {
            Head::parse(bytes)
        } else {
            Ok(None)
        };
        match head {
            Ok(Some(head)) if head.size <= HEAD_BYTES_MAX => {
                self.seen_bytes = 0;
                Next::Request(head)
            }
            Ok(None) if bytes.len() < HEAD_BYTES_MAX => self.incomplete(bytes.len(), io),
            Ok(_) => Next::Refuse(Refusal::HEAD_TOO_LARGE),
            Err(error) => Next::Refuse(error.into()),
        }
    }

    fn incomplete<'a>(&mut self, seen_bytes: usize, io: &mut Io<'_>) -> Next<'a> {
        self.seen_bytes = seen_bytes;
        match (seen_bytes, self.input_ended) {
            (0, true) => io.close(),
            (0, false) => io.wait_for(WaitingFor::Idle),
            (_, true) => return Next::Refuse(Refusal::CUT_OFF),
            (_, false) => io.wait_for(WaitingFor::Request),
        }
        Next::Nothing
    }

    /// The client will send nothing more. What it has asked for is still answered.
    pub fn end_input<'a>(&mut self, io: &mut Io<'_>) -> Next<'a> {
        self.input_ended = true;
        if self.in_flight.is_some() || io.closes() {
            return Next::Nothing;
        }
        self.incomplete(self.seen_bytes, io)
    }

    /// Whether the client has begun a request that is not whole.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.seen_bytes > 0 && self.in_flight.is_none()
    }

    /// Whether what follows the request that is on its way, if one is, can be a request, too.
    #[must_use]
    pub fn reads_on(&self) -> bool {
        let stays_open = |in_flight: &InFlight| in_flight.framing.connection.stays_open();
        self.in_flight.as_ref().is_none_or(stays_open)
    }

    /// Whether a request is on its way to the swarms.
    #[must_use]
    pub fn has_in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Whether nothing has been asked for, not even in part.
    #[must_use]
    pub fn is_between_requests(&self) -> bool {
        self.in_flight.is_none() && self.seen_bytes == 0
    }

    /// A request is on its way to the swarms. Nothing is taken until it is answered.
    pub fn request_sent(&mut self, now: Now, framing: Framing, io: &mut Io<'_>) {
        io.wait_for(WaitingFor::Tracker);
        self.in_flight = Some(InFlight {
            at_micros: now.micros,
            framing,
            scrape: None,
        });
    }

    /// As [`Self::request_sent`], for a scrape of which some rows are missing.
    pub fn scrape_sent(
        &mut self,
        now: Now,
        framing: Framing,
        scrape: PendingScrape,
        io: &mut Io<'_>,
    ) {
        self.request_sent(now, framing, io);
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.scrape = Some(Box::new(scrape));
        }
    }

    /// The scrape that waits for rows, if one does.
    pub fn scrape_mut(&mut self) -> Option<&mut PendingScrape> {
        self.in_flight.as_mut()?.scrape.as_deref_mut()
    }

    /// Fills in a missing row.
    pub fn fill_row(&mut self, row: u16, counts: Counts) {
        if let Some(scrape) = self.scrape_mut() {
            scrape.fill(row, counts);
        }
    }

    /// Takes the scrape out, if no row is missing.
    pub fn take_scrape(&mut self) -> Option<(PendingScrape, Framing)> {
        let in_flight = self.in_flight.as_mut()?;
        let scrape = in_flight.scrape.take_if(|scrape| scrape.is_complete())?;
        Some((*scrape, in_flight.framing))
    }

    /// The answer stands in `io.out`. Returns how long it took, in microseconds. The bytes that
    /// wait behind the request must be offered again.
    pub fn responded(&mut self, now: Now, io: &mut Io<'_>) -> u64 {
        let Some(in_flight) = self.in_flight.take() else {
            return 0;
        };
        if in_flight.framing.connection.stays_open() {
            io.wait_for(WaitingFor::Idle);
        } else {
            io.close();
        }
        now.micros.saturating_sub(in_flight.at_micros)
    }
}

impl SessionState for Session {
    fn client(&self) -> Option<IpAddr> {
        Some(self.peer().ip())
    }

    fn held_bytes(&self) -> usize {
        let scrape = self
            .in_flight
            .as_ref()
            .and_then(|in_flight| in_flight.scrape.as_ref());
        scrape.map_or(0, |scrape| scrape.held_bytes())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Now = Now {
        seconds: aquatic_types::Seconds(1),
        micros: 1_000_000,
    };

    /// A session with its connection: bytes that wait, and what it has said.
    struct Fixture {
        session: Session,
        kept: Vec<u8>,
        paths: Vec<String>,
        refusals: Vec<Refusal>,
        waits_for: Option<WaitingFor>,
        closes: bool,
    }

    impl Fixture {
        fn new() -> Self {
            let peer: std::net::SocketAddr = ([192, 0, 2, 1], 6_881).into();
            Self {
                session: Session::new(peer.into()),
                kept: Vec::new(),
                paths: Vec::new(),
                refusals: Vec::new(),
                waits_for: None,
                closes: false,
            }
        }

        fn io(&mut self, call: impl FnOnce(&mut Self, &mut Io<'_>)) {
            let mut out = Vec::new();
            let mut io = Io::new(&mut out);
            call(self, &mut io);
            self.waits_for = io.waits_for().or(self.waits_for);
            self.closes |= io.closes();
        }

        /// Bytes come. A request whose path begins with `/ask` stays unanswered.
        fn receive(&mut self, bytes: &[u8]) {
            if self.closes {
                return;
            }
            self.kept.extend_from_slice(bytes);
            self.io(|fixture, io| {
                let mut rest = &fixture.kept.clone()[..];
                loop {
                    match fixture.session.next(rest, io) {
                        Next::Nothing => break,
                        Next::Request(head) => {
                            rest = &rest[head.size..];
                            fixture
                                .paths
                                .push(String::from_utf8_lossy(head.path).into());
                            if head.path.starts_with(b"/ask") {
                                fixture.session.request_sent(NOW, head.framing, io);
                            } else if !head.framing.connection.stays_open() {
                                io.close();
                            }
                        }
                        Next::Refuse(refusal) => {
                            rest = &[];
                            fixture.refusals.push(refusal);
                            io.close();
                        }
                    }
                }
                fixture.kept = rest.to_vec();
            });
        }

        fn answer(&mut self) {
            self.io(|fixture, io| {
                fixture.session.responded(NOW, io);
            });
            self.receive(b"");
        }

        fn end_input(&mut self) {
            if self.closes {
                return;
            }
            self.io(|fixture, io| {
                if let Next::Refuse(refusal) = fixture.session.end_input(io) {
                    fixture.refusals.push(refusal);
                    io.close();
                }
            });
        }
    }

    fn get(path: &str) -> String {
        format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
    }

    #[test]
    fn one_request_is_asked_at_a_time() {
        let mut fixture = Fixture::new();
        fixture.receive(get("/now").as_bytes());
        assert_eq!(fixture.waits_for, Some(WaitingFor::Idle));
        fixture.receive(
            [get("/ask1"), get("/ask2"), get("/now2")]
                .concat()
                .as_bytes(),
        );
        assert_eq!(fixture.paths, ["/now", "/ask1"]);
        assert_eq!(fixture.waits_for, Some(WaitingFor::Tracker));
        fixture.receive(b"GET /incom");
        assert_eq!(
            fixture.waits_for,
            Some(WaitingFor::Tracker),
            "we are to blame"
        );
        fixture.answer();
        assert_eq!(fixture.paths.len(), 3);
        fixture.answer();
        assert_eq!(fixture.paths, ["/now", "/ask1", "/ask2", "/now2"]);
        assert_eq!(fixture.kept, b"GET /incom");
        assert_eq!(fixture.waits_for, Some(WaitingFor::Request));
        fixture.receive(b"plete HTTP/1.1\n\n");
        assert_eq!(fixture.waits_for, Some(WaitingFor::Idle));
        assert!(fixture.refusals.is_empty() && !fixture.closes);
    }

    #[test]
    fn a_client_that_has_ended_its_input_gets_all_its_answers() {
        let mut fixture = Fixture::new();
        fixture.receive([get("/ask1"), get("/ask2")].concat().as_bytes());
        fixture.end_input();
        fixture.answer();
        assert!(!fixture.closes);
        fixture.answer();
        assert!(fixture.closes);
        assert_eq!((fixture.paths.len(), fixture.refusals.len()), (2, 0));

        let mut fixture = Fixture::new();
        fixture.end_input();
        assert!(
            fixture.closes && fixture.refusals.is_empty(),
            "nothing was asked"
        );

        let mut fixture = Fixture::new();
        fixture.receive(b"GET / HTTP/1.1\r\n");
        fixture.end_input();
        assert_eq!(
            (fixture.refusals, fixture.closes),
            (vec![Refusal::CUT_OFF], true)
        );
    }

    #[test]
    fn nothing_is_read_behind_a_last_request() {
        for asked in ["/ask", "/now"] {
            let mut fixture = Fixture::new();
            let last = format!("GET {asked} HTTP/1.0\r\n\r\n");
            fixture.receive([last, get("/more")].concat().as_bytes());
            fixture.answer();
            assert!(fixture.closes);
            assert_eq!(fixture.paths, [asked]);
        }
    }

    #[test]
    fn heads_are_bounded() {
        let head_of = |bytes: usize| {
            let start = "GET /now HTTP/1.1\r\nX: ";
            let mut head = start.to_owned() + &"x".repeat(bytes - start.len() - 4);
            head += "\r\n\r\n";
            head
        };
        let mut fixture = Fixture::new();
        fixture.receive(head_of(HEAD_BYTES_MAX).as_bytes());
        assert_eq!((fixture.paths.len(), fixture.closes), (1, false));
        for bytes in [HEAD_BYTES_MAX + 1, 3 * HEAD_BYTES_MAX] {
            for chunk in [64, HEAD_BYTES_MAX, 4 * HEAD_BYTES_MAX] {
                let mut fixture = Fixture::new();
                for part in head_of(bytes).as_bytes().chunks(chunk) {
                    fixture.receive(part);
                }
                assert_eq!(
                    fixture.refusals,
                    [Refusal::HEAD_TOO_LARGE],
                    "{bytes} by {chunk}"
                );
                assert!(fixture.closes);
            }
        }
    }

    #[test]
    fn an_answer_takes_the_time_since_it_was_asked_for() {
        let mut fixture = Fixture::new();
        fixture.receive(get("/ask").as_bytes());
        let mut out = Vec::new();
        let later = Now::from_micros(NOW.micros + 7);
        assert_eq!(fixture.session.responded(later, &mut Io::new(&mut out)), 7);
    }

    #[test]
    fn what_can_never_become_a_request_is_refused_at_once() {
        for bytes in [&b"\x16\x03\x01\x02\0\x01"[..], b"[]"] {
            let mut fixture = Fixture::new();
            fixture.receive(bytes);
            assert_eq!(fixture.refusals.len(), 1, "{bytes:?}");
        }
        // What clients and proxies are known to send is not too much.
        let mut fixture = Fixture::new();
        let long = get(&format!("/{}", "x".repeat(16 * 1_024 - 40)));
        fixture.receive(long.as_bytes());
        assert_eq!((fixture.paths.len(), fixture.refusals.len()), (1, 0));
    }

    #[test]
    fn a_session_tells_where_it_stands() {
        let states = |session: &Session| {
            let asked = (session.has_in_flight(), session.reads_on());
            (session.is_between_requests(), session.has_begun(), asked)
        };
        let mut fixture = Fixture::new();
        assert_eq!(fixture.session.peer().get().port(), 6_881);
        assert_eq!(states(&fixture.session), (true, false, (false, true)));
        fixture.receive(b"GET /as");
        assert_eq!(states(&fixture.session), (false, true, (false, true)));
        fixture.receive(b"k HTTP/1.1\r\n\r\nGET /n");
        assert_eq!(states(&fixture.session), (false, false, (true, true)));
        fixture.answer();
        assert_eq!(states(&fixture.session), (false, true, (false, true)));
        fixture.receive(b"ow HTTP/1.1\r\n\r\n");
        assert_eq!(states(&fixture.session), (true, false, (false, true)));
        fixture.receive(b"GET /ask HTTP/1.0\r\n\r\n");
        assert_eq!(states(&fixture.session), (false, false, (true, false)));
    }

    #[test]
    fn a_scrape_waits_for_its_rows() {
        let info_hash = aquatic_types::InfoHash([1; 20]);
        let counts = Counts {
            seeders: 1,
            leechers: 2,
            completed: 3,
        };
        let mut fixture = Fixture::new();
        assert!(fixture.session.scrape_mut().is_none());
        assert_eq!(fixture.session.held_bytes(), 0);
        let mut scrape = PendingScrape::new(aquatic_types::IpFamily::V4);
        scrape.add(info_hash, true);
        scrape.row_asked();
        let held_bytes = scrape.held_bytes();
        assert!(held_bytes > 1);
        let framing = Framing::CLOSE;
        fixture.io(|fixture, io| fixture.session.scrape_sent(NOW, framing, scrape, io));
        assert_eq!(fixture.waits_for, Some(WaitingFor::Tracker));
        assert_eq!(fixture.session.held_bytes(), held_bytes);
        assert!(fixture.session.scrape_mut().is_some());
        assert!(fixture.session.take_scrape().is_none());
        fixture.session.fill_row(0, counts);
        let (scrape, said) = fixture.session.take_scrape().unwrap();
        assert_eq!(said, framing);
        assert!(scrape.into_rows().unwrap().eq([(info_hash, counts)]));
        assert!(fixture.session.has_in_flight() && fixture.session.take_scrape().is_none());
    }

    fn inputs() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            4 => "/[b-z]{1,9}".prop_map(|path| get(&path).into_bytes()),
            1 => Just(b"GET /old HTTP/1.0\r\n\r\n".to_vec()),
            1 => Just(b"POST /announce HTTP/1.1\r\n\r\n".to_vec()),
            1 => Just(b"\r\n".to_vec()),
            1 => prop::collection::vec(any::<u8>(), 0..40),
        ];
        prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn how_the_bytes_come_makes_no_difference(
            bytes in inputs(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8)
        ) {
            let mut whole = Fixture::new();
            whole.receive(&bytes);
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.sort_unstable();
            let mut parts = Fixture::new();
            let mut start = 0;
            for end in cuts.into_iter().chain([bytes.len()]) {
                parts.receive(&bytes[start..end]);
                start = end;
            }
            for fixture in [&mut whole, &mut parts] {
                fixture.end_input();
                prop_assert!(fixture.closes);
            }
            prop_assert_eq!(whole.paths, parts.paths);
            prop_assert_eq!(whole.refusals, parts.refusals);
        }
    }
}

//! Frames, turns and signs of life.

use aquatic_types::{InfoHash, IpFamily};

use super::*;

fn at(seconds: u32) -> Now {
    Now::from_micros(u64::from(seconds) * 1_000_000)
}

/// Looks at a session when it is due, for a while; something comes in some seconds. Returns the
/// seconds in which it gets pings, and those in which it is looked at.
fn pings(patience: Patience, heard: &[u32], until: u32) -> (Vec<u32>, Vec<u32>) {
    let address = CanonicalAddr::new("192.0.2.1:1".parse().unwrap());
    let mut session = Session::new(at(0), address);
    let (mut pings, mut looks, mut due) = (Vec::new(), Vec::new(), Seconds(0));
    for second in 0..until {
        if heard.contains(&second) {
            session.heard = Seconds(second);
        }
        if Seconds(second) < due {
            continue;
        }
        looks.push(second);
        let mut out = Vec::new();
        due = session.look(at(second), patience, &mut Io::new(&mut out));
        assert!(due > Seconds(second), "looks at nothing but itself");
        if !out.is_empty() {
            assert_eq!(out, b"\x89\0");
            pings.push(second);
        }
    }
    (pings, looks)
}

#[test]
fn pings_follow_the_last_sign_of_life() {
    let patience = Patience {
        ping_seconds: 45,
        peer_age_seconds_max: 100,
    };
    // After the last sign of life each time, however often it was looked at before.
    let (pings, looks) = pings(patience, &[10, 30, 31, 80, 300], 400);
    assert_eq!(pings, [76, 125, 170, 215, 260, 345, 390]);
    assert!(looks.contains(&180), "when its peers are too old");
    assert!(looks.len() < 20, "{looks:?}");
}

const BOUNDS: MessageBounds = MessageBounds {
    frame_bytes_max: 100,
    message_bytes_max: 150,
    in_flight_max: IN_FLIGHT_MAX,
};

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CONTINUE: u8 = 0;
const FINAL: u8 = 0x80;

/// A frame as a client sends it, masked with nothing.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let size = u8::try_from(payload.len()).unwrap();
    [&[first, 0x80 | size, 0, 0, 0, 0], payload].concat()
}

/// A WebSocket, with what it has said and sent.
struct Fixture {
    session: Session,
    message: Vec<u8>,
    sent: Vec<u8>,
    waits_for: Option<WaitingFor>,
    closes: bool,
}

impl Fixture {
    fn new() -> Self {
        let address = CanonicalAddr::new("192.0.2.1:1".parse().unwrap());
        let mut session = Session::new(at(10), address);
        session.open(address, None);
        Self {
            session,
            message: Vec::new(),
            sent: Vec::new(),
            waits_for: None,
            closes: false,
        }
    }

    fn io<T>(&mut self, call: impl FnOnce(&mut Session, &mut Vec<u8>, &mut Io<'_>) -> T) -> T {
        let mut io = Io::new(&mut self.sent);
        if self.closes {
            io.close();
        }
        let returned = call(&mut self.session, &mut self.message, &mut io);
        self.waits_for = io.waits_for();
        self.closes = io.closes();
        returned
    }

    fn next(&mut self, bytes: &[u8]) -> Next {
        self.io(|session, message, io| session.next(at(20), bytes, BOUNDS, message, io))
    }

    /// What a whole frame amounts to.
    #[track_caller]
    fn frame(&mut self, first: u8, payload: &[u8]) -> Next {
        let bytes = frame(first, payload);
        let next = self.next(&bytes);
        if let Next::Message(size) | Next::Control(size) = next {
            assert_eq!(size, bytes.len());
        }
        next
    }

    #[track_caller]
    fn expect_message(&mut self, first: u8, payload: &[u8], message: &[u8]) {
        let next = self.frame(first, payload);
        assert!(matches!(next, Next::Message(_)), "{next:?}");
        assert_eq!(self.message, message);
    }
}

#[test]
fn a_connection_becomes_a_websocket_when_its_request_is_accepted() {
    let [proxy, client] =
        ["192.0.2.1:1", "192.0.2.2:2"].map(|address| CanonicalAddr::new(address.parse().unwrap()));
    let mut session = Session::new(at(10), proxy);
    assert_eq!(session.upgrading(), Some(0));
    session.wait_for_request(7);
    assert_eq!(session.upgrading(), Some(7));
    let mut out = Vec::new();
    let bytes = frame(FINAL | TEXT, b"x");
    let mut io = Io::new(&mut out);
    let next = session.next(at(11), &bytes, BOUNDS, &mut Vec::new(), &mut io);
    assert_eq!(next, Next::Nothing);
    session.open(client, None);
    assert_eq!((session.upgrading(), session.client), (None, client));
}

#[test]
fn messages_are_put_together_from_their_frames() {
    let mut fixture = Fixture::new();
    fixture.expect_message(FINAL | TEXT, b"one", b"one");
    assert!(matches!(fixture.frame(TEXT, b"t"), Next::Control(_)));
    assert_eq!(fixture.frame(FINAL | 9, b"amid"), Next::Control(10));
    assert!(matches!(fixture.frame(CONTINUE, b"w"), Next::Control(_)));
    fixture.expect_message(FINAL | CONTINUE, b"o", b"two");
    fixture.expect_message(FINAL | BINARY, b"three", b"three");

    assert_eq!(
        fixture.frame(FINAL | CONTINUE, b""),
        Next::Violation(Violation::Protocol)
    );
    let mut fixture = Fixture::new();
    fixture.frame(TEXT, b"begun");
    assert_eq!(
        fixture.frame(FINAL | TEXT, b""),
        Next::Violation(Violation::Protocol)
    );
}

#[test]
fn frames_and_messages_are_bounded() {
    let mut fixture = Fixture::new();
    fixture.expect_message(FINAL | TEXT, &[b'x'; 100], &[b'x'; 100]);
    assert_eq!(
        fixture.frame(FINAL | TEXT, &[b'x'; 101]),
        Next::Violation(Violation::Size)
    );
    fixture.frame(TEXT, &[b'x'; 100]);
    fixture.expect_message(FINAL | CONTINUE, &[b'x'; 50], &[b'x'; 150]);
    fixture.frame(TEXT, &[b'x'; 100]);
    let next = fixture.frame(FINAL | CONTINUE, &[b'x'; 51]);
    assert_eq!(next, Next::Violation(Violation::Size));
}

#[test]
fn messages_are_text_or_not() {
    let mut fixture = Fixture::new();
    fixture.expect_message(FINAL | TEXT, "é".as_bytes(), "é".as_bytes());
    assert!(fixture.session.is_text());
    fixture.expect_message(FINAL | BINARY, b"\xff", b"\xff");
    assert!(!fixture.session.is_text());
    // A character may lie in two frames, with others between them.
    let [first, second] = "é".as_bytes() else {
        panic!("two bytes");
    };
    fixture.frame(TEXT, &[*first]);
    fixture.frame(FINAL | 9, b"ping");
    fixture.expect_message(FINAL | CONTINUE, &[*second], "é".as_bytes());
    assert!(fixture.session.is_text());
}

#[test]
fn control_frames_are_answered() {
    let mut fixture = Fixture::new();
    fixture.frame(FINAL | 9, b"ping");
    assert_eq!(fixture.sent, b"\x8a\x04ping");
    fixture.sent.clear();
    fixture.frame(FINAL | 10, b"pong");
    assert!(fixture.sent.is_empty() && !fixture.closes);
    assert_eq!(
        fixture.frame(FINAL | 8, b"x"),
        Next::Violation(Violation::Protocol)
    );
    fixture.frame(FINAL | 8, b"\x03\xe8bye");
    assert_eq!(fixture.sent, b"\x88\x02\x03\xe8");
    assert!(fixture.closes);
    assert_eq!(fixture.frame(FINAL | TEXT, b"more"), Next::Nothing);
}

#[test]
fn what_is_waited_for_depends_on_what_has_begun() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.next(b""), Next::Nothing);
    assert_eq!(fixture.waits_for, Some(WaitingFor::Idle));
    assert_eq!(fixture.next(&frame(FINAL | TEXT, b"x")[..3]), Next::Nothing);
    assert_eq!(fixture.waits_for, Some(WaitingFor::Request));
    fixture.frame(TEXT, b"begun");
    assert!(fixture.session.held_bytes() >= 5);
    assert_eq!(fixture.next(b""), Next::Nothing);
    assert_eq!(fixture.waits_for, Some(WaitingFor::Request));
    fixture.session.held = Some(Box::new(Held::Message(Vec::with_capacity(1_000))));
    assert!(fixture.session.held_bytes() >= 1_005);
    let mut scrape = PendingScrape::new(IpFamily::V4);
    (0..100).for_each(|number| scrape.add(InfoHash([number; 20]), true));
    fixture.session.held = Some(Box::new(Held::Scrape(scrape)));
    assert!(fixture.session.held_bytes() >= 100 * 32);
}

#[test]
fn a_sign_of_life_ends_the_silence() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.session.silent_seconds(at(17)), 7);
    fixture.next(b"");
    assert_eq!(fixture.session.silent_seconds(at(27)), 17);
    fixture.frame(FINAL | 10, b"");
    assert_eq!(fixture.session.silent_seconds(at(27)), 7);
}

#[test]
fn so_many_requests_are_on_their_way_at_once() {
    let mut fixture = Fixture::new();
    for _ in 0..IN_FLIGHT_MAX {
        assert!(matches!(
            fixture.frame(FINAL | TEXT, b"x"),
            Next::Message(_)
        ));
        fixture.session.request_sent();
    }
    assert_eq!(fixture.frame(FINAL | TEXT, b"x"), Next::Nothing);
    assert_eq!(fixture.waits_for, Some(WaitingFor::Idle), "we are to blame");
    assert!(fixture.session.responded(), "bytes may wait");
    assert!(matches!(
        fixture.frame(FINAL | TEXT, b"x"),
        Next::Message(_)
    ));
    assert!(!fixture.session.responded(), "there was room before");
    assert!(fixture.session.has_in_flight());
    (2..IN_FLIGHT_MAX).for_each(|_| assert!(!fixture.session.responded()));
    assert!(!fixture.session.has_in_flight());
}

#[test]
fn a_reply_is_held_until_what_was_asked_before_has_been_answered() {
    let failure =
        crate::refusal::Refusal::QUEUE_FULL.about(aquatic_ws_protocol::Action::Scrape, None);
    let mut fixture = Fixture::new();
    fixture.session.request_sent();
    fixture.session.held = Some(Box::new(Held::Failure(failure)));
    assert!(fixture.session.take_held().is_none());
    assert_eq!(
        fixture.frame(FINAL | TEXT, b"x"),
        Next::Nothing,
        "it is held"
    );
    fixture.session.responded();
    assert!(matches!(
        fixture.session.take_held(),
        Some(Held::Failure(_))
    ));
    assert!(fixture.session.take_held().is_none());

    fixture.session.held = Some(Box::new(Held::Message(b"x".to_vec())));
    assert!(fixture.session.take_held().is_none(), "it waits for room");

    let mut scrape = PendingScrape::new(IpFamily::V4);
    scrape.add(InfoHash([1; 20]), true);
    fixture.session.held = Some(Box::new(Held::Scrape(scrape)));
    assert!(fixture.session.take_held().is_none(), "a row is missing");
    let scrape = PendingScrape::new(IpFamily::V4);
    fixture.session.held = Some(Box::new(Held::Scrape(scrape)));
    assert!(matches!(fixture.session.take_held(), Some(Held::Scrape(_))));
}

#[test]
fn a_client_that_has_ended_its_input_gets_its_answers() {
    let mut fixture = Fixture::new();
    fixture.session.request_sent();
    fixture.session.request_sent();
    fixture.io(|session, _, io| session.end_input(io));
    assert!(!fixture.closes);
    assert!(!fixture.session.responded());
    assert_eq!(fixture.next(b""), Next::Nothing);
    assert!(!fixture.closes);
    assert!(fixture.session.responded(), "the end waits for that");
    assert_eq!(fixture.next(b""), Next::Nothing);
    assert!(fixture.closes);

    let mut fixture = Fixture::new();
    fixture.session.held = Some(Box::new(Held::Message(b"x".to_vec())));
    fixture.io(|session, _, io| session.end_input(io));
    assert!(!fixture.closes);
    let mut fixture = Fixture::new();
    fixture.io(|session, _, io| session.end_input(io));
    assert!(fixture.closes);
}

#[test]
fn who_waits_for_nothing_is_sent_away_when_the_process_stops() {
    let mut fixture = Fixture::new();
    fixture.session.request_sent();
    assert!(!fixture.io(|session, _, io| session.stop(io)));
    assert!(fixture.sent.is_empty() && !fixture.closes);
    let message = frame(FINAL | TEXT, b"{}");
    assert_eq!(fixture.next(&message), Next::Nothing, "no more is asked");
    fixture.session.responded();
    assert!(fixture.io(|session, _, io| session.stop(io)));
    assert_eq!(fixture.sent, b"\x88\x11\x03\xf4service restart");

    let mut fixture = Fixture::new();
    fixture.session.wait_for_request(0);
    assert!(fixture.io(|session, _, io| session.stop(io)));
    assert!(fixture.sent.is_empty());
}

/// Its connection must not give way to another one before it is answered.
#[test]
fn who_has_asked_waits_for_us() {
    let address = CanonicalAddr::new("192.0.2.1:1".parse().unwrap());
    let mut session = Session::new(at(0), address);
    session.open(address, None);
    assert!(!session.awaits_response());
    session.request_sent();
    session.request_sent();
    session.responded();
    assert!(session.awaits_response());
    session.responded();
    assert!(!session.awaits_response());
    let scrape = PendingScrape::new(address.family());
    session.held = Some(Box::new(Held::Scrape(scrape)));
    assert!(session.awaits_response());
}

//! What clients see of a stop.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::time::Duration;

use aquatic_daemon::clock::Clock;
use aquatic_test_support::cases::on_every_runtime;
use aquatic_test_support::wait::until;
use aquatic_test_support::{Place, Setup, torrent};
use aquatic_types::IpFamily;
use nix::sys::signal::Signal;
use serde_json::json;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Error, Message};

use super::client::{CLOSE, Peer, Socket, counts};
use super::setup::WS;

const SOCKETS: u32 = 200;

/// `network.drain_period`, in tenths of which times are looked at.
const PERIOD: Duration = Duration::from_secs(3);

/// How long a stop may take besides.
const STOP_MAX: Duration = Duration::from_secs(1);

/// What they are told.
fn restart() -> (u8, Vec<u8>) {
    (CLOSE, b"\x03\xf4service restart".to_vec())
}

/// A stop, and a new start, takes a moment: browsers shall not all come back in the same one.
#[test]
fn sockets_are_closed_with_a_code_one_after_the_other() {
    on_every_runtime(&WS, |case| {
        let settings = format!("network.drain_period = {}", PERIOD.as_secs());
        let mut tracker = case.start(&settings);
        let open = |_| Socket::new(&tracker, IpFamily::V4);
        let mut sockets: Vec<_> = (0..SOCKETS).map(open).collect();
        tracker.daemon.signal(Signal::SIGTERM);
        let clock = Clock::start();
        let mut by_tenth: BTreeMap<u128, u128> = BTreeMap::new();
        let (mut last, mut longest_gap) = (None, Duration::ZERO);
        // They are told in the order in which they came.
        for socket in &mut sockets {
            assert_eq!(socket.receive_frame(), restart());
            let now = clock.elapsed();
            longest_gap = longest_gap.max(now - last.unwrap_or(now));
            last = Some(now);
            let tenth = 10 * now.as_millis() / PERIOD.as_millis();
            *by_tenth.entry(tenth).or_default() += 1;
            // As browsers do; the tracker has ended its side, and does not reset the connection.
            socket.send_frame(true, CLOSE, b"\x03\xf4");
            socket.connection.assert_ends();
        }
        let most = by_tenth.values().max().unwrap();
        // Whose turn came while the tracker or this test stood still are told together.
        let all = u128::from(SOCKETS);
        let delayed = all * longest_gap.as_millis() / PERIOD.as_millis();
        assert!(*most <= all / 5 + delayed, "{longest_gap:?}: {by_tenth:?}");
        drop(sockets);
        assert_eq!(tracker.daemon.wait_exit().code(), Some(0));
    });
}

/// And another signal ends it at once.
#[test]
fn until_its_turn_a_socket_works_as_before() {
    on_every_runtime(&WS, |case| {
        let mut tracker = case.start("network.drain_period = 30");
        let mut idle = Socket::new(&tracker, IpFamily::V4);
        let [mut first, mut second] = [(); 2].map(|()| Peer::at(&tracker, IpFamily::V4));
        second.join(torrent(1), 1);
        tracker.daemon.signal(Signal::SIGTERM);
        assert_eq!(idle.receive_frame(), restart());

        let offers = [json!({"type": "offer", "sdp": "v=0"})];
        let announce = first.announce_with(torrent(1), &offers);
        assert_eq!(counts(&first.ask(&announce)), (0, 2));
        let offer = second.socket.receive();
        assert_eq!(offer["offer"], offers[0]);
        let answer = second.answer_to(&offer, &json!({"type": "answer", "sdp": "v=0"}));
        second.socket.send(&answer.to_string());
        assert_eq!(first.socket.receive()["answer"], answer["answer"]);
        let place = &tracker.daemon.place;
        let asks_for_time = |it: &String| it.starts_with("EXTEND_TIMEOUT_USEC=");
        until("the tracker asks systemd for more time", || {
            place
                .notifications()
                .iter()
                .find(|it| asks_for_time(it))
                .cloned()
        });
        first.socket.assert_nothing_came();

        tracker.daemon.signal(Signal::SIGTERM);
        let clock = Clock::start();
        assert_eq!(tracker.daemon.wait_exit().code(), Some(0));
        assert!(clock.elapsed() < STOP_MAX, "{:?}", clock.elapsed());
        tracker.wait_for_log("ending connections at once, as asked by another signal");
    });
}

/// Neither one that does not answer the close frame, nor one that has sent no request.
#[test]
fn a_client_that_does_not_answer_is_not_waited_for() {
    on_every_runtime(&WS, |case| {
        let mut tracker = case.start("network.drain_period = 1");
        let mut silent: Vec<_> = (0..3)
            .map(|_| Socket::new(&tracker, IpFamily::V4))
            .collect();
        let _without_request = TcpStream::connect(tracker.address(IpFamily::V4)).unwrap();
        // It has been accepted when this has been answered.
        Socket::new(&tracker, IpFamily::V4).assert_nothing_came();
        tracker.daemon.signal(Signal::SIGTERM);
        let clock = Clock::start();
        assert_eq!(tracker.daemon.wait_exit().code(), Some(0));
        let took = clock.elapsed();
        assert!(took < Duration::from_secs(1) + STOP_MAX, "{took:?}");
        for socket in &mut silent {
            assert_eq!(socket.receive_frame(), restart());
        }
    });
}

#[test]
fn with_one_socket_a_stop_takes_a_moment() {
    on_every_runtime(&WS, |case| {
        let mut tracker = case.start("network.drain_period = 30");
        drop(Socket::new(&tracker, IpFamily::V4));
        let mut last = Socket::new(&tracker, IpFamily::V4);
        tracker.daemon.signal(Signal::SIGTERM);
        let clock = Clock::start();
        assert_eq!(last.receive_frame(), restart());
        drop(last);
        assert_eq!(tracker.daemon.wait_exit().code(), Some(0));
        assert!(clock.elapsed() < STOP_MAX, "{:?}", clock.elapsed());
    });
}

/// As browsers do, it answers the close frame, and finds that the connection has ended in order.
#[test]
fn a_client_of_another_kind_sees_the_code_and_a_clean_end() {
    let place = Place::new();
    let mut tracker = place.start(Setup::simple(&WS), "network.drain_period = 1");
    let address = tracker.address(IpFamily::V4);
    let stream = TcpStream::connect(address).unwrap();
    let (mut socket, _) = tungstenite::client(format!("ws://{address}/"), stream).unwrap();
    tracker.signal(Signal::SIGTERM);
    let Message::Close(Some(close)) = socket.read().unwrap() else {
        panic!("a close frame comes first");
    };
    assert_eq!(close.code, CloseCode::Restart);
    assert_eq!(close.reason.as_str(), "service restart");
    assert!(matches!(socket.read(), Err(Error::ConnectionClosed)));
    drop(socket);
    assert_eq!(tracker.wait_exit().code(), Some(0));
}

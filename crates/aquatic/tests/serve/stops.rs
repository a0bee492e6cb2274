//! How the protocols of one process stop.

use std::io::{Read, Write};
use std::net::TcpStream;

use aquatic_test_support::wait::DEADLINE;
use aquatic_test_support::{Place, torrent};
use aquatic_types::IpFamily;
use nix::sys::signal::Signal;

use super::setup::{Client, Http, SIMPLE, Udp, ws_settings};

const V4: IpFamily = IpFamily::V4;

/// What a WebSocket begins with; it is not looked at further.
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: tracker\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A close frame with the code 1012, without its reason.
const CLOSE: &[u8] = b"\x88\x11\x03\xf4";

fn open_web_socket(port: u16) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(REQUEST).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    assert!(
        head.starts_with(b"HTTP/1.1 101 "),
        "{}",
        head.escape_ascii()
    );
    stream
}

/// WebSockets are closed over seconds. Meanwhile the others serve, also whoever comes only now.
#[test]
fn whoever_needs_less_time_serves_until_the_others_have_finished() {
    let place = Place::new();
    let more = format!("{}ws.network.drain_period = 30", ws_settings(&place));
    let port = place.second_port();
    let mut daemon = SIMPLE.start_in(place, &more);
    let [mut first, _second] = [(); 2].map(|()| open_web_socket(port));
    daemon.signal(Signal::SIGTERM);
    let mut close = [0; CLOSE.len()];
    first.read_exact(&mut close).unwrap();
    assert_eq!(close, CLOSE);
    assert_eq!(Http::new(&daemon, V4).join(torrent(1), 1, 0).seeders, 1);
    assert_eq!(Udp::new(&daemon, V4).join(torrent(1), 2, 0).seeders, 2);
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.wait_exit().success());
}

//! The line that shows how far a run has come: at a terminal, and nowhere else.

use std::fs::File;
use std::io::Read;
use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use aquatic_test_support::load_test::FakeTracker;
use aquatic_udp_protocol::{ConnectResponse, ConnectionId, Request};
use nix::pty::openpty;
use tempfile::NamedTempFile;

/// A tracker that only connects: it has seen so many requests.
fn tracker() -> FakeTracker<u64> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let timeout = Some(Duration::from_millis(5));
    socket.set_read_timeout(timeout).unwrap();
    FakeTracker::start(socket.local_addr().unwrap(), move |should_stop| {
        let (mut buffer, mut requests) = ([0; 2048], 0);
        while !should_stop.load(Ordering::Relaxed) {
            let Ok((bytes, from)) = socket.recv_from(&mut buffer) else {
                continue;
            };
            let Request::Connect(connect) = Request::parse(&buffer[..bytes]).unwrap() else {
                panic!("only connect requests were asked for");
            };
            let mut packet = Vec::new();
            let answer = ConnectResponse {
                transaction_id: connect.transaction_id,
                connection_id: ConnectionId(*b"fake one"),
            };
            answer.write(&mut packet);
            socket.send_to(&packet, from).unwrap();
            requests += 1;
        }
        requests
    })
}

/// What a run with these settings prints on standard output and on a terminal.
fn run_at_a_terminal(settings: &str) -> (String, String) {
    let tracker = tracker();
    let config = NamedTempFile::new().unwrap();
    let text = format!(
        "server_address = \"{}\"
        warm_up_seconds = 1
        print_json = true
        {settings}
        network.in_flight_per_socket = 8
        [requests]
        weight_announce = 0
        weight_scrape = 0
        number_of_torrents = 10
        number_of_peers = 10",
        tracker.address
    );
    std::fs::write(config.path(), text).unwrap();
    let pty = openpty(None, None).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_aquatic_udp_load_test"));
    command.arg("-c").arg(config.path()).stdin(Stdio::null());
    let child = command.stdout(Stdio::piped()).stderr(pty.slave).spawn();
    // It holds our end of the slave; while that is open, the master never comes to an end.
    drop(command);
    let reader = thread::spawn(move || {
        let mut shown = Vec::new();
        // Linux ends the stream with an error when the last slave is closed.
        let _ = File::from(pty.master).read_to_end(&mut shown);
        String::from_utf8(shown).unwrap()
    });
    let output = child.unwrap().wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(tracker.stop() > 0);
    let printed = String::from_utf8(output.stdout).unwrap();
    (printed, reader.join().unwrap())
}

#[test]
fn a_terminal_shows_rate_loss_and_latency_in_one_line() {
    let (printed, shown) = run_at_a_terminal("duration_seconds = 5");
    serde_json::from_str::<serde_json::Value>(&printed).unwrap();
    let lines: Vec<&str> = shown.split("\r\x1b[K").collect();
    assert!(!shown.contains('\n'), "{shown:?}");
    let line = lines.iter().find(|line| has_rate(line));
    let line = line.unwrap_or_else(|| panic!("{shown:?}"));
    for word in [" answers/s, ", " lost, p50 ", " ms, p99 ", " ms"] {
        assert!(line.contains(word), "{line}");
    }
    assert_eq!(
        lines.last(),
        Some(&""),
        "the line is left behind: {shown:?}"
    );
}

/// A line whose rate is not 0. While a busy machine keeps a thread waiting, seconds go by without
/// one.
fn has_rate(line: &str) -> bool {
    let Some((seconds, rest)) = line.split_once(" of 5 s: ") else {
        return false;
    };
    let is_number = |word: &str| word.parse::<u32>().is_ok_and(|number| number > 0);
    let rate = rest.split_once(" answers/s");
    is_number(seconds) && rate.is_some_and(|(rate, _)| is_number(rate))
}

#[test]
fn it_can_be_turned_off() {
    let (_, shown) = run_at_a_terminal("duration_seconds = 2\nshow_progress = false");
    assert_eq!(shown, "");
}

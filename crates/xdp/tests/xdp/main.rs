//! The program for frames, by way of `BPF_PROG_TEST_RUN`: no interface, nothing is sent.
//!
//! Needs the rights to load programs. Without them nothing is tested, which is a failure under
//! `CI=true`.

#![cfg(target_os = "linux")]

mod frames;
mod ids;
mod limits;
mod random;
mod untouched;

use std::env;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use aquatic_xdp::{AttachMode, Counts, Times, Xdp, XdpLimits, XdpTask};
use frames::Frame;
use nix::time::{ClockId, clock_gettime};

const KEY: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];
const PROTOCOL_ID: u64 = 0x0417_2710_1980;

/// `enum xdp_action`.
const DROP: u32 = 1;
const PASS: u32 = 2;
const TX: u32 = 3;

/// In 2026.
const UNIX_SECONDS: u64 = 1_795_000_000;

const LIMITS: XdpLimits = XdpLimits {
    answers_per_second: 1_000_000,
    errors_per_second: 0,
};

/// `None`: this process may not load programs.
fn loaded(mode: AttachMode) -> Option<Xdp> {
    let loaded = Xdp::new(0, 0).and_then(|mut xdp| xdp.load_for_trial(mode).map(|()| xdp));
    match loaded {
        Ok(xdp) => {
            assert_eq!(xdp.set_listeners(&servers()), 0);
            Some(xdp)
        }
        Err(error) => {
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
            let is_ci = env::var_os("CI").is_some_and(|value| value == "true");
            assert!(!is_ci, "may not load programs: {error}");
            eprintln!("nothing tested: {error}");
            None
        }
    }
}

/// One that works, for which this second of Unix time has just begun.
fn filter(mode: AttachMode) -> Option<Xdp> {
    let xdp = loaded(mode)?;
    xdp.activate(XdpTask::Filter, KEY, times(UNIX_SECONDS), LIMITS);
    Some(xdp)
}

fn monotonic() -> Duration {
    Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap())
}

/// The whole second that it is in a moment, and for nearly a second more.
fn times(unix_seconds: u64) -> Times {
    let unix = Duration::from_secs(unix_seconds) + Duration::from_millis(100);
    Times {
        unix_nanos: u64::try_from(unix.as_nanos())
            .unwrap()
            .wrapping_sub(nanos()),
        replaced: None,
    }
}

fn nanos() -> u64 {
    u64::try_from(monotonic().as_nanos()).unwrap()
}

fn servers() -> [SocketAddr; 2] {
    ["192.0.2.1:3000", "[2001:db8::1]:3000"].map(|it| it.parse().unwrap())
}

fn clients() -> [SocketAddr; 2] {
    ["198.51.100.7:6881", "[2001:470:1:2::7]:6881"].map(|it| it.parse().unwrap())
}

/// A datagram from the client of each family to the server.
fn frames(payload: &[u8]) -> [Frame; 2] {
    let [v4, v6] = servers();
    let [from_v4, from_v6] = clients();
    [(from_v4, v4), (from_v6, v6)].map(|(from, to)| Frame::new(from, to, payload.to_vec()))
}

fn request(id: u64, action: u32, len: usize) -> Vec<u8> {
    let mut bytes = [&id.to_be_bytes()[..], &action.to_be_bytes(), b"abcd"].concat();
    bytes.resize(len, 1);
    bytes
}

fn connect() -> Vec<u8> {
    request(PROTOCOL_ID, 0, 16)
}

/// What becomes of a frame.
fn verdict(xdp: &Xdp, frame: &[u8]) -> u32 {
    let (verdict, after, _) = xdp.try_frame(frame, 1).unwrap();
    if verdict != TX {
        assert_eq!(after, frame, "changed");
    }
    verdict
}

/// What becomes of a frame in the second [`UNIX_SECONDS`], and what is in its place. It is tried
/// again, and counted by `tries`, if that second may have been over.
fn try_in_second(xdp: &Xdp, frame: &[u8], tries: &mut u64) -> (u32, Vec<u8>) {
    loop {
        let begun = monotonic();
        xdp.set_times(times(UNIX_SECONDS));
        let (verdict, after, _) = xdp.try_frame(frame, 1).unwrap();
        *tries += 1;
        assert!(verdict == TX || after == frame, "changed");
        if monotonic() - begun < Duration::from_millis(800) {
            return (verdict, after);
        }
    }
}

#[track_caller]
fn assert_counts(xdp: &Xdp, expected: [Counts; 2]) {
    assert_eq!(xdp.counts(), expected);
}

#[test]
fn it_is_verified_in_few_steps() {
    let Some(xdp) = loaded(AttachMode::Native) else {
        return;
    };
    let verified = xdp.verified_instructions().unwrap();
    eprintln!("{verified} instructions are verified");
    assert!((1..=10_000).contains(&verified), "{verified}");
}

/// Most of what it takes is the hash. The least of many turns, since there is more on this machine.
#[test]
fn a_wrong_id_takes_little_time() {
    const TURNS: usize = 40;
    const FRAMES: u32 = 5_000;
    let Some(xdp) = filter(AttachMode::Native) else {
        return;
    };
    let [mut other, forged] = frames(&request(7, 1, 98));
    other.to.set_port(3_001);
    let nanos = |frame: &Frame, expected| {
        let (verdict, _, nanos) = xdp.try_frame(&frame.bytes(), FRAMES).unwrap();
        assert_eq!(verdict, expected);
        nanos
    };
    let turns: Vec<_> = (0..TURNS)
        .map(|_| (nanos(&other, PASS), nanos(&forged, DROP)))
        .collect();
    let passed = turns.iter().map(|(passed, _)| *passed).min().unwrap();
    let dropped = turns.iter().map(|(_, dropped)| *dropped).min().unwrap();
    eprintln!("{passed} ns for another port, {dropped} ns with a wrong id");
    assert!(passed > 0 && dropped <= 5 * passed, "{passed}, {dropped}");
}

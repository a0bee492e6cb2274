//! The filter at real sockets: what comes through, and what is counted.
//!
//! Needs the rights to load programs. Without them nothing is tested, which is a failure under
//! `CI=true`.

#![cfg(target_os = "linux")]

use std::env;
use std::hash::Hasher;
use std::io;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, SystemTime};

use aquatic_xdp::{Counts, DATAGRAM_BYTES_MAX, SocketFilter, Times};
use nix::time::{ClockId, clock_gettime};
use siphasher::sip::SipHasher24;

const KEY: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];
const PROTOCOL_ID: u64 = 0x0417_2710_1980;
const DAY: u64 = 86_400;

/// A socket, and one that sends to it.
struct Pair {
    server: UdpSocket,
    client: UdpSocket,
}

/// The same, where the first one has a filter.
struct Fixture {
    pair: Pair,
    filter: SocketFilter,
}

/// `None`: this process may not.
fn fixture(host: &str) -> Option<Fixture> {
    let pair = Pair::new(host);
    match SocketFilter::load() {
        Ok(filter) => {
            filter.attach(&pair.server).unwrap();
            Some(Fixture { pair, filter })
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

fn now() -> Duration {
    SystemTime::UNIX_EPOCH.elapsed().unwrap()
}

/// By the system's clocks.
fn times() -> Times {
    let monotonic = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap();
    let monotonic = Duration::from(monotonic);
    Times {
        unix_nanos: nanos(now() - monotonic),
        replaced: None,
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap()
}

fn id(ip: IpAddr, second: u64) -> u64 {
    id_by(KEY, ip, second)
}

fn id_by(key: [u64; 2], ip: IpAddr, second: u64) -> u64 {
    let octets = match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    };
    let mut hasher = SipHasher24::new_with_keys(key[0], key[1]);
    hasher.write(&octets);
    hasher.write(&(second & 0xffff_ffff).to_le_bytes()[..4]);
    (second & 0xffff) << 48 | hasher.finish() & 0xffff_ffff_ffff
}

fn packet(id: u64, action: u32, len: usize) -> Vec<u8> {
    let mut bytes = [&id.to_be_bytes()[..], &action.to_be_bytes(), b"abcd"].concat();
    bytes.resize(len, 1);
    bytes
}

/// Datagrams, one of whom has this id, and whether they come through.
fn cases(id: u64) -> [(Vec<u8>, bool); 16] {
    [
        (packet(PROTOCOL_ID, 0, 16), true),
        (packet(PROTOCOL_ID, 0, 60), true),
        (packet(id, 1, 98), true),
        (packet(id, 1, DATAGRAM_BYTES_MAX), true),
        (packet(id, 2, 36), true),
        // User space tells the client what is wrong with it.
        (packet(id, 2, 16), true),
        (packet(id, 1, 97), false),
        (packet(PROTOCOL_ID, 0, 15), false),
        (vec![], false),
        (packet(PROTOCOL_ID + 1, 0, 16), false),
        (packet(PROTOCOL_ID ^ 1 << 40, 0, 16), false),
        (packet(id, 3, 98), false),
        (packet(id, u32::MAX, 98), false),
        (packet(id ^ 1, 1, 98), false),
        (packet(id ^ 1, 2, 36), false),
        (packet(id ^ 1, 2, 16), false),
    ]
}

impl Pair {
    fn new(host: &str) -> Self {
        let server = UdpSocket::bind((host, 0)).unwrap();
        let client = UdpSocket::bind((host, 0)).unwrap();
        client.connect(server.local_addr().unwrap()).unwrap();
        server.set_nonblocking(true).unwrap();
        Self { server, client }
    }

    fn ip(&self) -> IpAddr {
        self.client.local_addr().unwrap().ip()
    }

    /// Whether it comes through. Nothing is on its way at loopback when it has been sent.
    fn passes(&self, bytes: &[u8]) -> bool {
        self.client.send(bytes).unwrap();
        let mut received = [0; 4_096];
        match self.server.recv(&mut received) {
            Ok(len) => {
                assert_eq!(&received[..len], bytes, "changed");
                true
            }
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
                false
            }
        }
    }

    #[track_caller]
    fn assert_only_requests_pass(&self) {
        for (bytes, expected) in cases(id(self.ip(), now().as_secs())) {
            let what = format!(
                "{}: {} bytes, {:?}",
                self.ip(),
                bytes.len(),
                bytes.get(..16)
            );
            assert_eq!(self.passes(&bytes), expected, "{what}");
        }
    }
}

impl Fixture {
    /// What was dropped over the family of this socket.
    fn counts(&self) -> Counts {
        let [v4, v6] = self.filter.counts();
        let (own, other) = if self.pair.ip().is_ipv4() {
            (v4, v6)
        } else {
            (v6, v4)
        };
        assert_eq!(other, Counts::default());
        own
    }
}

#[test]
fn requests_come_through_and_nothing_else_does() {
    for host in ["127.0.0.1", "::1"] {
        let Some(fixture) = fixture(host) else { return };
        fixture.filter.activate(KEY, times(), 0);
        fixture.pair.assert_only_requests_pass();
        let id = id(fixture.pair.ip(), now().as_secs());
        assert!(!fixture.pair.passes(&packet(id, 1, DATAGRAM_BYTES_MAX + 1)));
        assert!(!fixture.pair.passes(&[0xff; 3_000]));
        let expected = Counts {
            too_short: 3,
            too_long: 2,
            unknown_action: 2,
            not_connect: 2,
            announces: 1,
            scrapes: 2,
            bytes: 2_561 + 3_000 + 97 + 15 + 2 * 16 + 98 + 98 + 98 + 36 + 16,
            ..Counts::default()
        };
        assert_eq!(fixture.counts(), expected);
        assert_eq!(expected.dropped(), 12);
    }
}

#[test]
fn until_it_is_activated_everything_comes_through() {
    let Some(fixture) = fixture("127.0.0.1") else {
        return;
    };
    for bytes in [vec![], packet(7, 1, 98), packet(7, 9, 98)] {
        assert!(fixture.pair.passes(&bytes));
    }
    assert_eq!(fixture.counts(), Counts::default());
    fixture.filter.activate(KEY, times(), 0);
    assert!(!fixture.pair.passes(&packet(7, 1, 98)));
    assert_eq!(fixture.counts().announces, 1);
}

#[test]
fn every_changed_bit_of_an_id_is_noticed() {
    for host in ["127.0.0.1", "::1"] {
        let Some(fixture) = fixture(host) else { return };
        fixture.filter.activate(KEY, times(), 0);
        let id = id(fixture.pair.ip(), now().as_secs());
        for bit in 0..64 {
            assert!(
                !fixture.pair.passes(&packet(id ^ 1 << bit, 1, 98)),
                "bit {bit}"
            );
        }
        assert!(fixture.pair.passes(&packet(id, 1, 98)));
    }
}

/// Whether an id has expired is what user space says, which tells the client; but it must not be
/// from another address, and is worth nothing from the day before.
#[test]
fn expired_ids_come_through_to_be_answered() {
    let Some(fixture) = fixture("127.0.0.1") else {
        return;
    };
    fixture.filter.activate(KEY, times(), 0);
    let now = now().as_secs();
    let seconds = [
        now + 50,
        now + 1,
        now - 1,
        now - 120,
        now - 132,
        now - 65_000,
    ];
    for second in seconds {
        assert!(
            fixture
                .pair
                .passes(&packet(id(fixture.pair.ip(), second), 1, 98)),
            "{second}"
        );
        let other = IpAddr::from([127, 0, 0, 2]);
        assert!(
            !fixture.pair.passes(&packet(id(other, second), 1, 98)),
            "{second}"
        );
    }
    for second in [now + 70, now - 65_536, now - DAY] {
        assert!(
            !fixture
                .pair
                .passes(&packet(id(fixture.pair.ip(), second), 1, 98)),
            "{second}"
        );
    }
}

#[test]
fn a_clock_that_was_set_invalidates_nothing_for_a_while() {
    let Some(fixture) = fixture("127.0.0.1") else {
        return;
    };
    let right = times();
    let before = id(fixture.pair.ip(), now().as_secs());
    let after = id(fixture.pair.ip(), now().as_secs() + 30 * DAY);
    fixture.filter.activate(KEY, right, 0);
    let passes = || [before, after].map(|id| fixture.pair.passes(&packet(id, 1, 98)));
    assert_eq!(passes(), [true, false]);
    let set = right.unix_nanos + nanos(Duration::from_secs(30 * DAY));
    let ago = |seconds| nanos(now()) - right.unix_nanos - nanos(Duration::from_secs(seconds));
    for (until, expected) in [(u64::MAX, [true, true]), (ago(1), [false, true])] {
        fixture.filter.set_times(Times {
            unix_nanos: set,
            replaced: Some((right.unix_nanos, until)),
        });
        assert_eq!(passes(), expected);
    }
}

#[test]
fn some_with_wrong_ids_are_let_through_in_each_second() {
    let Some(fixture) = fixture("127.0.0.1") else {
        return;
    };
    let times = times();
    fixture.filter.activate(KEY, times, 5);
    // As the filter counts them.
    let second = || {
        let monotonic = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap();
        (times.unix_nanos + nanos(monotonic.into())) / 1_000_000_000
    };
    for pause in [Duration::ZERO, Duration::from_secs(1)] {
        std::thread::sleep(pause);
        let first = second();
        let passed = (0..100)
            .filter(|_| fixture.pair.passes(&packet(7, 1, 98)))
            .count();
        // Other seconds may begin meanwhile.
        let seconds = usize::try_from(second() - first + 1).unwrap();
        assert!((5..=5 * seconds).contains(&passed), "{passed} in {seconds}");
    }
}

/// The one before goes on as long as nothing replaces it, also when its process has ended.
#[test]
fn a_second_one_replaces_the_first_and_it_can_be_taken_away() {
    let Some(first) = fixture("127.0.0.1") else {
        return;
    };
    first.filter.activate(KEY, times(), 0);
    let wrong = packet(7, 1, 98);
    let second = SocketFilter::load().unwrap();
    second.attach(&first.pair.server).unwrap();
    assert!(first.pair.passes(&wrong), "not activated yet");
    second.activate(KEY, times(), 0);
    assert!(!first.pair.passes(&wrong));
    assert_eq!(first.counts(), Counts::default());
    assert_eq!(second.counts()[0].announces, 1);
    drop(second);
    assert!(!first.pair.passes(&wrong), "it belongs to the socket");
    aquatic_xdp::detach(&first.pair.server.as_fd());
    assert!(first.pair.passes(&wrong));
    aquatic_xdp::detach(&first.pair.server.as_fd());
}

/// What needs no rights.
mod classic {
    use aquatic_xdp::attach_classic;

    use super::*;

    fn attach(pair: &Pair, one_of: u32) {
        let seconds = u32::try_from(now().as_secs()).unwrap();
        attach_classic(&pair.server, pair.ip().is_ipv6(), KEY, seconds, one_of).unwrap();
    }

    #[test]
    fn it_drops_the_same() {
        for host in ["127.0.0.1", "::1"] {
            let pair = Pair::new(host);
            attach(&pair, 1 << 31);
            let ip = pair.ip();
            let now = now().as_secs();
            for ago in [0, 1, 100, 40_000, 64_000] {
                let id = id(ip, now - ago);
                assert!(pair.passes(&packet(id, 1, 98)), "{host} {ago}");
                assert!(pair.passes(&packet(id, 2, 36)));
                for bit in 0..64 {
                    let wrong = packet(id ^ 1 << bit, 1, 98);
                    assert!(!pair.passes(&wrong), "{host} {ago} bit {bit}");
                }
            }
            pair.assert_only_requests_pass();
        }
    }

    /// Keys with all kinds of carries.
    #[test]
    fn it_hashes_as_everybody_does() {
        let pair = Pair::new("127.0.0.1");
        let ip = pair.ip();
        let seconds = now().as_secs();
        for number in 0..200_u64 {
            let key = [number, !number].map(|it| it.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let now = u32::try_from(seconds).unwrap();
            attach_classic(&pair.server, false, key, now, 1 << 31).unwrap();
            let id = id_by(key, ip, seconds - number);
            assert!(pair.passes(&packet(id, 1, 98)), "{number}");
            assert!(!pair.passes(&packet(id ^ 1, 1, 98)), "{number}");
        }
    }

    #[test]
    fn one_of_some_is_let_through() {
        let pair = Pair::new("127.0.0.1");
        for (one_of, expected) in [(1, 1_000..=1_000), (16, 20..=140)] {
            attach(&pair, one_of);
            let passed = (0..1_000).filter(|_| pair.passes(&packet(7, 1, 98)));
            let passed = passed.count();
            assert!(expected.contains(&passed), "{one_of}: {passed}");
        }
    }
}

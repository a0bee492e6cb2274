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

use aquatic_xdp::{Dropped, SocketFilter, Times};
use nix::time::{ClockId, clock_gettime};
use siphasher::sip::SipHasher24;

const KEY: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];
const PROTOCOL_ID: u64 = 0x0417_2710_1980;
const DAY: u64 = 86_400;

/// A socket with a filter, and one that sends to it.
struct Fixture {
    server: UdpSocket,
    client: UdpSocket,
    filter: SocketFilter,
}

/// `None`: this process may not.
fn fixture(host: &str) -> Option<Fixture> {
    let server = UdpSocket::bind((host, 0)).unwrap();
    let client = UdpSocket::bind((host, 0)).unwrap();
    client.connect(server.local_addr().unwrap()).unwrap();
    server.set_nonblocking(true).unwrap();
    match SocketFilter::load() {
        Ok(filter) => {
            filter.attach(&server).unwrap();
            Some(Fixture {
                server,
                client,
                filter,
            })
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

impl Fixture {
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

    /// What was dropped over the family of this socket.
    fn dropped(&self) -> Dropped {
        let [v4, v6] = self.filter.dropped();
        let (own, other) = if self.ip().is_ipv4() {
            (v4, v6)
        } else {
            (v6, v4)
        };
        assert_eq!(other, Dropped::default());
        own
    }
}

#[test]
fn requests_come_through_and_nothing_else_does() {
    for host in ["127.0.0.1", "::1"] {
        let Some(fixture) = fixture(host) else { return };
        fixture.filter.activate(KEY, times(), 0);
        let id = id(fixture.ip(), now().as_secs());
        for (bytes, expected) in [
            (packet(PROTOCOL_ID, 0, 16), true),
            (packet(PROTOCOL_ID, 0, 60), true),
            (packet(id, 1, 98), true),
            (packet(id, 1, 2_000), true),
            (packet(id, 2, 36), true),
            // User space tells the client what is wrong with it.
            (packet(id, 2, 16), true),
            (packet(id, 1, 97), false),
            (packet(PROTOCOL_ID, 0, 15), false),
            (vec![], false),
            (packet(PROTOCOL_ID + 1, 0, 16), false),
            (packet(id, 3, 98), false),
            (packet(id, u32::MAX, 98), false),
            (packet(id ^ 1, 1, 98), false),
            (packet(id ^ 1, 2, 36), false),
            (packet(id ^ 1, 2, 16), false),
        ] {
            let what = format!("{host}: {} bytes, {:?}", bytes.len(), bytes.get(..16));
            assert_eq!(fixture.passes(&bytes), expected, "{what}");
        }
        let expected = Dropped {
            too_short: 3,
            unknown_action: 2,
            not_connect: 1,
            announces: 1,
            scrapes: 2,
            bytes: 97 + 15 + 16 + 98 + 98 + 98 + 36 + 16,
        };
        assert_eq!(fixture.dropped(), expected);
        assert_eq!(expected.datagrams(), 9);
    }
}

#[test]
fn until_it_is_activated_everything_comes_through() {
    let Some(fixture) = fixture("127.0.0.1") else {
        return;
    };
    for bytes in [vec![], packet(7, 1, 98), packet(7, 9, 98)] {
        assert!(fixture.passes(&bytes));
    }
    assert_eq!(fixture.dropped(), Dropped::default());
    fixture.filter.activate(KEY, times(), 0);
    assert!(!fixture.passes(&packet(7, 1, 98)));
    assert_eq!(fixture.dropped().announces, 1);
}

#[test]
fn every_changed_bit_of_an_id_is_noticed() {
    for host in ["127.0.0.1", "::1"] {
        let Some(fixture) = fixture(host) else { return };
        fixture.filter.activate(KEY, times(), 0);
        let id = id(fixture.ip(), now().as_secs());
        for bit in 0..64 {
            assert!(!fixture.passes(&packet(id ^ 1 << bit, 1, 98)), "bit {bit}");
        }
        assert!(fixture.passes(&packet(id, 1, 98)));
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
            fixture.passes(&packet(id(fixture.ip(), second), 1, 98)),
            "{second}"
        );
        let other = IpAddr::from([127, 0, 0, 2]);
        assert!(
            !fixture.passes(&packet(id(other, second), 1, 98)),
            "{second}"
        );
    }
    for second in [now + 70, now - 65_536, now - DAY] {
        assert!(
            !fixture.passes(&packet(id(fixture.ip(), second), 1, 98)),
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
    let before = id(fixture.ip(), now().as_secs());
    let after = id(fixture.ip(), now().as_secs() + 30 * DAY);
    fixture.filter.activate(KEY, right, 0);
    let passes = || [before, after].map(|id| fixture.passes(&packet(id, 1, 98)));
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
    fixture.filter.activate(KEY, times(), 5);
    let send = || {
        (0..100)
            .filter(|_| fixture.passes(&packet(7, 1, 98)))
            .count()
    };
    // A second may begin meanwhile.
    let passed = send();
    assert!([5, 10].contains(&passed), "{passed}");
    std::thread::sleep(Duration::from_secs(1));
    let passed = send();
    assert!([5, 10].contains(&passed), "{passed}");
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
    second.attach(&first.server).unwrap();
    assert!(first.passes(&wrong), "not activated yet");
    second.activate(KEY, times(), 0);
    assert!(!first.passes(&wrong));
    assert_eq!(first.dropped(), Dropped::default());
    assert_eq!(second.dropped()[0].announces, 1);
    drop(second);
    assert!(!first.passes(&wrong), "it belongs to the socket");
    aquatic_xdp::detach(&first.server.as_fd());
    assert!(first.passes(&wrong));
    aquatic_xdp::detach(&first.server.as_fd());
}

/// What needs no rights.
mod classic {
    use aquatic_xdp::attach_classic;

    use super::*;

    fn sockets(host: &str) -> (UdpSocket, UdpSocket) {
        let server = UdpSocket::bind((host, 0)).unwrap();
        let client = UdpSocket::bind((host, 0)).unwrap();
        client.connect(server.local_addr().unwrap()).unwrap();
        server.set_nonblocking(true).unwrap();
        (server, client)
    }

    fn passes((server, client): &(UdpSocket, UdpSocket), bytes: &[u8]) -> bool {
        client.send(bytes).unwrap();
        server.recv(&mut [0; 4_096]).is_ok()
    }

    fn attach(sockets: &(UdpSocket, UdpSocket), one_of: u32) {
        let is_ipv6 = sockets.0.local_addr().unwrap().is_ipv6();
        let seconds = u32::try_from(now().as_secs()).unwrap();
        attach_classic(&sockets.0, is_ipv6, KEY, seconds, one_of).unwrap();
    }

    #[test]
    fn it_drops_the_same() {
        for host in ["127.0.0.1", "::1"] {
            let sockets = sockets(host);
            attach(&sockets, 1 << 31);
            let ip = sockets.1.local_addr().unwrap().ip();
            let now = now().as_secs();
            for ago in [0, 1, 100, 40_000, 64_000] {
                let id = id(ip, now - ago);
                assert!(passes(&sockets, &packet(id, 1, 98)), "{host} {ago}");
                assert!(passes(&sockets, &packet(id, 2, 36)));
                for bit in 0..64 {
                    let wrong = packet(id ^ 1 << bit, 1, 98);
                    assert!(!passes(&sockets, &wrong), "{host} {ago} bit {bit}");
                }
            }
            let id = id(ip, now);
            for (bytes, expected) in [
                (packet(PROTOCOL_ID, 0, 16), true),
                (packet(PROTOCOL_ID, 0, 60), true),
                (packet(id, 1, 2_000), true),
                (packet(id, 2, 16), true),
                (packet(id, 1, 97), false),
                (packet(PROTOCOL_ID, 0, 15), false),
                (vec![], false),
                (packet(PROTOCOL_ID + 1, 0, 16), false),
                (packet(PROTOCOL_ID ^ 1 << 40, 0, 16), false),
                (packet(id, 3, 98), false),
                (packet(id, u32::MAX, 98), false),
            ] {
                let what = format!("{host}: {} bytes, {:?}", bytes.len(), bytes.get(..16));
                assert_eq!(passes(&sockets, &bytes), expected, "{what}");
            }
        }
    }

    /// Keys with all kinds of carries.
    #[test]
    fn it_hashes_as_everybody_does() {
        let sockets = sockets("127.0.0.1");
        let ip = sockets.1.local_addr().unwrap().ip();
        let seconds = now().as_secs();
        for number in 0..200_u64 {
            let key = [number, !number].map(|it| it.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let now = u32::try_from(seconds).unwrap();
            attach_classic(&sockets.0, false, key, now, 1 << 31).unwrap();
            let id = id_by(key, ip, seconds - number);
            assert!(passes(&sockets, &packet(id, 1, 98)), "{number}");
            assert!(!passes(&sockets, &packet(id ^ 1, 1, 98)), "{number}");
        }
    }

    #[test]
    fn one_of_some_is_let_through() {
        let sockets = sockets("127.0.0.1");
        for (one_of, expected) in [(1, 1_000..=1_000), (16, 20..=140)] {
            attach(&sockets, one_of);
            let passed = (0..1_000).filter(|_| passes(&sockets, &packet(7, 1, 98)));
            let passed = passed.count();
            assert!(expected.contains(&passed), "{one_of}: {passed}");
        }
    }
}

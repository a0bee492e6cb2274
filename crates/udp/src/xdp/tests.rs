use aquatic_daemon::clock::{Clock, unix_micros};
use aquatic_test_support::skipping::skip;
use aquatic_udp_protocol::ConnectionId;
use aquatic_xdp::frame::{self, Link};

use super::*;
use crate::Now;

/// Verdicts.
const DROP: u32 = 1;
const PASS: u32 = 2;
const TX: u32 = 3;

const LINK: Link = Link {
    from: [2, 0, 0, 0, 0, 1],
    to: [2, 0, 0, 0, 0, 2],
    tag: None,
};

#[test]
fn a_wildcard_is_all_addresses_of_its_family() {
    let host = ["127.0.0.1", "192.0.2.1", "::1", "2001:db8::1"].map(|it| it.parse().unwrap());
    let served = |sockets: &[&str]| {
        let sockets: Vec<_> = sockets.iter().map(|it| it.parse().unwrap()).collect();
        let listeners = listeners(&sockets, &host);
        let listeners = listeners.iter().map(ToString::to_string);
        listeners.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(served(&["0.0.0.0:3"]), "192.0.2.1:3");
    assert_eq!(served(&["[::]:3"]), "[2001:db8::1]:3");
    assert_eq!(served(&["127.0.0.1:3"]), "");
    assert_eq!(served(&["0.0.0.0:3", "192.0.2.1:3"]), "192.0.2.1:3");
    // An address that the host does not have now is not answered for.
    assert_eq!(served(&["192.0.2.1:3", "192.0.2.9:3"]), "192.0.2.1:3");
}

fn framed(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 256];
    let start = frame::payload_offset(&LINK, to.is_ipv6());
    bytes[start..start + payload.len()].copy_from_slice(payload);
    let len = frame::write_headers(&mut bytes, &LINK, from, to, payload.len()).unwrap();
    bytes.truncate(len);
    bytes
}

/// Connect, then announce with its id; and the other way round.
#[test]
fn the_program_gives_and_takes_the_ids_of_the_tracker() {
    let Ok(mut xdp) = Xdp::new(0, 0) else {
        return skip("programs need root: run this test by `sudo`");
    };
    xdp.load_for_trial(AttachMode::Native).unwrap();
    let clock = Clock::start();
    let unix_micros = unix_micros().wrapping_sub(clock.micros());
    let ids = ConnectionIds::new([(); 2].map(|()| fastrand::u64(..)), 120, unix_micros);
    let tracker = ["192.0.2.1:3000", "[2001:db8::1]:3000"].map(|it| it.parse().unwrap());
    assert_eq!(xdp.set_listeners(&tracker), 0);
    let limits = XdpLimits {
        answers_per_second: 1_000,
        errors_per_second: 0,
    };
    let times = shield::times(&ids, clock.zero_nanos());
    xdp.activate(XdpTask::Filter, ids.secret(), times, limits);

    let clients = ["198.51.100.7:1", "[2001:db8:7::9]:1"].map(|it| it.parse().unwrap());
    for (client, tracker) in clients.into_iter().zip(tracker) {
        let connect = [&0x417_2710_1980_u64.to_be_bytes()[..], &[0; 4], b"abcd"].concat();
        let request = framed(client, tracker, &connect);
        let (verdict, answer, _) = xdp.try_frame(&request, 1).unwrap();
        assert_eq!(verdict, TX);
        let given = frame::parse(&answer).unwrap().payload.start + 8;
        let given = ConnectionId(answer[given..given + 8].try_into().unwrap());
        assert!(ids.is_valid(Now::read(clock), client.ip(), given));

        let announce = |id: ConnectionId| {
            let request = [&id.0[..], &1_u32.to_be_bytes(), &[0; 86]].concat();
            let (verdict, ..) = xdp
                .try_frame(&framed(client, tracker, &request), 1)
                .unwrap();
            verdict
        };
        assert_eq!(announce(given), PASS);
        let issued = ids.issue(Now::read(clock), client.ip());
        assert_eq!(announce(issued), PASS);
        for bit in 0..64 {
            let changed = u64::from_be_bytes(issued.0) ^ 1 << bit;
            assert_eq!(announce(ConnectionId(changed.to_be_bytes())), DROP, "{bit}");
        }
        let of_another = ids.issue(Now::read(clock), "192.0.2.99".parse().unwrap());
        assert_eq!(announce(of_another), DROP);
    }
}

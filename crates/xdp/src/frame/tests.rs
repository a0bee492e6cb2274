//! Frames whose sums another program has computed, damaged frames, and any frames.

use std::net::{SocketAddrV4, SocketAddrV6};

use proptest::prelude::*;

use super::*;

const PAYLOAD: &[u8] = b"golden!";

const LINK: Link = Link {
    from: [2, 0, 0, 0, 0, 1],
    to: [2, 0, 0, 0, 0, 2],
    tag: None,
};

const GOLDEN_V4: &str = "020000000002 020000000001 0800 \
    45000023 00004000 40114e8e c0000201 c6336407 \
    c3500bb8 000fea48 676f6c64656e21";

/// With a tag: priority 5, network 7.
const GOLDEN_V6: &str = "020000000002 020000000001 8100 a007 86dd \
    60000000 000f1140 20010db8000000000000000000000001 20010db8007700000000000000000007 \
    c3500bb8 000f7a94 676f6c64656e21";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    let bytes = digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]);
    bytes.map(|byte| u8::try_from(byte).unwrap()).collect()
}

fn golden() -> [(Vec<u8>, Datagram); 2] {
    let v4 = Datagram {
        link: LINK,
        from: "192.0.2.1:50000".parse().unwrap(),
        to: "198.51.100.7:3000".parse().unwrap(),
        payload: 42..49,
    };
    let v6 = Datagram {
        link: Link {
            tag: Some(0xa007),
            ..LINK
        },
        from: "[2001:db8::1]:50000".parse().unwrap(),
        to: "[2001:db8:77::7]:3000".parse().unwrap(),
        payload: 66..73,
    };
    [(bytes(GOLDEN_V4), v4), (bytes(GOLDEN_V6), v6)]
}

fn written(link: &Link, from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0xee; 2_048];
    let start = payload_offset(link, to.is_ipv6());
    frame[start..start + payload.len()].copy_from_slice(payload);
    let len = write_headers(&mut frame, link, from, to, payload.len()).unwrap();
    frame.truncate(len);
    frame
}

/// After bytes were changed, with sums that are right.
fn mended(mut frame: Vec<u8>) -> Vec<u8> {
    let start = ETHERNET_BYTES;
    let end = start + IPV4_BYTES;
    frame[start + 10..start + 12].fill(0);
    let checksum = !Sum::default().add(&frame[start..end]).fold();
    frame[start + 10..start + 12].copy_from_slice(&checksum.to_ne_bytes());
    // None over UDP.
    frame[end + 6..end + 8].fill(0);
    frame
}

fn refusal_of_v4(change: impl FnOnce(&mut Vec<u8>)) -> Result<Datagram, Refused> {
    let mut frame = bytes(GOLDEN_V4);
    change(&mut frame);
    parse(&mended(frame))
}

#[test]
fn golden_frames_are_read() {
    for (frame, datagram) in golden() {
        assert_eq!(parse(&frame).as_ref(), Ok(&datagram));
        assert_eq!(&frame[datagram.payload], PAYLOAD);
    }
}

#[test]
fn golden_frames_are_written() {
    for (frame, Datagram { link, from, to, .. }) in golden() {
        assert_eq!(written(&link, from, to, PAYLOAD), frame);
    }
}

#[test]
fn what_fills_up_a_short_frame_is_no_part_of_it() {
    for (mut frame, datagram) in golden() {
        frame.extend([0xff; 11]);
        assert_eq!(parse(&frame), Ok(datagram));
    }
}

#[test]
fn a_frame_that_ends_early_is_refused() {
    for (frame, _) in golden() {
        for len in 0..frame.len() {
            assert_eq!(parse(&frame[..len]), Err(Refused::TooShort), "{len}");
        }
    }
}

#[test]
fn a_flipped_bit_is_noticed_or_harmless() {
    for (frame, datagram) in golden() {
        let ip_start = datagram.link.header_bytes();
        let mut harmless = 0;
        for bit in ip_start * 8..frame.len() * 8 {
            let mut frame = frame.clone();
            frame[bit / 8] ^= 1 << (bit % 8);
            if let Ok(read) = parse(&frame) {
                assert_eq!((&read, &frame[read.payload.clone()]), (&datagram, PAYLOAD));
                harmless += 1;
            }
        }
        // Over IPv6 class, flow and hops have no checksum. Over IPv4 everything has one.
        let expected = match datagram.from {
            SocketAddr::V4(_) => 0,
            SocketAddr::V6(_) => 28 + 8,
        };
        assert_eq!(harmless, expected);
    }
}

#[test]
fn a_checksum_may_lack_over_ipv4_only() {
    for (mut frame, datagram) in golden() {
        let end = datagram.payload.start;
        frame[end - 2..end].fill(0);
        let expected = match datagram.from {
            SocketAddr::V4(_) => Ok(datagram),
            SocketAddr::V6(_) => Err(Refused::WrongChecksum),
        };
        assert_eq!(parse(&frame), expected);
    }
}

#[test]
fn a_checksum_may_be_left_to_the_network_card() {
    for (mut frame, datagram) in golden() {
        let Range { start, end } = datagram.payload;
        let len = u8::try_from(UDP_BYTES + PAYLOAD.len()).unwrap();
        let addresses = match datagram.from {
            SocketAddr::V4(_) => frame[start - 16..start - 8].to_vec(),
            SocketAddr::V6(_) => frame[start - 40..start - 8].to_vec(),
        };
        let partial = Sum::default().add(&addresses).add(&[0, UDP, 0, len]).fold();
        frame[start - 2..start].copy_from_slice(&partial.to_ne_bytes());
        assert_eq!(parse(&frame), Ok(datagram));
        // Nothing covers what is in it.
        frame[end - 1] ^= 1;
        assert!(parse(&frame).is_ok());
        frame[start - 1] ^= 1;
        assert_eq!(parse(&frame), Err(Refused::WrongChecksum));
    }
}

#[test]
fn a_checksum_of_zero_is_never_sent() {
    for (_, Datagram { link, from, to, .. }) in golden() {
        let frame = written(&link, from, to, &[0, 0]);
        let at = frame.len() - 4;
        let checksum = u16::from_be_bytes([frame[at], frame[at + 1]]);
        // With this payload, the sum of all is zero.
        let frame = written(&link, from, to, &checksum.to_be_bytes());
        assert_eq!(frame[at..at + 2], [0xff, 0xff]);
        assert!(parse(&frame).is_ok());
    }
}

#[test]
fn a_frame_for_a_group_or_from_one_is_refused() {
    for (frame, _) in golden() {
        for at in [0, 6] {
            let mut frame = frame.clone();
            frame[at] |= 1;
            assert_eq!(parse(&frame), Err(Refused::GroupFrame));
        }
    }
}

#[test]
fn other_protocols_are_told_apart() {
    let arp = refusal_of_v4(|frame| frame[13] = 6);
    assert_eq!(arp, Err(Refused::NotIp));
    assert_eq!(
        refusal_of_v4(|frame| frame[14] = 0x65),
        Err(Refused::NotIp),
        "version 6"
    );
    assert_eq!(refusal_of_v4(|frame| frame[23] = 6), Err(Refused::NotUdp));
    assert_eq!(
        refusal_of_v4(|frame| frame[14] = 0x46),
        Err(Refused::NotUdp),
        "options"
    );
    for (next, expected) in [(44, Refused::Fragment), (0, Refused::NotUdp)] {
        let mut frame = bytes(GOLDEN_V6);
        frame[24] = next;
        assert_eq!(parse(&frame), Err(expected));
    }
    let mut tagged_twice = bytes(GOLDEN_V6);
    tagged_twice.splice(12..12, [0x81, 0x00, 0, 1]);
    assert_eq!(parse(&tagged_twice), Err(Refused::NotIp));
}

#[test]
fn parts_of_packets_are_refused() {
    for (at, value) in [(20, 0x20), (20, 0x60), (20, 0x10), (21, 1)] {
        let part = refusal_of_v4(|frame| frame[at] = value);
        assert_eq!(part, Err(Refused::Fragment), "{at} {value}");
    }
    // Nobody follows, and it is the first: it is the whole.
    for value in [0, 0x40] {
        assert!(refusal_of_v4(|frame| frame[20] = value).is_ok(), "{value}");
    }
}

#[test]
fn lengths_have_to_agree() {
    // Of the packet, then of the datagram: one less, one more, and less than the header of UDP.
    for (at, value) in [
        (17, 34),
        (39, 14),
        (39, 16),
        (39, 7),
        (38, 1),
        (17, 27),
        (17, 19),
    ] {
        let wrong = refusal_of_v4(|frame| frame[at] = value);
        assert_eq!(wrong, Err(Refused::WrongLength), "{at} {value}");
    }
    let longer = refusal_of_v4(|frame| frame[17] += 1);
    assert_eq!(longer, Err(Refused::TooShort));
    for (at, value) in [(23, 14), (23, 7), (23, 0), (63, 14), (63, 16)] {
        let mut frame = bytes(GOLDEN_V6);
        frame[at] = value;
        assert_eq!(parse(&frame), Err(Refused::WrongLength), "{at} {value}");
    }
}

#[test]
fn who_cannot_be_answered_is_refused() {
    let special = [
        "0.0.0.0",
        "0.1.2.3",
        "127.0.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "ff02::1",
        "::ffff:192.0.2.1",
    ];
    for ip in special {
        let ip: IpAddr = ip.parse().unwrap();
        let other: SocketAddr = match ip {
            IpAddr::V4(_) => "192.0.2.1:9".parse().unwrap(),
            IpAddr::V6(_) => "[2001:db8::1]:9".parse().unwrap(),
        };
        let ip = SocketAddr::new(ip, 9);
        for (from, to) in [(ip, other), (other, ip)] {
            let frame = written(&LINK, from, to, PAYLOAD);
            assert_eq!(parse(&frame), Err(Refused::WrongAddress), "{from} {to}");
        }
        let nowhere = SocketAddr::new(other.ip(), 0);
        for (from, to) in [(nowhere, other), (other, nowhere)] {
            let frame = written(&LINK, from, to, PAYLOAD);
            assert_eq!(parse(&frame), Err(Refused::WrongAddress), "{from} {to}");
        }
    }
}

#[test]
fn headers_are_written_only_where_they_belong() {
    let [(_, v4), (_, v6)] = golden();
    let mut frame = [0; 128];
    assert_eq!(
        write_headers(&mut frame, &LINK, v4.from, v6.to, 1),
        None,
        "two families"
    );
    for (datagram, room) in [(&v4, 42 + 9), (&v6, 66 + 9)] {
        let Datagram { link, from, to, .. } = datagram;
        let frame = &mut frame[..room];
        assert_eq!(write_headers(frame, link, *from, *to, 9), Some(room));
        assert_eq!(write_headers(frame, link, *from, *to, 10), None);
        assert_eq!(write_headers(frame, link, *from, *to, usize::MAX), None);
    }
    // More than the header of IP can say.
    let mut frame = vec![0; 70_000];
    assert!(write_headers(&mut frame, &LINK, v4.from, v4.to, 65_507).is_some());
    assert_eq!(
        write_headers(&mut frame, &LINK, v4.from, v4.to, 65_508),
        None
    );
    assert!(write_headers(&mut frame, &LINK, v6.from, v6.to, 65_527).is_some());
    assert_eq!(
        write_headers(&mut frame, &LINK, v6.from, v6.to, 65_528),
        None
    );
}

#[test]
fn each_reason_has_a_place_of_its_own() {
    for (place, reason) in Refused::ALL.into_iter().enumerate() {
        assert_eq!(reason.index(), place);
    }
}

prop_compose! {
    fn links()(
        from: [u8; 6],
        to: [u8; 6],
        tag: Option<u16>,
    ) -> Link {
        let one = |[first, rest @ ..]: [u8; 6]| {
            let mut mac = [first & !GROUP; 6];
            mac[1..].copy_from_slice(&rest);
            mac
        };
        Link { from: one(from), to: one(to), tag }
    }
}

fn addresses() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
    let ports = (1..=u16::MAX, 1..=u16::MAX);
    (any::<bool>(), any::<[u128; 2]>(), ports).prop_map(|(is_ipv6, ips, (from, to))| {
        let address = |ip: u128, port| match is_ipv6 {
            // Global ones.
            true => {
                let ip = ip & !(0b111 << 125) | 0b001 << 125;
                SocketAddr::V6(SocketAddrV6::new(ip.into(), port, 0, 0))
            }
            false => {
                let [first, second, third, fourth, ..] = ip.to_be_bytes();
                let ip = Ipv4Addr::new(1 + first % 126, second, third, fourth);
                SocketAddr::V4(SocketAddrV4::new(ip, port))
            }
        };
        (address(ips[0], from), address(ips[1], to))
    })
}

proptest! {
    #[test]
    fn an_answer_is_read_as_it_was_written(
        link in links(),
        (from, to) in addresses(),
        payload in prop::collection::vec(any::<u8>(), 0..1_401),
    ) {
        let frame = written(&link, from, to, &payload);
        let read = parse(&frame).unwrap();
        prop_assert_eq!(read.payload.start, payload_offset(&link, to.is_ipv6()));
        prop_assert_eq!(&frame[read.payload.clone()], &payload);
        prop_assert_eq!((read.from, read.to, read.link), (from, to, link));
        let answer = written(&read.link.reversed(), read.to, read.from, &payload);
        let answer = parse(&answer).unwrap();
        prop_assert_eq!((answer.from, answer.to), (to, from));
        prop_assert_eq!((answer.link.from, answer.link.to), (link.to, link.from));
        prop_assert_eq!(answer.link.tag, link.tag);
    }

    #[test]
    fn no_bytes_make_it_panic(
        start in prop::sample::select(vec![GOLDEN_V4, GOLDEN_V6, ""]),
        kept in 0..80_usize,
        rest in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let mut frame = bytes(start);
        frame.truncate(kept);
        frame.extend(rest);
        if let Ok(datagram) = parse(&frame) {
            prop_assert!(frame.get(datagram.payload).is_some());
        }
    }

    #[test]
    fn any_change_of_good_headers_is_survived(
        is_ipv6: bool,
        changes in prop::collection::vec((0..74_usize, any::<u8>()), 1..4),
    ) {
        let mut frame = bytes(if is_ipv6 { GOLDEN_V6 } else { GOLDEN_V4 });
        for (at, value) in changes {
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
        }
        if let Ok(datagram) = parse(&frame) {
            prop_assert!(frame.get(datagram.payload).is_some());
        }
    }
}

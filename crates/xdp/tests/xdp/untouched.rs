//! What goes on untouched, since it is not for the tracker, or not simple enough.

use aquatic_xdp::{AttachMode, Counts};

use super::*;

/// A frame with some bytes changed.
fn changed(frame: &Frame, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = frame.bytes();
    change(&mut bytes);
    bytes
}

#[test]
fn frames_that_are_not_simple_go_on() {
    let Some(xdp) = filter(AttachMode::Native) else {
        return;
    };
    let [v4, v6] = frames(&connect());
    let (ip, udp_v4, udp_v6) = (14, 34, 54);
    let frames = [
        (
            "a fragment with more to come",
            changed(&v4, |it| it[ip + 6] |= 0x20),
        ),
        ("a last fragment", changed(&v4, |it| it[ip + 7] = 1)),
        ("options", changed(&v4, |it| it[ip] = 0x46)),
        ("version 5", changed(&v4, |it| it[ip] = 0x55)),
        ("TCP", changed(&v4, |it| it[ip + 9] = 6)),
        (
            "a longer packet than frame",
            changed(&v4, |it| it[ip + 3] += 30),
        ),
        (
            "a shorter packet than its header",
            changed(&v4, |it| it[ip + 3] = 19),
        ),
        (
            "a packet without a whole header of UDP",
            changed(&v4, |it| it[ip + 3] = 27),
        ),
        ("UDP says more", changed(&v4, |it| it[udp_v4 + 5] += 1)),
        ("UDP says less", changed(&v4, |it| it[udp_v4 + 5] -= 1)),
        (
            "from nowhere",
            changed(&v4, |it| it[ip + 12..ip + 16].fill(0)),
        ),
        ("from this host", changed(&v4, |it| it[ip + 12] = 127)),
        ("from a group", changed(&v4, |it| it[ip + 12] = 224)),
        (
            "from all",
            changed(&v4, |it| it[ip + 12..ip + 16].fill(255)),
        ),
        ("another address", changed(&v4, |it| it[ip + 19] = 2)),
        ("another port", changed(&v4, |it| it[udp_v4 + 3] ^= 1)),
        ("to a group of hosts", changed(&v4, |it| it[0] |= 1)),
        (
            "ARP",
            changed(&v4, |it| it[12..14].copy_from_slice(&[8, 6])),
        ),
        (
            "two tags",
            changed(&v4, |it| it[12..14].copy_from_slice(&[0x88, 0xa8])),
        ),
        ("hop-by-hop options", changed(&v6, |it| it[ip + 6] = 0)),
        ("a fragment of IPv6", changed(&v6, |it| it[ip + 6] = 44)),
        ("version 4 in 6", changed(&v6, |it| it[ip] = 0x40)),
        (
            "a longer packet of IPv6",
            changed(&v6, |it| it[ip + 5] += 9),
        ),
        ("no header of UDP", changed(&v6, |it| it[ip + 5] = 7)),
        (
            "UDP says more over IPv6",
            changed(&v6, |it| it[udp_v6 + 5] += 1),
        ),
        ("from ::", changed(&v6, |it| it[ip + 8..ip + 24].fill(0))),
        ("from a group of IPv6", changed(&v6, |it| it[ip + 8] = 0xff)),
        (
            "another address of IPv6",
            changed(&v6, |it| it[ip + 39] = 2),
        ),
        (
            "another port over IPv6",
            changed(&v6, |it| it[udp_v6 + 3] ^= 1),
        ),
    ];
    for (what, bytes) in frames {
        assert_eq!(verdict(&xdp, &bytes), PASS, "{what}");
    }
    for frame in [&v4, &v6] {
        let bytes = frame.bytes();
        for len in 14..bytes.len() {
            assert_eq!(verdict(&xdp, &bytes[..len]), PASS, "cut to {len}");
        }
    }
    let twice_tagged = changed(
        &Frame {
            tag: Some(1),
            ..v4.clone()
        },
        |it| {
            it[16..18].copy_from_slice(&[0x81, 0]);
        },
    );
    assert_eq!(verdict(&xdp, &twice_tagged), PASS);
    assert_counts(&xdp, [Counts::default(); 2]);
    // The same without a change.
    assert_eq!(
        [verdict(&xdp, &v4.bytes()), verdict(&xdp, &v6.bytes())],
        [TX; 2]
    );
}

#[test]
fn it_follows_where_the_tracker_listens() {
    let Some(xdp) = filter(AttachMode::Native) else {
        return;
    };
    let address = |number: u16| -> SocketAddr {
        let [high, low] = number.to_be_bytes();
        match number % 2 {
            0 => ([192, 0, high, low], 1 + number).into(),
            _ => ([0x2001, 0xdb8, 0, 0, 0, 0, 0, number], 1 + number).into(),
        }
    };
    let is_served = |number: u16| {
        let to = address(number);
        let [v4, v6] = clients();
        let from = if to.is_ipv4() { v4 } else { v6 };
        verdict(&xdp, &Frame::new(from, to, connect()).bytes()) == TX
    };
    // A host with very many addresses, which come and go.
    for range in [0..300, 150..450, 400..700, 0..0, 0..5] {
        let listeners: Vec<_> = range.clone().map(address).collect();
        assert_eq!(xdp.set_listeners(&listeners), 0);
        for number in 0..700 {
            assert_eq!(
                is_served(number),
                range.contains(&number),
                "{range:?} {number}"
            );
        }
    }
    // More than there is room for.
    let listeners: Vec<_> = (0..2_000).map(address).collect();
    let homeless = xdp.set_listeners(&listeners);
    let served = (0..2_000).filter(|it| is_served(*it)).count();
    assert!(
        (976..1_500).contains(&homeless) && served + homeless == 2_000,
        "{homeless}"
    );
}

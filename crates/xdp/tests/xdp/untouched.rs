//! What goes on untouched, since it is not for the tracker, or not simple enough.

use aquatic_xdp::{AttachMode, Counts};

use super::*;

/// Where headers begin in a frame without a tag.
const IP: usize = 14;
const UDP_V4: usize = 34;
const UDP_V6: usize = 54;

/// What is wrong with a frame, and what is changed for that.
type Change = (&'static str, fn(&mut [u8]));

const CHANGES_V4: [Change; 20] = [
    ("a fragment with more to come", |it| it[IP + 6] |= 0x20),
    ("a last fragment", |it| it[IP + 7] = 1),
    ("options", |it| it[IP] = 0x46),
    ("version 5", |it| it[IP] = 0x55),
    ("TCP", |it| it[IP + 9] = 6),
    ("a longer packet than frame", |it| it[IP + 3] += 30),
    ("a shorter packet than its header", |it| it[IP + 3] = 19),
    ("no whole header of UDP", |it| it[IP + 3] = 27),
    ("UDP says more", |it| it[UDP_V4 + 5] += 1),
    ("UDP says less", |it| it[UDP_V4 + 5] -= 1),
    ("from nowhere", |it| it[IP + 12..IP + 16].fill(0)),
    ("from this host", |it| it[IP + 12] = 127),
    ("from a group", |it| it[IP + 12] = 224),
    ("from all", |it| it[IP + 12..IP + 16].fill(255)),
    ("another address", |it| it[IP + 19] = 2),
    ("another port", |it| it[UDP_V4 + 3] ^= 1),
    ("to a group of hosts", |it| it[0] |= 1),
    ("from a group of hosts", |it| it[6] |= 1),
    ("ARP", |it| it[12..14].copy_from_slice(&[8, 6])),
    ("two tags", |it| it[12..14].copy_from_slice(&[0x88, 0xa8])),
];

const CHANGES_V6: [Change; 12] = [
    ("hop-by-hop options", |it| it[IP + 6] = 0),
    ("a fragment", |it| it[IP + 6] = 44),
    ("version 4", |it| it[IP] = 0x40),
    ("a longer packet than frame", |it| it[IP + 5] += 9),
    ("no whole header of UDP", |it| it[IP + 5] = 7),
    ("UDP says more", |it| it[UDP_V6 + 5] += 1),
    ("from ::", |it| it[IP + 8..IP + 24].fill(0)),
    ("from ::1", |it| {
        it[IP + 8..IP + 23].fill(0);
        it[IP + 23] = 1;
    }),
    ("from an address of IPv4", |it| {
        it[IP + 8..IP + 18].fill(0);
        it[IP + 18..IP + 20].fill(0xff);
    }),
    ("from a group", |it| it[IP + 8] = 0xff),
    ("another address", |it| it[IP + 39] = 2),
    ("another port", |it| it[UDP_V6 + 3] ^= 1),
];

#[test]
fn frames_that_are_not_simple_go_on() {
    let Some(xdp) = filter(AttachMode::Native) else {
        return;
    };
    let [v4, v6] = frames(&connect());
    for (frame, changes) in [(&v4, &CHANGES_V4[..]), (&v6, &CHANGES_V6[..])] {
        let whole = frame.bytes();
        for (what, change) in changes {
            let mut bytes = whole.clone();
            change(&mut bytes);
            assert_eq!(verdict(&xdp, &bytes), PASS, "{what}");
        }
        for len in 14..whole.len() {
            assert_eq!(verdict(&xdp, &whole[..len]), PASS, "cut to {len}");
        }
    }
    let tag = Some(1);
    let mut twice_tagged = Frame { tag, ..v4.clone() }.bytes();
    twice_tagged[16..18].copy_from_slice(&[0x81, 0]);
    assert_eq!(verdict(&xdp, &twice_tagged), PASS);
    assert_counts(&xdp, [Counts::default(); 2]);
    // The same without a change.
    let frames = [v4, v6].map(|frame| verdict(&xdp, &frame.bytes()));
    assert_eq!(frames, [TX; 2]);
}

#[test]
fn it_follows_where_the_tracker_listens() {
    let Some(xdp) = filter(AttachMode::Native) else {
        return;
    };
    let address = |number: u16| -> SocketAddr {
        let [high, low] = number.to_be_bytes();
        match number % 2 {
            0 => ([192, 0, high, low], 3_000).into(),
            _ => ([0x2001, 0xdb8, 0, 0, 0, 0, 0, number], 3_000).into(),
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
    let listeners: Vec<_> = (0..6_000).map(address).collect();
    let homeless = xdp.set_listeners(&listeners);
    let served = (0..6_000).filter(|it| is_served(*it)).count();
    assert!(
        (1_904..3_500).contains(&homeless) && served + homeless == 6_000,
        "{homeless}"
    );
}

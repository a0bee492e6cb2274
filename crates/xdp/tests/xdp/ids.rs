//! Connection ids: those that are given, and those that are taken.

use std::hash::Hasher;
use std::net::IpAddr;

use aquatic_xdp::{AttachMode, Counts, DATAGRAM_BYTES_MAX, Times, XdpLimits, XdpTask};
use siphasher::sip::SipHasher24;

use super::*;

/// Seconds that have begun when no processor can have two of which it has begun to count one only.
/// This thread goes from one to another at times, and shows nothing then, so there are more.
fn seconds() -> (u64, u64) {
    let processors = std::thread::available_parallelism().unwrap().get();
    let enough = u64::try_from(processors).unwrap() + 1;
    (enough, 10 * enough)
}

fn id(ip: IpAddr, second: u64) -> u64 {
    let octets = match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    };
    let mut hasher = SipHasher24::new_with_keys(KEY[0], KEY[1]);
    hasher.write(&octets);
    hasher.write(&(second & 0xffff_ffff).to_le_bytes()[..4]);
    (second & 0xffff) << 48 | hasher.finish() & 0xffff_ffff_ffff
}

/// The first bytes of a frame afterwards are the answer; what fills up a short one may be anything.
#[track_caller]
fn assert_answered(xdp: &Xdp, frame: &Frame, payload: Vec<u8>, tries: &mut u64) {
    let bytes = frame.bytes();
    let (verdict, after) = try_in_second(xdp, &bytes, tries);
    assert_eq!(verdict, TX);
    let expected = frame.answer(payload).bytes();
    assert!(after.starts_with(&expected), "{after:x?}, {expected:x?}");
    assert_eq!(after.len(), expected.len().max(60.min(bytes.len())));
}

/// Of one frame all that it can be wrapped in.
fn wrapped(frame: &Frame) -> impl Iterator<Item = Frame> {
    [
        (None, false),
        (Some(7), false),
        (None, true),
        (Some(7), true),
    ]
    .map(|(tag, is_partial)| Frame {
        tag,
        is_partial,
        ..frame.clone()
    })
    .into_iter()
}

#[test]
fn connects_are_answered_byte_for_byte() {
    for mode in [AttachMode::Native, AttachMode::Generic] {
        let Some(xdp) = filter(mode) else { return };
        let mut connects = [0; 2];
        let mut bytes_of_v6 = 0;
        for len in [16_usize, 17, 18, 31, 60, 400] {
            let len_bytes = u64::try_from(len).unwrap();
            let [v4, v6] = frames(&request(PROTOCOL_ID, 0, len));
            for mut frame in wrapped(&v4).chain(wrapped(&v6)) {
                let id = id(frame.from.ip(), UNIX_SECONDS);
                let payload = [&[0; 4][..], b"abcd", &id.to_be_bytes()].concat();
                let is_partial = frame.is_partial && mode == AttachMode::Generic;
                let bytes = frame.bytes();
                frame.is_partial = is_partial;
                let mut tries = 0;
                let (verdict, after) = try_in_second(&xdp, &bytes, &mut tries);
                assert_eq!(verdict, TX);
                let expected = frame.answer(payload).bytes();
                assert!(after.starts_with(&expected), "{after:x?}, {expected:x?}");
                assert_eq!(after.len(), expected.len().max(60.min(bytes.len())));
                let is_v6 = frame.from.is_ipv6();
                connects[usize::from(is_v6)] += tries;
                bytes_of_v6 += u64::from(is_v6) * tries * len_bytes;
            }
        }
        let [v4, v6] = xdp.counts();
        assert_eq!([v4.connects, v6.connects], connects);
        assert_eq!(v4.sent_bytes, 16 * v4.connects);
        assert_eq!(v6.bytes, bytes_of_v6);
    }
}

/// A client may leave the sum out over IPv4, and gets one nevertheless.
#[test]
fn a_request_without_a_sum_is_answered_with_one() {
    for mode in [AttachMode::Native, AttachMode::Generic] {
        let Some(xdp) = filter(mode) else { return };
        let [frame, _] = frames(&connect());
        let mut bytes = frame.bytes();
        let place = frame.udp_start() + 6;
        bytes[place..place + 2].fill(0);
        let (verdict, after) = try_in_second(&xdp, &bytes, &mut 0);
        let id = id(frame.from.ip(), UNIX_SECONDS);
        let payload = [&[0; 4][..], b"abcd", &id.to_be_bytes()].concat();
        assert_eq!((verdict, after), (TX, frame.answer(payload).bytes()));
    }
}

#[test]
fn ids_are_taken_from_their_address_and_of_the_last_hours() {
    let Some(xdp) = filter(AttachMode::Native) else {
        return;
    };
    let mut forged = [0; 2];
    for (frame, forged) in frames(&[]).into_iter().zip(&mut forged) {
        let with = |id: u64, action, len| {
            let payload = request(id, action, len);
            Frame {
                payload,
                ..frame.clone()
            }
            .bytes()
        };
        let own = frame.from.ip();
        // Whether they have expired is for user space to see.
        for age in [0, 1, 130, 131, 3_600, 65_000] {
            let id = id(own, UNIX_SECONDS - age);
            for (action, len) in [(1, 98), (1, 400), (2, 36), (2, 16), (2, 1_400)] {
                assert_eq!(verdict(&xdp, &with(id, action, len)), PASS, "{age} {len}");
            }
        }
        for ahead in [1, 60] {
            let id = id(own, UNIX_SECONDS + ahead);
            assert_eq!(verdict(&xdp, &with(id, 1, 98)), PASS, "{ahead}");
        }
        for wrong in [
            id(own, UNIX_SECONDS - 65_536),
            id(own, UNIX_SECONDS + 62),
            id("198.51.100.8".parse().unwrap(), UNIX_SECONDS),
            id("2001:470:1:2::8".parse().unwrap(), UNIX_SECONDS),
            0,
            u64::MAX,
        ] {
            let (verdict, _) = try_in_second(&xdp, &with(wrong, 1, 98), forged);
            assert_eq!(verdict, DROP, "{wrong:x}");
        }
        for bit in 0..64 {
            let wrong = id(own, UNIX_SECONDS) ^ 1 << bit;
            assert_eq!(verdict(&xdp, &with(wrong, 1, 98)), DROP, "{bit}");
            assert_eq!(verdict(&xdp, &with(wrong, 2, 36)), DROP, "{bit}");
        }
    }
    let counts = forged.map(|forged| Counts {
        announces: forged + 64,
        scrapes: 64,
        bytes: 98 * (forged + 64) + 36 * 64,
        ..Counts::default()
    });
    assert_counts(&xdp, counts);
}

#[test]
fn an_id_of_the_time_before_the_clock_was_set_is_taken_for_a_while() {
    let Some(xdp) = filter(AttachMode::Native) else {
        return;
    };
    let frames = |xdp: &Xdp, second| {
        frames(&[]).map(|mut frame| {
            frame.payload = request(id(frame.from.ip(), second), 1, 98);
            verdict(xdp, &frame.bytes())
        })
    };
    let before = times(UNIX_SECONDS);
    let set = |until| Times {
        replaced: Some((before.unix_nanos, until)),
        ..times(UNIX_SECONDS - 100_000)
    };
    xdp.set_times(set(nanos() + 60_000_000_000));
    assert_eq!(frames(&xdp, UNIX_SECONDS - 100_000), [PASS; 2]);
    assert_eq!(frames(&xdp, UNIX_SECONDS), [PASS; 2]);
    xdp.set_times(set(nanos() - 1_000_000_000));
    assert_eq!(frames(&xdp, UNIX_SECONDS - 100_000), [PASS; 2]);
    assert_eq!(frames(&xdp, UNIX_SECONDS), [DROP; 2]);
}

#[test]
fn what_is_no_request_is_dropped_and_counted() {
    let Some(xdp) = filter(AttachMode::Native) else {
        return;
    };
    for mut frame in frames(&[]) {
        let id = id(frame.from.ip(), UNIX_SECONDS);
        for (payload, port, expected) in [
            (vec![], 1, DROP),
            (request(PROTOCOL_ID, 0, 15), 1, DROP),
            (request(id, 1, 97), 1, DROP),
            (request(PROTOCOL_ID + 1, 0, 16), 1, DROP),
            (request(PROTOCOL_ID ^ 1 << 40, 0, 16), 1, DROP),
            (request(id, 3, 98), 1, DROP),
            (request(id, u32::MAX, 98), 1, DROP),
            (request(id, 1 << 24, 98), 1, DROP),
            (request(id, 1, DATAGRAM_BYTES_MAX), 1, PASS),
            (request(id, 1, DATAGRAM_BYTES_MAX + 1), 1, DROP),
            (vec![0xff; DATAGRAM_BYTES_MAX + 1], 1, DROP),
            (request(id, 1, 98), 0, DROP),
            (connect(), 0, DROP),
            (connect(), 1, TX),
            (request(id, 1, 98), 1, PASS),
        ] {
            frame.from.set_port(port);
            frame.payload = payload;
            assert_eq!(verdict(&xdp, &frame.bytes()), expected, "{frame:?}");
        }
    }
    let counts = Counts {
        too_short: 3,
        too_long: 2,
        not_connect: 2,
        unknown_action: 3,
        source_port_zero: 2,
        connects: 1,
        bytes: 15 + 97 + 16 + 16 + 3 * 98 + 2 * 2_561 + 98 + 16 + 16,
        sent_bytes: 16,
        ..Counts::default()
    };
    assert_counts(&xdp, [counts; 2]);
    assert_eq!(counts.dropped(), 12);
}

#[test]
fn some_with_wrong_ids_are_told_so_in_each_second() {
    let Some(xdp) = filter(AttachMode::Native) else {
        return;
    };
    let limits = XdpLimits {
        errors_per_second: 6,
        ..LIMITS
    };
    xdp.activate(XdpTask::Filter, KEY, times(UNIX_SECONDS), limits);
    let error = [&3_u32.to_be_bytes()[..], b"abcd", b"connection id expired"].concat();
    let (enough, most) = seconds();
    let mut shown = 0;
    for second in 0..most {
        xdp.set_times(times(UNIX_SECONDS + second));
        let before = xdp.counts();
        // What is shorter than the answer gets none.
        for frame in frames(&request(7, 2, 28)) {
            assert_eq!(verdict(&xdp, &frame.bytes()), DROP);
        }
        for (action, len) in [(1, 98), (2, 36), (2, 29)] {
            for frame in frames(&request(7, action, len)) {
                for frame in wrapped(&frame).take(2) {
                    let bytes = frame.bytes();
                    let (verdict, after, _) = xdp.try_frame(&bytes, 1).unwrap();
                    if verdict == TX {
                        assert_eq!(after, frame.answer(error.clone()).bytes());
                    }
                }
            }
        }
        let [v4, v6] = [0, 1].map(|it| xdp.counts()[it].since(&before[it]));
        let told = [v4, v6].map(|it| it.told_announces + it.told_scrapes);
        assert_eq!(v4.sent_bytes + v6.sent_bytes, 29 * told.iter().sum::<u64>());
        assert_eq!(v4.forged() + v6.forged() + told.iter().sum::<u64>(), 14);
        shown += u64::from(told == [4, 2] && v4.told_announces == 2);
    }
    assert!((enough..=most).contains(&shown), "{shown}");
}

#[test]
fn no_more_connects_are_answered_in_a_second_than_may_be() {
    let Some(xdp) = filter(AttachMode::Native) else {
        return;
    };
    let limits = XdpLimits {
        answers_per_second: 100,
        ..LIMITS
    };
    xdp.activate(XdpTask::Filter, KEY, times(UNIX_SECONDS), limits);
    let (enough, most) = seconds();
    let mut shown = 0;
    for second in 0..most {
        xdp.set_times(times(UNIX_SECONDS + second));
        let before = xdp.counts();
        let [frame, _] = frames(&connect());
        let bytes = frame.bytes();
        let answered = (0..1_000).filter(|_| verdict(&xdp, &bytes) == TX).count();
        let now = xdp.counts()[0].since(&before[0]);
        assert_eq!(now.connects, u64::try_from(answered).unwrap());
        assert_eq!(now.connects + now.answer_rate, 1_000);
        shown += u64::from(answered == 100);
    }
    assert!((enough..=most).contains(&shown), "{shown}");
}

/// It would mean that there is none.
#[test]
fn a_sum_of_zero_is_never_sent() {
    let Some(xdp) = filter(AttachMode::Native) else {
        return;
    };
    for mut frame in frames(&connect()) {
        let place = frame.udp_start() + 6;
        frame.payload[12..].fill(0);
        let (_, after) = try_in_second(&xdp, &frame.bytes(), &mut 0);
        // With what is left to zero at the end of the transaction id.
        frame.payload[14..].copy_from_slice(&after[place..place + 2]);
        let (verdict, after) = try_in_second(&xdp, &frame.bytes(), &mut 0);
        assert_eq!(after[place..place + 2], [0xff; 2]);
        let id = id(frame.from.ip(), UNIX_SECONDS).to_be_bytes();
        let payload = [&[0; 4], &frame.payload[12..], &id].concat();
        assert_eq!((verdict, after), (TX, frame.answer(payload).bytes()));
    }
}

#[test]
fn who_only_answers_connects_passes_on_all_else() {
    let Some(xdp) = loaded(AttachMode::Native) else {
        return;
    };
    let [frame, _] = frames(&connect());
    assert_eq!(verdict(&xdp, &frame.bytes()), PASS, "it is not active yet");
    xdp.activate(XdpTask::AnswerConnects, KEY, times(UNIX_SECONDS), LIMITS);
    let mut connects = [0; 2];
    for (frame, tries) in frames(&connect()).iter().zip(&mut connects) {
        let id = id(frame.from.ip(), UNIX_SECONDS);
        let payload = [&[0; 4][..], b"abcd", &id.to_be_bytes()].concat();
        assert_answered(&xdp, frame, payload, tries);
    }
    let others = [
        request(7, 1, 98),
        request(7, 2, 36),
        request(PROTOCOL_ID, 0, 15),
        request(PROTOCOL_ID + 1, 0, 16),
        request(7, 9, 98),
        vec![],
    ];
    for payload in others {
        for frame in frames(&payload) {
            assert_eq!(verdict(&xdp, &frame.bytes()), PASS, "{payload:x?}");
        }
    }
    xdp.control().deactivate();
    for frame in frames(&connect()) {
        assert_eq!(verdict(&xdp, &frame.bytes()), PASS);
    }
    let counts = connects.map(|connects| Counts {
        connects,
        bytes: 16 * connects,
        sent_bytes: 16 * connects,
        ..Counts::default()
    });
    assert_counts(&xdp, counts);
}

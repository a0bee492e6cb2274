use proptest::prelude::*;

use super::*;
use crate::{Batch, BatchError, BatchHeader, Body};

const HEADER: BatchHeader = BatchHeader {
    process: 7,
    sequence: 1,
    unix_millis: 1_790_000_000_000,
};

fn member(number: u8) -> Member {
    Member {
        peer_id: PeerId([number; 20]),
        worker: 0x0102,
        connection: 0x0304_0506_0708_090a,
        network: 0x0b0c_0d0e_0f10_1112,
    }
}

fn offer() -> OfferLetter<'static> {
    OfferLetter {
        info_hash: InfoHash([1; 20]),
        offer_id: [2; 20],
        offerer: member(3),
        family: IpFamily::V6,
        receiver: member(4),
        name: 0x1314_1516_1718_191a,
        json: "{}",
    }
}

fn answer(siblings: Siblings<'_>) -> AnswerLetter<'_> {
    AnswerLetter {
        info_hash: InfoHash([1; 20]),
        offer_id: [2; 20],
        offerer: PeerId([5; 20]),
        answerer: member(6),
        family: IpFamily::V4,
        siblings,
        json: "\"yes\"",
    }
}

const WITHDRAWAL_LETTER: Withdrawal = Withdrawal {
    info_hash: InfoHash([1; 20]),
    receiver: Member {
        peer_id: PeerId([9; 20]),
        worker: 8,
        connection: 7,
        network: 6,
    },
    name: 5,
};

fn written(letter: Letter<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    letter.write(&mut bytes);
    bytes
}

/// A batch with this body, whatever it is.
fn batch_of(body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    BatchBody::new(LETTERS, 0, body.to_vec()).write(&mut bytes, &HEADER);
    bytes
}

/// What is in a parcel with this body.
fn read(body: &[u8]) -> Vec<Result<String, InvalidLetter>> {
    let bytes = batch_of(body);
    let (batch, _) = Batch::parse(&bytes).unwrap();
    let Body::Letters(letters) = batch.body else {
        panic!("{batch:?}");
    };
    letters
        .map(|letter| letter.map(|letter| format!("{letter:?}")))
        .collect()
}

/// Other trackers depend on each byte.
#[test]
fn letters_have_these_bytes() {
    let place = b"\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12";
    let mut expected = b"\x01\0\0\0\x7f".to_vec();
    expected.extend([1; 20]);
    expected.extend([2; 20]);
    expected.extend([3; 20]);
    expected.extend(place);
    expected.push(16);
    expected.extend([4; 20]);
    expected.extend(place);
    expected.extend(b"\x13\x14\x15\x16\x17\x18\x19\x1a{}");
    assert_eq!(written(Letter::Offer(offer())), expected);

    let mut expected = b"\x02\0\0\0\x91".to_vec();
    expected.extend([1; 20]);
    expected.extend([2; 20]);
    expected.extend([5; 20]);
    expected.extend([6; 20]);
    expected.extend(place);
    expected.extend([0, 2]);
    expected.extend([7; 40]);
    expected.extend(b"\"yes\"");
    let siblings = Siblings::new(&[7; 40]).unwrap();
    assert_eq!(written(Letter::Answer(answer(siblings))), expected);

    let mut expected = b"\x03\0\0\0\x42".to_vec();
    expected.extend([1; 20]);
    expected.extend([9; 20]);
    expected.extend(b"\0\x08\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0\x06\0\0\0\0\0\0\0\x05");
    assert_eq!(written(Letter::Withdrawal(WITHDRAWAL_LETTER)), expected);
}

#[test]
fn a_parcel_is_a_batch_of_kind_4_and_keeps_the_order() {
    let mut buffer = LetterBuffer::default();
    assert!(buffer.is_empty());
    let letters = [
        Letter::Answer(answer(Siblings::NONE)),
        Letter::Offer(offer()),
        Letter::Withdrawal(WITHDRAWAL_LETTER),
    ];
    for letter in letters {
        assert!(buffer.push(&written(letter)));
    }
    let body = buffer.take();
    assert_eq!((body.records(), body.holds_peers()), (3, false));
    assert!(buffer.is_empty());
    let mut bytes = Vec::new();
    body.write(&mut bytes, &HEADER);
    assert_eq!(bytes[3], 4);
    let (batch, _) = Batch::parse(&bytes).unwrap();
    let Body::Letters(read) = batch.body else {
        panic!("{batch:?}");
    };
    assert!(read.eq(letters.map(Ok)));
}

/// Cut anywhere, with a length that fits what is left of it.
#[test]
fn an_letter_that_is_too_short_does_not_spoil_the_others() {
    let siblings = Siblings::new(&[7; 40]).unwrap();
    for letter in [
        Letter::Offer(offer()),
        Letter::Answer(answer(siblings)),
        Letter::Withdrawal(WITHDRAWAL_LETTER),
    ] {
        let whole = written(letter);
        let text = match letter {
            Letter::Offer(it) => it.json.len(),
            Letter::Answer(it) => it.json.len(),
            Letter::Withdrawal(_) => 0,
        };
        for length in 0..whole.len() - START_BYTES - text {
            let mut body = vec![whole[0]];
            body.extend(u32::try_from(length).unwrap().to_be_bytes());
            body.extend(&whole[START_BYTES..START_BYTES + length]);
            body.extend(&whole);
            assert_eq!(
                read(&body),
                [Err(InvalidLetter::Length), Ok(format!("{letter:?}"))],
                "{length} bytes"
            );
        }
    }
}

#[test]
fn what_is_wrong_within_an_letter_is_told_apart() {
    let mut long = written(Letter::Withdrawal(WITHDRAWAL_LETTER));
    long.push(0);
    long[4] += 1;
    assert_eq!(read(&long), [Err(InvalidLetter::Length)]);
    let mut garbled = written(Letter::Offer(offer()));
    *garbled.last_mut().unwrap() = 0xff;
    assert_eq!(read(&garbled), [Err(InvalidLetter::Utf8)]);
    let mut crowded = written(Letter::Answer(answer(Siblings::NONE)));
    crowded[START_BYTES + 20 + 20 + 20 + 38 + 1] = 9;
    assert_eq!(read(&crowded), [Err(InvalidLetter::Siblings)]);
    assert_eq!(
        read(b"\x09\0\0\0\x01\0"),
        [Err(InvalidLetter::Unknown(9))],
        "of a later version"
    );
}

#[test]
fn lengths_make_up_the_whole() {
    let mut bodies = Vec::new();
    let whole = written(Letter::Offer(offer()));
    for length in 1..whole.len() {
        bodies.push(whole[..length].to_vec());
    }
    bodies.push([&whole[..], &[1]].concat());
    bodies.push(b"\x03\xff\xff\xff\xff".to_vec());
    for body in bodies {
        let error = Batch::parse(&batch_of(&body)).unwrap_err();
        let bytes = body.len();
        assert_eq!(error, BatchError::BodyLength { kind: 4, bytes });
    }
    assert!(read(b"").is_empty());
}

#[test]
fn a_parcel_that_is_full_says_so() {
    let json = "7".repeat(100_000);
    let offer = OfferLetter {
        json: &json,
        ..offer()
    };
    let letter = written(Letter::Offer(offer));
    let mut buffer = LetterBuffer::default();
    for _ in 0..10 {
        assert!(buffer.push(&letter));
    }
    assert!(!buffer.push(&letter));
    let mut bytes = Vec::new();
    buffer.take().write(&mut bytes, &HEADER);
    let (batch, _) = Batch::parse(&bytes).unwrap();
    let Body::Letters(letters) = batch.body else {
        panic!("{batch:?}");
    };
    assert_eq!(letters.flatten().count(), 10);
    let giant = vec![0; BODY_BYTES_MAX + 1];
    assert!(!buffer.push(&giant) && buffer.is_empty());
}

#[test]
fn siblings_are_whole_and_few() {
    assert_eq!(Siblings::new(&[1; 19]), None);
    assert_eq!(Siblings::new(&[1; 20 * (SIBLINGS_MAX + 1)]), None);
    let all = [1; 20 * SIBLINGS_MAX];
    let siblings = Siblings::new(&all).unwrap();
    assert_eq!(siblings.iter().count(), SIBLINGS_MAX);
    assert!(siblings.iter().all(|it| it == PeerId([1; 20])));
}

fn members() -> impl Strategy<Value = Member> {
    any::<([u8; 20], u16, u64, u64)>().prop_map(|(peer_id, worker, connection, network)| Member {
        peer_id: PeerId(peer_id),
        worker,
        connection,
        network,
    })
}

fn families() -> impl Strategy<Value = IpFamily> {
    prop_oneof![Just(IpFamily::V4), Just(IpFamily::V6)]
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        (info_hash, offer_id, peer_id) in any::<([u8; 20], [u8; 20], [u8; 20])>(),
        (one, other) in (members(), members()),
        family in families(),
        name in any::<u64>(),
        siblings in prop::collection::vec(any::<[u8; 20]>(), 0..=SIBLINGS_MAX),
        json in ".{0,80}",
    ) {
        let siblings = siblings.concat();
        let letters = [
            Letter::Offer(OfferLetter {
                info_hash: InfoHash(info_hash),
                offer_id,
                offerer: one,
                family,
                receiver: other,
                name,
                json: &json,
            }),
            Letter::Answer(AnswerLetter {
                info_hash: InfoHash(info_hash),
                offer_id,
                offerer: PeerId(peer_id),
                answerer: one,
                family,
                siblings: Siblings::new(&siblings).unwrap(),
                json: &json,
            }),
            Letter::Withdrawal(Withdrawal {
                info_hash: InfoHash(info_hash),
                receiver: other,
                name,
            }),
        ];
        let bytes = letters.map(written).concat();
        prop_assert!(Letters::new(&bytes).unwrap().eq(letters.map(Ok)));
    }

    #[test]
    fn no_bytes_make_it_panic(
        kind in 0_u8..5,
        bytes in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut body = vec![kind];
        body.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
        body.extend(&bytes);
        for letter in Letters::new(&body).unwrap().flatten() {
            let again = written(letter);
            prop_assert_eq!(again.len(), body.len());
            prop_assert!(Letters::new(&again).unwrap().eq([Ok(letter)]));
            // All but flags that are not known here.
            let differ = again.iter().zip(&body).filter(|(one, other)| one != other);
            let flags: Vec<_> = differ.map(|(one, other)| one ^ other).collect();
            let known = family_flag(IpFamily::V6);
            prop_assert!(flags.len() <= 1 && flags.iter().all(|it| it & known == 0));
        }
        if let Some(letters) = Letters::new(&bytes) {
            letters.for_each(drop);
        }
    }
}

use aquatic_types::{InfoHash, IpFamily, PeerId, PeerStatus};
use proptest::prelude::*;

use super::*;
use crate::member::Member;
use crate::record::PeerAddress;

const HEADER: BatchHeader = BatchHeader {
    process: 0x0102_0304_0506_0708,
    sequence: 9,
    unix_millis: 1_790_000_000_000,
};

fn peer_v4() -> PeerRecord<CompactV4> {
    PeerRecord {
        info_hash: InfoHash([7; 20]),
        peer: CompactV4([192, 0, 2, 1, 0x1a, 0xe1]),
        status: PeerStatus::Seeder,
        has_completed: false,
        is_finished: true,
        seconds_left: 0x0102,
    }
}

fn write<R: Record>(kind: Kind<R>, records: &[R]) -> Vec<u8> {
    let mut bytes = Vec::new();
    append(&mut bytes, kind, &HEADER, records);
    bytes
}

fn append<R: Record>(out: &mut Vec<u8>, kind: Kind<R>, header: &BatchHeader, records: &[R]) {
    let mut buffer = RecordBuffer::new(kind);
    for record in records {
        assert!(buffer.push(record));
    }
    let body = buffer.take();
    assert_eq!((body.records(), buffer.bytes()), (records.len(), 0));
    body.write(out, header);
}

/// The error that the bytes of one batch have after this was done to them.
fn error_after(change: impl FnOnce(&mut Vec<u8>)) -> BatchError {
    let mut bytes = write(Kind::PEERS_V4, &[peer_v4()]);
    change(&mut bytes);
    Batch::parse(&bytes).unwrap_err()
}

/// Puts a right checksum behind bytes that were changed.
fn sign(bytes: &mut Vec<u8>) {
    bytes.truncate(bytes.len() - CHECKSUM_BYTES);
    let checksum = crc32fast::hash(bytes);
    bytes.extend_from_slice(&checksum.to_be_bytes());
}

/// Files and other trackers depend on each byte.
#[test]
fn a_batch_has_these_bytes() {
    let mut expected = b"AQ\x01\x01\0\0\0\x1d".to_vec();
    expected.extend_from_slice(b"\x01\x02\x03\x04\x05\x06\x07\x08");
    expected.extend_from_slice(b"\0\0\0\0\0\0\0\x09");
    expected.extend_from_slice(b"\x00\x00\x01\xa0\xc4\x50\x6c\x00");
    expected.extend_from_slice(&[7; 20]);
    expected.extend_from_slice(b"\xc0\0\x02\x01\x1a\xe1\x09\x01\x02");
    let bytes = write(Kind::PEERS_V4, &[peer_v4()]);
    let (covered, checksum) = bytes.split_at(bytes.len() - 4);
    assert_eq!(covered, expected);
    assert_eq!(checksum, crc32fast::hash(&expected).to_be_bytes());
    // The check value of CRC-32 (IEEE 802.3), of which there are many kinds.
    assert_eq!(crc32fast::hash(b"123456789"), 0xcbf4_3926);
}

#[test]
fn a_member_has_these_bytes() {
    let record = MemberRecord {
        info_hash: InfoHash([7; 20]),
        member: Member {
            peer_id: PeerId([8; 20]),
            worker: 0x0102,
            connection: 0x0304_0506_0708_090a,
            network: 0x0b0c_0d0e_0f10_1112,
        },
        family: IpFamily::V6,
        status: PeerStatus::Stopped,
        has_completed: true,
        is_finished: true,
        seconds_left: 0x1314,
    };
    let bytes = write(Kind::MEMBERS, &[record]);
    let body = &bytes[HEADER_BYTES..bytes.len() - CHECKSUM_BYTES];
    assert_eq!((&body[..20], &body[20..40]), (&[7; 20][..], &[8; 20][..]));
    let mut rest: Vec<_> = (1..=18).collect();
    rest.extend([2 | 4 | 8 | 16, 0x13, 0x14]);
    assert_eq!(body[40..], rest);
    let plain = MemberRecord {
        family: IpFamily::V4,
        status: PeerStatus::Seeder,
        has_completed: false,
        is_finished: false,
        ..record
    };
    assert_eq!(write(Kind::MEMBERS, &[plain])[HEADER_BYTES + 58], 1);
}

#[test]
fn sizes_of_records_are_those_of_the_table() {
    assert_eq!(PeerRecord::<CompactV4>::BYTES, 29);
    assert_eq!(PeerRecord::<CompactV6>::BYTES, 41);
    assert_eq!(MemberRecord::BYTES, 61);
    assert_eq!(CompletedRecord::BYTES, 24);
}

#[test]
fn numbers_of_kinds_are_those_of_the_table() {
    let kind = |bytes: Vec<u8>| bytes[3];
    assert_eq!(kind(write(Kind::PEERS_V4, &[])), 1);
    assert_eq!(kind(write(Kind::PEERS_V6, &[])), 2);
    assert_eq!(kind(write(Kind::MEMBERS, &[])), 3);
    assert_eq!(kind(write(Kind::COMPLETED_V4, &[])), 7);
    assert_eq!(kind(write(Kind::COMPLETED_V6, &[])), 8);
    assert_eq!(kind(write(Kind::COMPLETED_WEBTORRENT, &[])), 9);
    assert_eq!((Begin::KIND, End::KIND), (16, 17));
}

#[test]
fn what_is_no_batch_is_told_apart() {
    assert_eq!(Batch::parse(b"").unwrap_err(), BatchError::Torn);
    assert_eq!(Batch::parse(b"A").unwrap_err(), BatchError::Torn);
    assert_eq!(Batch::parse(b"{}").unwrap_err(), BatchError::Foreign);
    assert_eq!(error_after(|bytes| bytes[0] = b'B'), BatchError::Foreign);
    assert_eq!(error_after(|bytes| bytes[1] = b'A'), BatchError::Foreign);
    assert_eq!(error_after(|bytes| bytes[2] = 2), BatchError::Version(2));
    let too_large = |bytes: &mut Vec<u8>| bytes[4..8].fill(0xff);
    assert_eq!(error_after(too_large), BatchError::TooLarge(u32::MAX));
    let longer = |bytes: &mut Vec<u8>| bytes[7] += 1;
    assert_eq!(error_after(longer), BatchError::Torn);
}

#[test]
fn a_batch_that_is_cut_anywhere_is_torn() {
    let bytes = write(Kind::PEERS_V4, &[peer_v4(), peer_v4()]);
    for length in 0..bytes.len() {
        let error = Batch::parse(&bytes[..length]).unwrap_err();
        assert_eq!(error, BatchError::Torn, "{length} bytes");
    }
}

#[test]
fn each_wrong_bit_is_noticed() {
    let bytes = write(Kind::PEERS_V4, &[peer_v4()]);
    for bit in 0..bytes.len() * 8 {
        let mut wrong = bytes.clone();
        wrong[bit / 8] ^= 1 << (bit % 8);
        assert!(Batch::parse(&wrong).is_err(), "bit {bit}");
    }
}

#[test]
fn a_body_has_whole_records() {
    let half = |bytes: &mut Vec<u8>| {
        bytes.insert(HEADER_BYTES, 0);
        bytes[7] += 1;
        sign(bytes);
    };
    let error = BatchError::BodyLength { kind: 1, bytes: 30 };
    assert_eq!(error_after(half), error);
    let mut bytes = write(Kind::COMPLETED_V4, &[]);
    bytes[3] = Begin::KIND;
    sign(&mut bytes);
    let error = BatchError::BodyLength { kind: 16, bytes: 0 };
    assert_eq!(Batch::parse(&bytes).unwrap_err(), error);
}

#[test]
fn kinds_of_later_versions_can_be_skipped() {
    let mut bytes = write(Kind::PEERS_V4, &[peer_v4()]);
    bytes[3] = 200;
    sign(&mut bytes);
    bytes.extend(write(Kind::PEERS_V4, &[peer_v4()]));
    let (unknown, rest) = Batch::parse(&bytes).unwrap();
    assert!(matches!(unknown.body, Body::Unknown(200)));
    let (known, rest) = Batch::parse(rest).unwrap();
    assert!(matches!(known.body, Body::PeersV4(_)) && rest.is_empty());
}

#[test]
fn flags_of_later_versions_are_ignored() {
    let mut bytes = write(Kind::PEERS_V4, &[peer_v4()]);
    bytes[HEADER_BYTES + 26] |= 0xf0;
    sign(&mut bytes);
    let (batch, _) = Batch::parse(&bytes).unwrap();
    let Body::PeersV4(mut peers) = batch.body else {
        panic!("{batch:?}");
    };
    assert_eq!(peers.next(), Some(Ok(peer_v4())));
}

#[test]
fn one_peer_that_cannot_be_does_not_spoil_the_others() {
    let nowhere = PeerRecord {
        peer: CompactV4([192, 0, 2, 1, 0, 0]),
        ..peer_v4()
    };
    let bytes = write(Kind::PEERS_V4, &[nowhere, peer_v4()]);
    let (batch, _) = Batch::parse(&bytes).unwrap();
    let Body::PeersV4(peers) = batch.body else {
        panic!("{batch:?}");
    };
    assert_eq!(peers.len(), 2);
    let peers: Vec<_> = peers.collect();
    assert_eq!(peers, [Err(InvalidRecord::PortZero), Ok(peer_v4())]);
}

#[test]
fn a_full_batch_says_so_and_can_be_read() {
    let mut buffer = RecordBuffer::new(Kind::PEERS_V4);
    let mut written = 0;
    while buffer.push(&peer_v4()) {
        written += 1;
    }
    assert_eq!(written, RecordBuffer::<PeerRecord<CompactV4>>::RECORDS_MAX);
    let mut bytes = Vec::new();
    buffer.take().write(&mut bytes, &HEADER);
    assert!(bytes.len() <= BATCH_BYTES_MAX && bytes.len() + 29 > BATCH_BYTES_MAX);
    let (batch, _) = Batch::parse(&bytes).unwrap();
    let Body::PeersV4(peers) = batch.body else {
        panic!("{batch:?}");
    };
    assert_eq!(peers.len(), written);
}

fn peers<A: PeerAddress>(
    addresses: impl Strategy<Value = A>,
) -> impl Strategy<Value = Vec<PeerRecord<A>>>
where
    PeerRecord<A>: Debug,
{
    let status = prop_oneof![
        Just(PeerStatus::Seeder),
        Just(PeerStatus::Leecher),
        Just(PeerStatus::Stopped),
    ];
    let fields = (
        any::<[u8; 20]>(),
        addresses,
        status,
        any::<(bool, bool, u16)>(),
    );
    let peer = fields.prop_map(|(info_hash, peer, status, rest)| PeerRecord {
        info_hash: InfoHash(info_hash),
        peer,
        status,
        has_completed: rest.0,
        is_finished: rest.1,
        seconds_left: rest.2,
    });
    prop::collection::vec(peer, 0..50)
}

fn members() -> impl Strategy<Value = Vec<MemberRecord>> {
    let fields = any::<([u8; 20], [u8; 20], u16, u64, u64, u8, u16)>();
    let member = fields.prop_map(
        |(info_hash, peer_id, worker, connection, network, flags, left)| MemberRecord {
            info_hash: InfoHash(info_hash),
            member: Member {
                peer_id: PeerId(peer_id),
                worker,
                connection,
                network,
            },
            family: IpFamily::ALL[usize::from(flags & 1)],
            status: match flags & 6 {
                0 => PeerStatus::Seeder,
                2 => PeerStatus::Leecher,
                _ => PeerStatus::Stopped,
            },
            has_completed: flags & 8 != 0,
            is_finished: flags & 16 != 0,
            seconds_left: left,
        },
    );
    prop::collection::vec(member, 0..50)
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        members in members(),
        v4 in peers((any::<[u8; 5]>(), 1..=u8::MAX).prop_map(|([a, b, c, d, hi], lo)| {
            CompactV4([a, b, c, d, hi, lo])
        })),
        v6 in peers((any::<[u8; 17]>(), 1..=u8::MAX).prop_map(|(start, lo)| {
            let mut address = [lo; 18];
            address[..17].copy_from_slice(&start);
            CompactV6(address)
        })),
        counts in prop::collection::vec(any::<([u8; 20], u32)>(), 0..50),
        (process, sequence, unix_millis) in any::<(u64, u64, u64)>(),
    ) {
        let header = BatchHeader { process, sequence, unix_millis };
        let counts: Vec<_> = counts
            .into_iter()
            .map(|(hash, downloads)| CompletedRecord { info_hash: InfoHash(hash), downloads })
            .collect();
        let mut bytes = Vec::new();
        append(&mut bytes, Kind::PEERS_V4, &header, &v4);
        append(&mut bytes, Kind::PEERS_V6, &header, &v6);
        append(&mut bytes, Kind::COMPLETED_WEBTORRENT, &header, &counts);
        append(&mut bytes, Kind::MEMBERS, &header, &members);

        let head = bytes.first_chunk().unwrap();
        let first = batch_bytes(head).unwrap();
        let (batch, rest) = Batch::parse(&bytes).unwrap();
        prop_assert_eq!(first, bytes.len() - rest.len());
        prop_assert_eq!(batch.header, header);
        let Body::PeersV4(read) = batch.body else { panic!("{batch:?}") };
        prop_assert_eq!(read.map(Result::unwrap).collect::<Vec<_>>(), v4);
        let (batch, rest) = Batch::parse(rest).unwrap();
        let Body::PeersV6(read) = batch.body else { panic!("{batch:?}") };
        prop_assert_eq!(read.map(Result::unwrap).collect::<Vec<_>>(), v6);
        let (batch, rest) = Batch::parse(rest).unwrap();
        let Body::CompletedWebTorrent(read) = batch.body else { panic!("{batch:?}") };
        prop_assert_eq!(read.map(Result::unwrap).collect::<Vec<_>>(), counts);
        let (batch, rest) = Batch::parse(rest).unwrap();
        let Body::Members(read) = batch.body else { panic!("{batch:?}") };
        prop_assert_eq!(read.map(Result::unwrap).collect::<Vec<_>>(), members);
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut signed = b"AQ\x01".to_vec();
        signed.extend_from_slice(&bytes);
        let _ = Batch::parse(&bytes);
        let _ = Batch::parse(&signed);
    }
}

#[test]
fn a_process_tells_that_it_is_alive_and_that_it_leaves() {
    let (mut bytes, alive) = (
        Vec::new(),
        Alive {
            peers: 7,
            members: 1 << 40,
            told_within: 632,
        },
    );
    alive.write(&mut bytes, &HEADER);
    assert_eq!(bytes.len(), HEADER_BYTES + 20 + CHECKSUM_BYTES);
    assert_eq!(bytes[32..48], *b"\0\0\0\0\0\0\0\x07\0\0\x01\0\0\0\0\0");
    assert_eq!(bytes[48..52], *b"\0\0\x02\x78");
    Leaving.write(&mut bytes, &HEADER);
    let (first, rest) = Batch::parse(&bytes).unwrap();
    assert!(matches!(first.body, Body::Alive(read) if read == alive));
    let (second, rest) = Batch::parse(rest).unwrap();
    assert!(matches!(second.body, Body::Leaving) && rest.is_empty());
    assert_eq!(second.header, HEADER);
}

#[test]
fn who_is_alive_may_say_more_in_later_versions_but_not_less() {
    for (length, is_understood) in [(15, false), (16, true), (17, true), (40, true)] {
        let mut bytes = Vec::new();
        write_batch(&mut bytes, Alive::KIND, &HEADER, |body| {
            body.resize(body.len() + length, 3)
        });
        let parsed = Batch::parse(&bytes);
        let is_alive = matches!(
            parsed,
            Ok((
                Batch {
                    body: Body::Alive(_),
                    ..
                },
                _
            ))
        );
        assert_eq!(is_alive, is_understood, "{length}");
    }
}

#[test]
fn a_body_that_waits_takes_no_more_room_than_its_bytes() {
    let mut body = BatchBody::new(1, 1, Vec::with_capacity(1_000));
    body.bytes.extend_from_slice(&[7; 100]);
    let before = body.clone();
    body.settle();
    assert!(body.bytes.capacity() < 200);
    assert_eq!((body.bytes, body.records), (before.bytes, before.records));
}

//! Any bytes as a file of swarms, or as what trackers send each other: what can be read, is written
//! the same, and a file that is whole has nothing that could not be read.
#![no_main]

use std::fmt::Debug;

use aquatic_swarm_log::{
    Batch, BatchHeader, Body, FileCheck, HEADER_BYTES, Kind, Leaving, LetterBuffer, Letters,
    Record, RecordBuffer, Records, batch_bytes,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut check = FileCheck::new();
    let mut rest = bytes;
    while let Ok((batch, after)) = Batch::parse(rest) {
        let head = rest
            .first_chunk::<HEADER_BYTES>()
            .expect("there is a batch");
        assert_eq!(batch_bytes(head), Ok(rest.len() - after.len()));
        let written = write(&batch);
        if let Some(written) = written {
            let again = Batch::parse(&written).expect("it was written").0;
            assert_eq!(again.header, batch.header);
            assert_eq!(format!("{:?}", again.body), format!("{:?}", batch.body));
        }
        if check.note(&batch).is_err() {
            return;
        }
        rest = after;
    }
    let _ = check.finish();
});

/// The same batch once more; `None` if its kind is unknown, or a record of it invalid.
fn write(batch: &Batch<'_>) -> Option<Vec<u8>> {
    let (mut out, header) = (Vec::new(), &batch.header);
    match &batch.body {
        Body::PeersV4(peers) => records(&mut out, Kind::PEERS_V4, header, peers)?,
        Body::PeersV6(peers) => records(&mut out, Kind::PEERS_V6, header, peers)?,
        Body::Members(members) => records(&mut out, Kind::MEMBERS, header, members)?,
        Body::Letters(letters) => parcel(&mut out, header, letters)?,
        Body::CompletedV4(counts) => records(&mut out, Kind::COMPLETED_V4, header, counts)?,
        Body::CompletedV6(counts) => records(&mut out, Kind::COMPLETED_V6, header, counts)?,
        Body::CompletedWebTorrent(counts) => {
            records(&mut out, Kind::COMPLETED_WEBTORRENT, header, counts)?;
        }
        Body::Begin(begin) => begin.write(&mut out, header),
        Body::End(end) => end.write(&mut out, header),
        Body::Alive(alive) => alive.write(&mut out, header),
        Body::Leaving => Leaving.write(&mut out, header),
        Body::Unknown(_) => return None,
    }
    Some(out)
}

fn records<R: Record + PartialEq + Debug>(
    out: &mut Vec<u8>,
    kind: Kind<R>,
    header: &BatchHeader,
    records: &Records<'_, R>,
) -> Option<()> {
    let mut buffer = RecordBuffer::new(kind);
    for record in records.clone() {
        let record = record.ok()?;
        let mut bytes = Vec::new();
        record.write(&mut bytes);
        assert_eq!(R::read(&bytes), Ok(record));
        assert!(buffer.push(&record), "it was in a batch before");
    }
    buffer.take().write(out, header);
    Some(())
}

fn parcel(out: &mut Vec<u8>, header: &BatchHeader, letters: &Letters<'_>) -> Option<()> {
    let mut buffer = LetterBuffer::default();
    for letter in letters.clone() {
        let mut bytes = Vec::new();
        letter.ok()?.write(&mut bytes);
        assert!(buffer.push(&bytes), "it was in a batch before");
    }
    buffer.take().write(out, header);
    Some(())
}

use aquatic_types::{CompactV4, InfoHash, PeerStatus};

use super::*;
use crate::batch::{Kind, RecordBuffer};
use crate::record::{CompletedRecord, PeerRecord};

const BOOT: [u8; 16] = [5; 16];
const START_MILLIS: u64 = 1_790_000_000_000;

const BEGIN: Begin = Begin {
    contents: Contents::Swarms,
    boot_id: BOOT,
    boot_millis: 600_000,
};

fn header(sequence: u64) -> BatchHeader {
    BatchHeader {
        process: 3,
        sequence,
        unix_millis: START_MILLIS,
    }
}

/// One batch after the other, to be put together at will.
#[derive(Clone, Copy)]
enum Piece {
    Begin(BatchHeader),
    Counts(BatchHeader, u8),
    End(BatchHeader, u64),
}

/// So many download counts.
fn body(records: u8) -> BatchBody {
    let mut buffer = RecordBuffer::new(Kind::COMPLETED_V6);
    for byte in 0..records {
        buffer.push(&CompletedRecord {
            info_hash: InfoHash([byte; 20]),
            downloads: 1,
        });
    }
    buffer.take()
}

fn check(pieces: &[Piece]) -> Result<(BatchHeader, Begin), FileError> {
    let mut bytes = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Begin(header) => BEGIN.write(&mut bytes, header),
            Piece::Counts(header, records) => {
                body(*records).write(&mut bytes, header);
            }
            Piece::End(header, completed) => End {
                peers: 0,
                completed: *completed,
            }
            .write(&mut bytes, header),
        }
    }
    check_bytes(&bytes)
}

fn check_bytes(bytes: &[u8]) -> Result<(BatchHeader, Begin), FileError> {
    let mut check = FileCheck::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (batch, after) = Batch::parse(rest).unwrap();
        check.note(&batch)?;
        rest = after;
    }
    check.finish()
}

#[test]
fn a_file_has_a_beginning_and_an_end() {
    use Piece::{Begin, Counts, End};
    let whole = [
        Begin(header(1)),
        Counts(header(2), 3),
        Counts(header(3), 4),
        End(header(4), 7),
    ];
    assert_eq!(check(&whole), Ok((header(1), BEGIN)));
    assert_eq!(check(&[]), Err(FileError::NoBegin));
    assert_eq!(check(&whole[1..]), Err(FileError::NoBegin));
    for length in 1..whole.len() {
        assert_eq!(check(&whole[..length]), Err(FileError::NoEnd));
    }
}

#[test]
fn pieces_that_do_not_belong_together_are_no_file() {
    use Piece::{Begin, Counts, End};
    let gap = |expected, found| Err(FileError::Gap { expected, found });
    let without = [Begin(header(1)), Counts(header(3), 4), End(header(4), 7)];
    assert_eq!(check(&without), gap(2, 3));
    let twice = [Begin(header(1)), Counts(header(2), 4), Counts(header(2), 4)];
    assert_eq!(check(&twice), gap(3, 2));
    let late = [Begin(header(2)), End(header(3), 0)];
    assert_eq!(check(&late), gap(1, 2));
    let two = [Begin(header(1)), Begin(header(2))];
    assert_eq!(check(&two), Err(FileError::Mixed));
    let other = BatchHeader {
        process: 4,
        ..header(2)
    };
    let foreign = [Begin(header(1)), End(other, 0)];
    assert_eq!(check(&foreign), Err(FileError::Mixed));
    let longer = [Begin(header(1)), End(header(2), 0), End(header(3), 0)];
    assert_eq!(check(&longer), Err(FileError::AfterEnd));
    let found = crate::End {
        peers: 0,
        completed: 4,
    };
    let expected = crate::End {
        peers: 0,
        completed: 5,
    };
    let fewer = [Begin(header(1)), Counts(header(2), 4), End(header(3), 5)];
    assert_eq!(check(&fewer), Err(FileError::Records { expected, found }));
}

#[test]
fn what_is_written_is_a_file() {
    let mut bytes = Vec::new();
    let mut writer = FileWriter::begin(3, &BEGIN, START_MILLIS, &mut bytes);
    writer.append(&body(3), START_MILLIS, &mut bytes);
    let mut peers = RecordBuffer::new(Kind::PEERS_V4);
    peers.push(&PeerRecord {
        info_hash: InfoHash([7; 20]),
        peer: CompactV4([192, 0, 2, 1, 0x1a, 0xe1]),
        status: PeerStatus::Leecher,
        has_completed: false,
        is_finished: false,
        seconds_left: 9,
    });
    writer.append(&peers.take(), START_MILLIS + 1_000, &mut bytes);
    let end = writer.end(START_MILLIS + 2_000, &mut bytes);
    assert_eq!((end.peers, end.completed), (1, 3));
    assert_eq!(check_bytes(&bytes), Ok((header(1), BEGIN)));
}

/// For how long a batch of 10 seconds after the beginning of the file has been written, at
/// `unix_millis` after the beginning, and so long after boot.
fn age(boot_id: [u8; 16], unix_millis: i64, boot_millis: u64) -> u64 {
    let now = SystemTime {
        unix_millis: START_MILLIS.saturating_add_signed(unix_millis),
        boot_id,
        boot_millis,
    };
    BEGIN.age_millis(&header(1), START_MILLIS + 10_000, &now)
}

#[test]
fn while_the_system_runs_setting_its_clock_changes_no_age() {
    for unix_millis in [30_000, 0, -3_600_000, 86_400_000, i64::MIN, i64::MAX] {
        assert_eq!(age(BOOT, unix_millis, 630_000), 20_000);
    }
    assert_eq!(age(BOOT, 30_000, 605_000), 0);
}

/// A second may have begun before the file was.
#[test]
fn a_batch_may_be_older_than_its_file() {
    let now = SystemTime {
        unix_millis: START_MILLIS,
        boot_id: [6; 16],
        boot_millis: 1_000,
    };
    let age = BEGIN.age_millis(&header(1), START_MILLIS - 900, &now);
    assert_eq!(age, 900);
}

#[test]
fn after_a_boot_the_calendar_tells() {
    for boot_id in [[6; 16], [0; 16]] {
        assert_eq!(age(boot_id, 30_000, 1_000), 20_000);
        assert_eq!(age(boot_id, 3_600_000, 1_000), 3_590_000);
    }
}

#[test]
fn a_file_from_the_future_was_written_now() {
    assert_eq!(age([6; 16], -1, 1_000), 0);
    assert_eq!(age([6; 16], i64::MIN, 1_000), 0);
}

/// Where a system does not tell its boot id, two boots must not be taken for one.
#[test]
fn an_unknown_boot_is_never_the_same() {
    let begin = Begin {
        boot_id: [0; 16],
        ..BEGIN
    };
    let now = SystemTime {
        unix_millis: START_MILLIS + 5_000,
        boot_id: [0; 16],
        boot_millis: 900_000,
    };
    assert_eq!(begin.age_millis(&header(1), START_MILLIS, &now), 5_000);
}

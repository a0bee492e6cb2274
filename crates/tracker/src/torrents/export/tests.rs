use std::fs;

use aquatic_types::{CompactAddr, CompactV4, PeerStatus};

use super::super::test_tracker::{Filling, Tracker, info_hash};
use super::*;

fn export(tracker: &mut Tracker, path: &Path) -> anyhow::Result<Option<usize>> {
    let exporter = Exporter::new(tracker.readers.clone());
    tracker.while_working(|| exporter.export(path))
}

#[test]
fn lists_every_torrent_that_has_peers_and_replaces_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("export.txt");
    fs::write(&path, "old").unwrap();
    let mut filling = Filling::new(2, false);
    filling.fill(1, [1, 2], [0, 0]);
    filling.fill(2, [3, 0], [0, 7]);
    filling.fill(3, [1, 0], [0, 0]);
    let leaving = CompactV4::new([192, 0, 2, 1].into(), 1);
    filling.announce(3, leaving, PeerStatus::Stopped, false);
    let mut tracker = filling.start();
    for _ in 0..2 {
        assert_eq!(export(&mut tracker, &path).unwrap(), Some(3));
        let text = fs::read_to_string(&path).unwrap();
        let mut lines: Vec<_> = text.lines().collect();
        lines.sort_unstable();
        let expected = [
            format!("4 {} 1 2", info_hash(1)),
            format!("4 {} 3 0", info_hash(2)),
            format!("6 {} 0 7", info_hash(2)),
        ];
        assert_eq!(lines, expected);
        assert!(text.ends_with('\n'));
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            1,
            "nothing else"
        );
    }
}

#[test]
fn many_lines_of_several_shards_come_in_chunks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("export.txt");
    let torrents = 10 * CHUNK_BYTES / 47;
    let mut filling = Filling::new(3, false);
    (0..torrents).for_each(|number| filling.fill(u32::try_from(number).unwrap(), [1, 0], [0, 0]));
    let mut tracker = filling.start();
    assert_eq!(export(&mut tracker, &path).unwrap(), Some(torrents));
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), torrents);
    assert!(
        text.lines()
            .all(|line| line.len() == 46 && line.ends_with(" 1 0"))
    );
}

/// A disk that is slow stops shards from writing lines, and not from anything else.
#[test]
fn shards_wait_for_a_slow_disk() {
    let mut filling = Filling::new(1, false);
    (0..10_000).for_each(|number| filling.fill(number, [1, 0], [0, 0]));
    let mut tracker = filling.start();
    let (sender, parts) = sync_channel(1);
    let reading = Box::new(ExportReading::new(sender));
    tracker.readers.post(0, reading).unwrap();
    (0..100).for_each(|_| tracker.work());
    let mut lines = 0;
    loop {
        let mut at_hand = Vec::new();
        at_hand.extend(parts.try_iter());
        assert_eq!(at_hand.len(), 1, "as many as there is room for");
        match &at_hand[0] {
            Part::Lines(text) => lines += text.lines().count(),
            Part::End => break,
        }
        (0..100).for_each(|_| tracker.work());
    }
    assert_eq!(lines, 10_000);
}

#[test]
fn a_failure_is_told_and_does_not_end_exports() {
    let folder = tempfile::tempdir().unwrap();
    let in_the_way = folder.path().join("new");
    fs::write(&in_the_way, "").unwrap();
    let path = in_the_way.join("export.txt");
    let mut filling = Filling::new(2, false);
    (0..2).for_each(|number| filling.fill(number, [1, 0], [0, 0]));
    let mut tracker = filling.start();
    let error = export(&mut tracker, &path).unwrap_err();
    assert!(
        format!("{error:#}").contains(in_the_way.to_str().unwrap()),
        "{error:#}"
    );
    fs::remove_file(&in_the_way).unwrap();
    assert_eq!(export(&mut tracker, &path).unwrap(), Some(2));
    tracker.workers.clear();
    assert_eq!(
        export(&mut tracker, &path).unwrap(),
        None,
        "no shard is left"
    );
    assert_eq!(
        fs::read_to_string(&path).unwrap().lines().count(),
        2,
        "kept as it was"
    );
}

//! The keys where they are in a bucket.
//!
//! The name of an entry is the key, and the value is what follows it on its line in the file: both
//! may have the same characters.

use std::collections::{BTreeMap, BTreeSet};

use aquatic_keys::{KeyEntry, KeyList};

use super::METRICS;
use super::change::Change;
use super::editor::{Changed, KeysEditor, apply};
use crate::bucket::{Bucket, BucketChange, BucketFormat, BucketList, Item, level_of_read};
use crate::edited_list::Refused;

struct Format;

impl BucketFormat for Format {
    type Entry = KeyEntry;

    const LIST: &'static str = "keys";
    const IS_SECRET: bool = true;

    fn entry(name: &str, value: &[u8]) -> Result<KeyEntry, String> {
        if value.contains(&b'\n') {
            return Err("its value has more than one line".to_owned());
        }
        let mut line = name.as_bytes().to_vec();
        line.push(b' ');
        line.extend_from_slice(value);
        match KeyList::parse_line(&line) {
            Ok(Some(entry)) if entry.text() == name => Ok(entry),
            Ok(_) => Err("its name is no key".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// What follows the key on its line.
fn value_of(entry: &KeyEntry) -> Vec<u8> {
    let line = entry.to_line();
    let value = line.strip_prefix(entry.text()).unwrap_or_default();
    value.trim_start().as_bytes().to_vec()
}

impl KeysEditor {
    /// Has the bucket changed, and says what that does to the present keys.
    pub(super) fn change_bucket(
        &self,
        bucket: &dyn Bucket,
        change: Change,
    ) -> Result<Changed, Refused> {
        let present = self.shared().list();
        let is_apart = self.in_bucket.is_apart();
        let is_new = |entry: &&KeyEntry| match present.get(entry.text().as_bytes()) {
            Some(key) => is_apart || !entry.says_of_it(key),
            None => true,
        };
        let put = |entries: &[KeyEntry]| -> BTreeMap<String, Vec<u8>> {
            let put = entries.iter().filter(is_new);
            put.map(|entry| (entry.text().to_owned(), value_of(entry)))
                .collect()
        };
        let (put, delete): (_, BTreeSet<String>) = match &change {
            Change::Edit { add, remove } => {
                self.in_bucket.require_filled(present.len())?;
                let put = put(add);
                let is_there = |name: &String| {
                    present.get(name.as_bytes()).is_some() || put.contains_key(name)
                };
                let delete = remove.iter().map(|entry| entry.text().to_owned());
                let delete = delete.filter(is_there).collect();
                (put, delete)
            }
            Change::Replace(entries) => {
                let wanted: BTreeSet<_> = entries.iter().map(KeyEntry::text).collect();
                let gone = present.iter().filter(|(text, _)| !wanted.contains(text));
                let gone = gone.map(|(text, _)| text.to_owned());
                let put = put(entries);
                let unusable = self.in_bucket.unusable().into_iter();
                let unusable = unusable.filter(|name| !put.contains_key(name));
                let gone = gone.chain(unusable).collect();
                (put, gone)
            }
        };
        let (_, mut changed) = apply(&present, change);
        drop(present);
        let put = put.into_iter().map(|(name, value)| (name, Some(value)));
        let delete = delete.into_iter().map(|name| (name, None));
        let changes: Vec<BucketChange> = put.chain(delete).collect();
        if !changes.is_empty() {
            bucket.change(changes).map_err(Refused::Bucket)?;
        }
        changed.written = true;
        Ok(changed)
    }

    fn take_change(&self, change: Change) -> Changed {
        let file = self.lock();
        let (list, changed) = apply(&self.shared().list(), change);
        if changed.added + changed.changed + changed.removed > 0 {
            self.in_bucket.note_change();
            self.put(file, list);
        }
        changed
    }
}

impl BucketList for KeysEditor {
    fn set_bucket(&self, bucket: Box<dyn Bucket>) {
        self.in_bucket.set(bucket);
    }

    fn take_all(&self, items: Vec<Item>) -> usize {
        let read = self.in_bucket.read::<Format>(items, true);
        let changed = self.take_change(Change::Replace(read.add));
        METRICS.succeeded();
        let before = changed.total - changed.added + changed.removed;
        log::log!(
            level_of_read(before, changed.removed, changed.total),
            "keys read in the bucket: {} keys, {} of them new, {} changed, {} are gone",
            changed.total,
            changed.added,
            changed.changed,
            changed.removed
        );
        read.invalid
    }

    fn take_nothing(&self) {
        self.in_bucket.note_nothing(self.shared().list().len());
    }

    fn take(&self, items: Vec<Item>) -> usize {
        let read = self.in_bucket.read::<Format>(items, false);
        let (add, remove) = (read.add, read.remove);
        let changed = self.take_change(Change::Edit { add, remove });
        log::debug!(
            "keys changed in the bucket: {} added, {} changed, {} removed, {} keys",
            changed.added,
            changed.changed,
            changed.removed,
            changed.total
        );
        read.invalid
    }

    fn save(&self) {
        let write = |version| self.write(&self.shared().list(), version);
        let lock = || self.lock();
        self.in_bucket
            .save(Format::LIST, &self.config.path, lock, write);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::sync::{Arc, Mutex};

    use aquatic_config::KeysConfig;
    use aquatic_keys::{Announcer, KeyMode, KeyRefusal};
    use aquatic_types::Seconds;

    use super::super::change::parse;
    use super::*;
    use crate::bucket::BucketError;

    #[derive(Clone, Debug, Default)]
    struct Notes(Arc<Mutex<Vec<BucketChange>>>);

    impl Bucket for Notes {
        fn change(&self, changes: Vec<BucketChange>) -> Result<(), BucketError> {
            self.0.lock().unwrap().extend(changes);
            Ok(())
        }
    }

    fn editor(folder: &Path, content: &str) -> (KeysEditor, Notes) {
        let path = folder.join("keys");
        fs::write(&path, content).unwrap();
        let mode = KeyMode::Require;
        let editor = KeysEditor::load(&KeysConfig { mode, path }).unwrap();
        let notes = Notes::default();
        editor.set_bucket(Box::new(notes.clone()));
        (editor, notes)
    }

    fn item(name: &str, value: Option<&str>) -> Item {
        Item {
            name: name.to_owned(),
            value: value.map(|value| value.as_bytes().to_vec()),
            revision: 7,
        }
    }

    fn announcer(peer: u32) -> Announcer<u32> {
        Announcer {
            now: Seconds(1),
            age_seconds_max: None,
            peer,
        }
    }

    #[test]
    fn what_the_bucket_has_are_the_keys_and_their_peers_stay() {
        let folder = tempfile::tempdir().unwrap();
        let (editor, _) = editor(folder.path(), "a peers=1\nb\n");
        let mut reader = editor.shared().reader();
        let a = Some(&b"a"[..]);
        assert_eq!(reader.admit(a, announcer(1)), Ok(()));
        let invalid = editor.take_all(vec![
            item("a", Some("peers=2 # Alice")),
            item("c", Some("")),
            item("d", Some("peers=x")),
            item("e", Some("\nf")),
            item("g.h", Some("")),
            item("announce", Some("")),
            item("#", Some("")),
        ]);
        assert_eq!(invalid, 5);
        assert_eq!(editor.shared().list().len(), 2);
        assert_eq!(reader.check(Some(b"b")), Err(KeyRefusal::Unknown));
        assert_eq!(reader.check(Some(b"c")), Ok(()));
        assert_eq!(reader.admit(a, announcer(2)), Ok(()));
        assert!(reader.admit(a, announcer(3)).is_err(), "the first counts");
        // What cannot be used is as if it were not there, as for who starts later.
        let invalid = editor.take(vec![
            item("a", Some("peers=none")),
            item("b", Some("until=2999-01-31")),
            item("c", None),
        ]);
        assert_eq!(invalid, 1);
        let is_known = |reader: &mut aquatic_keys::KeyReader, key: &str| {
            reader.check(Some(key.as_bytes())) != Err(KeyRefusal::Unknown)
        };
        let known = ["a", "b", "c"].map(|key| is_known(&mut reader, key));
        assert_eq!(known, [false, true, false]);
        editor.save();
        let copy = fs::read_to_string(folder.path().join("keys")).unwrap();
        assert_eq!(copy, "b until=2999-01-31\n");
    }

    #[test]
    fn a_file_that_could_not_be_written_is_written_later() {
        let folder = tempfile::tempdir().unwrap();
        let (editor, _) = editor(folder.path(), "a\nb\n");
        editor.take_all(vec![item("b", Some(""))]);
        let [path, other] = ["keys", "other"].map(|name| folder.path().join(name));
        fs::rename(&path, &other).unwrap();
        fs::create_dir(&path).unwrap();
        editor.save();
        assert!(path.is_dir());
        fs::remove_dir(&path).unwrap();
        fs::rename(&other, &path).unwrap();
        editor.save();
        assert_eq!(fs::read_to_string(&path).unwrap(), "b\n");
        fs::remove_file(&path).unwrap();
        editor.save();
        assert!(!path.exists(), "it was written, and nothing has changed");
    }

    /// It would be admitted at a start without servers.
    #[test]
    fn a_key_that_was_taken_out_of_the_bucket_goes_out_of_the_copy() {
        for is_heard in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let (editor, _) = editor(folder.path(), "a\n");
            let content = || fs::read_to_string(folder.path().join("keys")).unwrap();
            editor.take_nothing();
            editor.save();
            assert_eq!(content(), "a\n");
            if is_heard {
                editor.take_all(vec![item("a", Some(""))]);
                editor.take(vec![item("a", None)]);
            } else {
                // While the daemon was away.
                editor.take_all(vec![]);
            }
            editor.save();
            assert_eq!(content(), "", "{is_heard}");
        }
    }

    /// A minute after its first entry, the bucket has all keys.
    #[test]
    fn no_key_goes_because_of_one_change_of_a_bucket_that_was_never_filled() {
        let folder = tempfile::tempdir().unwrap();
        let (editor, notes) = editor(folder.path(), "a\nb\n");
        let order = |text: &str| parse(&mut text.as_bytes().to_vec()).unwrap();
        let taken = || std::mem::take(&mut *notes.0.lock().unwrap());
        let put = |name: &str| (name.to_owned(), Some(Vec::new()));
        editor.take_nothing();
        for text in [r#"{"add": "c"}"#, r#"{"remove": "a"}"#, r#"{"add": "b"}"#] {
            let refused = editor.change(order(text)).unwrap_err();
            assert!(matches!(refused, Refused::Unfilled), "{refused:?}");
        }
        assert_eq!(taken(), []);
        editor.change(order(r#"{"replace": ["a", "c"]}"#)).unwrap();
        assert_eq!(taken(), [put("a"), put("c"), ("b".to_owned(), None)]);
        // The bucket says so, and then it has entries.
        let said = [("a", Some("")), ("c", Some("")), ("b", None)];
        editor.take(said.map(|(name, value)| item(name, value)).to_vec());
        editor.change(order(r#"{"add": "b"}"#)).unwrap();
        assert_eq!(taken(), [put("b")]);
    }

    #[test]
    fn what_an_operator_changes_goes_to_the_bucket() {
        let folder = tempfile::tempdir().unwrap();
        let (editor, notes) = editor(folder.path(), "a peers=1 # Alice\nb\nc\n");
        let order = |text: &str| parse(&mut text.as_bytes().to_vec()).unwrap();
        let changed = editor.change(order(
            r#"{"add": ["a peers=2 until=2999-01-31 # Alice", "b", "d"], "remove": ["c", "e"]}"#,
        ));
        let changed = changed.unwrap();
        let counts = (changed.added, changed.changed, changed.removed);
        assert_eq!((counts, changed.written), ((1, 1, 1), true));
        let taken = || std::mem::take(&mut *notes.0.lock().unwrap());
        let put = |name: &str, value: &str| (name.to_owned(), Some(value.as_bytes().to_vec()));
        let delete = |name: &str| (name.to_owned(), None);
        let alice = put("a", "peers=2 until=2999-01-31 # Alice");
        assert_eq!(taken(), [alice, put("d", ""), delete("c")]);
        assert_eq!(editor.shared().list().len(), 3, "until the bucket says so");
        editor.change(order(r#"{"replace": ["b", "f"]}"#)).unwrap();
        assert_eq!(taken(), [put("f", ""), delete("a"), delete("c")]);
    }
}

//! The list where its entries are in a bucket.
//!
//! The name of an entry is an info hash, in lower case, so that there is one name for each. The
//! value is for people, as is what follows a hash in the file.

use std::collections::BTreeSet;

use aquatic_types::InfoHash;

use super::METRICS;
use super::change::Change;
use super::editor::{AccessListEditor, Changed, apply};
use crate::bucket::{Bucket, BucketChange, BucketFormat, BucketList, Item, level_of_read};
use crate::edited_list::Refused;

struct Format;

impl BucketFormat for Format {
    type Entry = InfoHash;

    const LIST: &'static str = "access list";
    const IS_SECRET: bool = false;

    fn entry(name: &str, _: &[u8]) -> Result<InfoHash, String> {
        if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err("its digits have to be in lower case".to_owned());
        }
        name.parse()
            .map_err(|error: aquatic_types::ParseInfoHashError| error.to_string())
    }
}

impl AccessListEditor {
    /// Has the bucket changed, and says what that does to the present list.
    pub(super) fn change_bucket(
        &self,
        bucket: &dyn Bucket,
        change: Change,
    ) -> Result<Changed, Refused> {
        let present = self.shared().present();
        let is_apart = self.in_bucket.is_apart();
        let is_new = |it: &InfoHash| is_apart || !present.contains(it);
        let (put, delete): (BTreeSet<InfoHash>, BTreeSet<InfoHash>) = match &change {
            Change::Edit { add, remove } => {
                self.in_bucket.require_filled(present.len())?;
                let put = add.iter().copied().filter(is_new);
                let is_listed = |it: &InfoHash| present.contains(it) || add.contains(it);
                let delete = remove.iter().copied().filter(is_listed);
                (put.collect(), delete.collect())
            }
            Change::Replace(entries) => {
                let wanted: BTreeSet<_> = entries.iter().copied().collect();
                let gone = present.iter().copied().filter(|it| !wanted.contains(it));
                let gone = gone.collect();
                let put = wanted.into_iter().filter(is_new);
                (put.collect(), gone)
            }
        };
        let unusable = match &change {
            Change::Edit { .. } => BTreeSet::new(),
            Change::Replace(_) => self.in_bucket.unusable(),
        };
        let (_, mut changed) = apply(&present, change);
        drop(present);
        let put = put.into_iter().map(|it| (it.to_string(), Some(Vec::new())));
        let delete = delete.into_iter().map(|it| it.to_string());
        let delete = delete.chain(unusable).map(|name| (name, None));
        let changes: Vec<BucketChange> = put.chain(delete).collect();
        if !changes.is_empty() {
            bucket.change(changes).map_err(Refused::Bucket)?;
        }
        changed.written = true;
        Ok(changed)
    }

    fn take_change(&self, change: Change) -> Changed {
        let file = self.lock();
        let present = self.shared().present();
        let (list, changed) = apply(&present, change);
        if changed.added + changed.removed > 0 {
            self.in_bucket.note_change();
            self.put(file, present, list);
        }
        changed
    }
}

impl BucketList for AccessListEditor {
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
            "access list read in the bucket: {} info hashes, {} of them new, {} are gone",
            changed.total,
            changed.added,
            changed.removed
        );
        read.invalid
    }

    fn take_nothing(&self) {
        self.in_bucket.note_nothing(self.shared().present().len());
    }

    fn take(&self, items: Vec<Item>) -> usize {
        let read = self.in_bucket.read::<Format>(items, false);
        let (add, remove) = (read.add, read.remove);
        let changed = self.take_change(Change::Edit { add, remove });
        log::debug!(
            "access list changed in the bucket: {} added, {} removed, {} info hashes",
            changed.added,
            changed.removed,
            changed.total
        );
        read.invalid
    }

    fn save(&self) {
        let write = |version| self.write(&self.shared().present(), version);
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

    use aquatic_access_list::AccessListMode;
    use aquatic_config::AccessListConfig;

    use super::super::change::Order;
    use super::*;
    use crate::bucket::BucketError;

    const A: InfoHash = InfoHash([0xaa; 20]);
    const B: InfoHash = InfoHash([0xbb; 20]);
    const C: InfoHash = InfoHash([0xcc; 20]);

    /// Takes note of changes, or refuses them.
    #[derive(Clone, Debug)]
    struct Notes(Arc<Mutex<Vec<BucketChange>>>, bool);

    impl Bucket for Notes {
        fn change(&self, changes: Vec<BucketChange>) -> Result<(), BucketError> {
            if !self.1 {
                return Err(BucketError::Unchanged("there is no connection".to_owned()));
            }
            self.0.lock().unwrap().extend(changes);
            Ok(())
        }
    }

    fn editor(folder: &Path, content: &str, is_connected: bool) -> (AccessListEditor, Notes) {
        let path = folder.join("list");
        fs::write(&path, content).unwrap();
        let editor = AccessListEditor::load(&AccessListConfig {
            mode: AccessListMode::Allow,
            path,
            ..AccessListConfig::default()
        })
        .unwrap();
        let notes = Notes(Arc::default(), is_connected);
        editor.set_bucket(Box::new(notes.clone()));
        (editor, notes)
    }

    fn item(name: impl ToString, value: Option<&[u8]>) -> Item {
        Item {
            name: name.to_string(),
            value: value.map(<[u8]>::to_vec),
            revision: 7,
        }
    }

    #[test]
    fn who_replaces_the_list_wants_no_entries_that_cannot_be_used() {
        let folder = tempfile::tempdir().unwrap();
        let (editor, notes) = editor(folder.path(), "", true);
        let entries = [
            "x".to_owned(),
            A.to_string(),
            "y".to_owned(),
            "z".to_owned(),
        ];
        editor.take_all(entries.map(|name| item(name, Some(b""))).to_vec());
        editor.take(vec![
            item("y", None),
            item("z", Some(b"")),
            item("w", Some(b"")),
        ]);
        let order = Order {
            change: Change::Replace(vec![A]),
            write: false,
        };
        editor.change(order).unwrap();
        let delete = ["w", "x", "z"].map(|name| (name.to_owned(), None));
        assert_eq!(*notes.0.lock().unwrap(), delete);
        editor.take_all(vec![item(A, Some(b""))]);
        assert!(editor.in_bucket.unusable().is_empty());
    }

    #[test]
    fn what_a_bucket_that_was_lost_lacks_is_put_into_it() {
        let folder = tempfile::tempdir().unwrap();
        let (editor, notes) = editor(folder.path(), &format!("{A}\n{B}\n"), true);
        let mut reader = editor.shared().reader();
        editor.take_nothing();
        assert!(reader.is_allowed(&A) && reader.is_allowed(&B));
        let replaces = || Order {
            change: Change::Replace(vec![A, B]),
            write: false,
        };
        editor.change(replaces()).unwrap();
        let put = |hash: InfoHash| (hash.to_string(), Some(Vec::new()));
        assert_eq!(
            std::mem::take(&mut *notes.0.lock().unwrap()),
            [put(A), put(B)]
        );
        editor.take_all([A, B].map(|hash| item(hash, Some(b""))).to_vec());
        editor.change(replaces()).unwrap();
        assert!(notes.0.lock().unwrap().is_empty());
    }

    #[test]
    fn what_the_bucket_has_is_the_list_and_what_cannot_be_used_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (editor, _) = editor(folder.path(), &format!("{A}\n"), true);
        let mut reader = editor.shared().reader();
        assert!(reader.is_allowed(&A), "until the bucket has been read");
        let upper = C.to_string().to_uppercase();
        let invalid = editor.take_all(vec![
            item(B, Some(b"a name")),
            item(&upper, Some(b"")),
            item("x", Some(b"")),
            item(A, None),
        ]);
        assert_eq!(invalid, 2);
        assert!(reader.is_allowed(&B) && !reader.is_allowed(&A) && !reader.is_allowed(&C));
        let invalid = editor.take(vec![
            item(C, Some(b"")),
            item(B, None),
            item("x", None),
            item("y", Some(b"")),
        ]);
        assert_eq!(invalid, 1);
        assert!(reader.is_allowed(&C) && !reader.is_allowed(&B));
        editor.reload();
        assert!(reader.is_allowed(&C), "the file is a copy");
        assert_eq!(editor.take_all(vec![]), 0);
        assert!(editor.shared().present().is_empty());
    }

    #[test]
    fn the_file_is_a_copy_unless_there_was_never_anything_in_the_bucket() {
        let folder = tempfile::tempdir().unwrap();
        let (editor, _) = editor(folder.path(), &format!("# ours\n{A}\n"), true);
        let content = || fs::read_to_string(folder.path().join("list")).unwrap();
        editor.take_nothing();
        editor.save();
        assert_eq!(content(), format!("# ours\n{A}\n"));
        editor.take(vec![item(B, Some(b""))]);
        editor.save();
        assert_eq!(content(), format!("# ours\n{A}\n{B}\n"));
        // A minute later.
        editor.take_all(vec![item(B, Some(b""))]);
        editor.save();
        assert_eq!(content(), format!("# ours\n{B}\n"));
        fs::write(folder.path().join("list"), format!("{A}\n")).unwrap();
        editor.save();
        assert_eq!(content(), format!("{A}\n"), "nothing has changed");
        editor.take(vec![item(B, None)]);
        editor.save();
        assert_eq!(content(), "");
    }

    /// It would be admitted at a start without servers.
    #[test]
    fn what_was_taken_out_of_the_bucket_goes_out_of_the_copy() {
        for is_heard in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let (editor, _) = editor(folder.path(), &format!("{A}\n"), true);
            let content = || fs::read_to_string(folder.path().join("list")).unwrap();
            if is_heard {
                editor.take_all(vec![item(A, Some(b""))]);
                editor.save();
                assert_eq!(content(), format!("{A}\n"));
                editor.take(vec![item(A, None)]);
            } else {
                // While the daemon was away.
                editor.take_all(vec![]);
            }
            editor.save();
            assert_eq!(content(), "", "{is_heard}");
        }
    }

    fn edit(add: &[InfoHash], remove: &[InfoHash]) -> Order {
        let (add, remove) = (add.to_vec(), remove.to_vec());
        Order {
            change: Change::Edit { add, remove },
            write: false,
        }
    }

    /// A minute after its first entry, the bucket is the list.
    #[test]
    fn no_list_goes_because_of_one_change_of_a_bucket_that_was_never_filled() {
        let folder = tempfile::tempdir().unwrap();
        let (editor, notes) = editor(folder.path(), &format!("{A}\n{B}\n"), true);
        let taken = || std::mem::take(&mut *notes.0.lock().unwrap());
        let put = |hash: InfoHash| (hash.to_string(), Some(Vec::new()));
        editor.take_nothing();
        for order in [edit(&[C], &[]), edit(&[], &[A]), edit(&[B], &[])] {
            let refused = editor.change(order).unwrap_err();
            assert!(matches!(refused, Refused::Unfilled), "{refused:?}");
        }
        assert_eq!(taken(), []);
        let order = Order {
            change: Change::Replace(vec![A, C]),
            write: false,
        };
        editor.change(order).unwrap();
        assert_eq!(taken(), [put(A), put(C), (B.to_string(), None)]);
        // The bucket says so, and then it has entries.
        let said = [(A, true), (C, true), (B, false)];
        let said = said.map(|(hash, is_there)| item(hash, is_there.then_some(&b""[..])));
        editor.take(said.to_vec());
        editor.change(edit(&[B], &[])).unwrap();
        assert_eq!(taken(), [put(B)]);
    }

    #[test]
    fn a_bucket_can_be_filled_one_by_one_if_there_is_no_list() {
        let folder = tempfile::tempdir().unwrap();
        let (editor, notes) = editor(folder.path(), "", true);
        editor.take_nothing();
        for hash in [A, B] {
            editor.change(edit(&[hash], &[])).unwrap();
            editor.take(vec![item(hash, Some(b""))]);
        }
        editor.change(edit(&[A], &[])).unwrap();
        let put = [A, B].map(|hash| (hash.to_string(), Some(Vec::new())));
        assert_eq!(*notes.0.lock().unwrap(), put, "each was put once");
        // Others lose it.
        editor.take_nothing();
        let refused = editor.change(edit(&[C], &[])).unwrap_err();
        assert!(matches!(refused, Refused::Unfilled), "{refused:?}");
    }

    #[test]
    fn what_an_operator_changes_goes_to_the_bucket() {
        let folder = tempfile::tempdir().unwrap();
        let (editor, notes) = editor(folder.path(), &format!("{A}\n{B}\n"), true);
        let order = |change| Order {
            change,
            write: false,
        };
        let (add, remove) = (vec![A, C], vec![B, InfoHash([1; 20])]);
        let changed = editor.change(order(Change::Edit { add, remove })).unwrap();
        let expected = Changed {
            added: 1,
            removed: 1,
            already_there: 1,
            not_there: 1,
            total: 2,
            written: true,
            warning: None,
        };
        assert_eq!(changed, expected);
        let (put, delete) = (
            |it: InfoHash| (it.to_string(), Some(Vec::new())),
            |it| (InfoHash::to_string(&it), None),
        );
        let taken = || std::mem::take(&mut *notes.0.lock().unwrap());
        assert_eq!(taken(), [put(C), delete(B)]);
        assert_eq!(
            editor.shared().present().len(),
            2,
            "until the bucket says so"
        );
        assert!(editor.shared().present().contains(&B));
        editor.change(order(Change::Replace(vec![C, C]))).unwrap();
        assert_eq!(taken(), [put(C), delete(A), delete(B)]);
    }

    #[test]
    fn a_bucket_that_is_not_changed_is_no_success() {
        let folder = tempfile::tempdir().unwrap();
        let (editor, _) = editor(folder.path(), "", false);
        let order = Order {
            change: Change::Replace(vec![A]),
            write: false,
        };
        let refused = editor.change(order).unwrap_err();
        let Refused::Bucket(BucketError::Unchanged(reason)) = refused else {
            panic!("another reason: {refused:?}");
        };
        assert_eq!(reason, "there is no connection");
        assert!(editor.shared().present().is_empty());
    }
}

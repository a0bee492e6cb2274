//! The list in use and its file, for whoever changes one of them while the daemon runs.

use std::io::BufReader;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use aquatic_access_list::{AccessList, AccessListMode, SharedAccessList};
use aquatic_config::AccessListConfig;
use aquatic_types::InfoHash;

use super::change::{Change, Order};
use super::{METRICS, free, read, tell_entries};
use crate::bucket::InBucket;
use crate::denied_networks;
use crate::edited_list::{Refused, read_line};
use crate::rewritten_file::{Rewrite, Rewritten, Version};

/// A line of the file is no longer than that.
const LINE_BYTES_MAX: usize = 64 * 1_024;

/// Changes the list in use, one change after the other: a reload that begins during a change, or
/// the other way round, waits for its end. So what is there after a reload is the file's.
#[derive(Debug)]
pub struct AccessListEditor {
    pub(super) config: AccessListConfig,
    pub(super) shared: SharedAccessList,
    file: Mutex<Option<Version>>,
    pub(super) in_bucket: InBucket,
}

/// What has become of the entries of a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Changed {
    pub(super) added: usize,
    pub(super) removed: usize,
    pub(super) already_there: usize,
    pub(super) not_there: usize,
    /// Entries of the list from now on.
    pub(super) total: usize,
    pub(super) written: bool,
    /// What of the file is not as it was, besides the entries.
    pub(super) warning: Option<String>,
}

impl AccessListEditor {
    /// Loads the list at the start of a daemon.
    ///
    /// # Errors
    /// If the file cannot be opened, or a line is not an info hash; names the file and the line.
    pub fn load(config: &AccessListConfig) -> anyhow::Result<Self> {
        let (list, version) = read(config)?;
        Ok(Self {
            config: config.clone(),
            shared: SharedAccessList::new(config.mode, list)
                .denying(denied_networks::load(config)?),
            file: Mutex::new(version),
            in_bucket: InBucket::default(),
        })
    }

    /// The list in use.
    #[must_use]
    pub fn shared(&self) -> &SharedAccessList {
        &self.shared
    }

    /// Puts the present content of the file in the place of the list, and the same for denied
    /// networks. A file that cannot be used is logged as an error, and what was there is kept.
    pub fn reload(&self) {
        self.reload_list();
        denied_networks::reload(&self.config, self.shared.denied_networks());
    }

    fn reload_list(&self) {
        if self.in_bucket.bucket().is_some() {
            log::info!("the access list is in a bucket: its file is not read again");
            return;
        }
        let mut file = self.lock();
        match read(&self.config) {
            Ok((list, version)) => {
                let replaced = self.shared.replace(list);
                *file = version;
                drop(file);
                free(replaced);
            }
            Err(error) => {
                METRICS.failed_because(&error);
                log::error!("reload failed, keeping the previous access list: {error:#}");
            }
        }
    }

    /// Changes the list: all at once, as requests see it, or nothing.
    pub(super) fn change(&self, order: Order) -> Result<Changed, Refused> {
        if self.config.mode == AccessListMode::Off {
            return Err(Refused::Off);
        }
        if let Some(bucket) = self.in_bucket.bucket() {
            return self.change_bucket(bucket, order.change);
        }
        let mut file = self.lock();
        let present = self.shared.present();
        let (list, mut changed) = apply(&present, order.change);
        if order.write {
            let rewritten = self.write(&list, *file)?;
            *file = Some(rewritten.version);
            changed.written = true;
            changed.warning = rewritten.warning;
        }
        self.put(file, present, list);
        Ok(changed)
    }

    /// Puts a list in the place of the present one.
    pub(super) fn put(
        &self,
        file: MutexGuard<'_, Option<Version>>,
        present: Arc<AccessList>,
        list: AccessList,
    ) {
        tell_entries(&list);
        // What is not shared is freed by whoever is the last to use it: to wait for the workers
        // takes longer, if that is little.
        let is_little = list.shares_table_with(&present);
        drop(present);
        let replaced = self.shared.replace(list);
        drop(file);
        if !is_little {
            free(replaced);
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Option<Version>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lines that stay are copied, with their comments; new entries come at the end.
    pub(super) fn write(
        &self,
        list: &AccessList,
        version: Option<Version>,
    ) -> Result<Rewritten, Refused> {
        let path = &self.config.path;
        let (old, mut new) = Rewrite::begin(path, version)?;
        let mut old = BufReader::new(old);
        let mut missing = list.clone();
        let mut line = Vec::new();
        while read_line(&mut old, &mut line, LINE_BYTES_MAX)
            .with_context(|| format!("cannot read the access list {}", path.display()))
            .map_err(Refused::Write)?
        {
            // It was a list when it was read.
            let entry = AccessList::parse_line(&line).map_err(|_| Refused::FileHasChanged)?;
            // One that is there twice is missing no more, and goes.
            if entry.is_none_or(|entry| missing.remove(&entry)) {
                if !line.ends_with(b"\n") {
                    line.push(b'\n');
                }
                new.append(&line)?;
            }
        }
        let mut missing: Vec<_> = missing.iter().collect();
        missing.sort_unstable();
        for entry in missing {
            new.append(format!("{entry}\n").as_bytes())?;
        }
        Ok(new.finish()?)
    }
}

/// The list after a change, and what that did.
pub(super) fn apply(present: &AccessList, change: Change) -> (AccessList, Changed) {
    let mut changed = Changed::default();
    let list = match change {
        Change::Edit { add, remove } => {
            let mut list = present.clone();
            let (all_added, all_removed) = (add.len(), remove.len());
            let is_new = |entry: &InfoHash| list.insert(*entry);
            changed.added = add.iter().copied().filter(is_new).count();
            changed.removed = remove.iter().filter(|entry| list.remove(entry)).count();
            changed.already_there = all_added - changed.added;
            changed.not_there = all_removed - changed.removed;
            list
        }
        Change::Replace(entries) => {
            let list: AccessList = entries.into_iter().collect();
            let kept = list.iter().filter(|entry| present.contains(entry)).count();
            changed.already_there = kept;
            changed.added = list.len() - kept;
            changed.removed = present.len() - kept;
            list
        }
    };
    changed.total = list.len();
    (list, changed)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    const A: InfoHash = InfoHash([0xaa; 20]);
    const B: InfoHash = InfoHash([0xbb; 20]);
    const C: InfoHash = InfoHash([0xcc; 20]);

    fn editor(folder: &Path, content: &str) -> AccessListEditor {
        let path = folder.join("list");
        fs::write(&path, content).unwrap();
        AccessListEditor::load(&AccessListConfig {
            mode: AccessListMode::Allow,
            path,
            ..AccessListConfig::default()
        })
        .unwrap()
    }

    fn edit(add: &[InfoHash], remove: &[InfoHash], write: bool) -> Order {
        let (add, remove) = (add.to_vec(), remove.to_vec());
        let change = Change::Edit { add, remove };
        Order { change, write }
    }

    fn content(folder: &Path) -> String {
        fs::read_to_string(folder.join("list")).unwrap()
    }

    #[test]
    fn a_change_says_what_it_did() {
        let folder = tempfile::tempdir().unwrap();
        let editor = editor(folder.path(), &format!("{A}\n{B}\n"));
        let mut reader = editor.shared().reader();
        let changed = editor
            .change(edit(&[A, C, C], &[B, InfoHash([1; 20])], false))
            .unwrap();
        let expected = Changed {
            added: 1,
            removed: 1,
            already_there: 2,
            not_there: 1,
            total: 2,
            ..Changed::default()
        };
        assert_eq!(changed, expected);
        assert!(reader.is_allowed(&C) && !reader.is_allowed(&B));
        let order = Order {
            change: Change::Replace(vec![B, C, C]),
            write: false,
        };
        let expected = Changed {
            added: 1,
            removed: 1,
            already_there: 1,
            not_there: 0,
            total: 2,
            ..Changed::default()
        };
        assert_eq!(editor.change(order).unwrap(), expected);
        assert!(reader.is_allowed(&B) && !reader.is_allowed(&A));
        assert_eq!(
            content(folder.path()),
            format!("{A}\n{B}\n"),
            "not asked for"
        );
        editor.reload();
        assert!(
            reader.is_allowed(&A) && !reader.is_allowed(&C),
            "the file wins"
        );
    }

    #[test]
    fn the_file_keeps_its_comments_and_its_mode() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let text = format!("# ours\n\n{A} - a name\r\n{B} gone\n{A}\n# end");
        let editor = editor(folder.path(), &text);
        let path = folder.path().join("list");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        assert!(editor.change(edit(&[C], &[B], true)).unwrap().written);
        let expected = format!("# ours\n\n{A} - a name\r\n# end\n{C}\n");
        assert_eq!(content(folder.path()), expected);
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o400
        );
        editor.change(edit(&[B], &[], true)).unwrap();
        assert_eq!(content(folder.path()), format!("{expected}{B}\n"));
        editor.reload();
        assert_eq!(editor.shared().present().len(), 3);
    }

    #[test]
    fn what_cannot_be_written_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let editor = editor(folder.path(), &format!("{A}\n"));
        let path = folder.path().join("list");
        fs::write(&path, format!("{A}\n{C}\n")).unwrap();
        let refused = editor.change(edit(&[B], &[], true)).unwrap_err();
        assert!(matches!(refused, Refused::FileHasChanged), "{refused:?}");
        assert_eq!(editor.shared().present().len(), 1);
        editor.reload();
        editor.change(edit(&[B], &[], true)).unwrap();
        assert_eq!(content(folder.path()), format!("{A}\n{C}\n{B}\n"));
        // Where the new file would be made.
        fs::create_dir(folder.path().join("list.partial")).unwrap();
        let refused = editor.change(edit(&[], &[A], true)).unwrap_err();
        assert!(matches!(refused, Refused::Write(_)), "{refused:?}");
        fs::rename(&path, folder.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("elsewhere", &path).unwrap();
        let Refused::Write(error) = editor.change(edit(&[], &[A], true)).unwrap_err() else {
            panic!("another reason");
        };
        assert!(error.to_string().contains("it is a link"), "{error}");
        assert_eq!(editor.shared().present().len(), 3);
    }

    #[test]
    fn without_a_list_there_is_nothing_to_change() {
        let editor = AccessListEditor::load(&AccessListConfig::default()).unwrap();
        let refused = editor.change(edit(&[A], &[], false)).unwrap_err();
        assert!(matches!(refused, Refused::Off), "{refused:?}");
    }
}

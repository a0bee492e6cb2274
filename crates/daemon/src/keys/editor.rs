//! The keys in use and their file, for whoever changes one of them while the daemon runs.

use std::collections::HashSet;
use std::io::BufReader;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use aquatic_config::KeysConfig;
use aquatic_keys::{KEY_LINE_BYTES_MAX, KeyEntry, KeyList, KeyMode, SharedKeys};

use super::change::{Change, Order};
use super::{METRICS, free, read, tell_entries, tell_time};
use crate::bucket::InBucket;
use crate::edited_list::{Refused, read_line};
use crate::rewritten_file::{Rewrite, Rewritten, Version};

/// Changes the keys in use, one change after the other: a reload that begins during a change, or
/// the other way round, waits for its end. So what is there after a reload is the file's.
#[derive(Debug)]
pub struct KeysEditor {
    pub(super) config: KeysConfig,
    pub(super) shared: SharedKeys,
    file: Mutex<Option<Version>>,
    pub(super) in_bucket: InBucket,
}

/// What has become of the keys of a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Changed {
    pub(super) added: usize,
    /// They were there, with another limit, end or name.
    pub(super) changed: usize,
    pub(super) removed: usize,
    pub(super) already_there: usize,
    pub(super) not_there: usize,
    /// Keys from now on.
    pub(super) total: usize,
    pub(super) written: bool,
    /// What of the file is not as it was, besides the keys.
    pub(super) warning: Option<String>,
}

impl KeysEditor {
    /// Loads the keys at the start of a daemon.
    ///
    /// # Errors
    /// If the file cannot be opened, or a line is wrong; names the file and the line, and no key.
    pub fn load(config: &KeysConfig) -> anyhow::Result<Self> {
        let (list, version) = read(config)?;
        let shared = SharedKeys::new(config.mode, list);
        tell_time(&shared);
        Ok(Self {
            config: config.clone(),
            shared,
            file: Mutex::new(version),
            in_bucket: InBucket::default(),
        })
    }

    /// The keys in use.
    #[must_use]
    pub fn shared(&self) -> &SharedKeys {
        &self.shared
    }

    /// Puts the present content of the file in the place of the keys. A file that cannot be used is
    /// logged as an error, and the previous keys are kept.
    pub fn reload(&self) {
        if self.in_bucket.bucket().is_some() {
            log::info!("the keys are in a bucket: their file is not read again");
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
                log::error!("reload failed, keeping the previous keys: {error:#}");
            }
        }
    }

    /// Changes the keys: all at once, as requests see it, or nothing. Those that stay keep their
    /// count of peers.
    pub(super) fn change(&self, order: Order) -> Result<Changed, Refused> {
        if self.config.mode == KeyMode::Off {
            return Err(Refused::Off);
        }
        if let Some(bucket) = self.in_bucket.bucket() {
            return self.change_bucket(bucket, order.change);
        }
        let mut file = self.lock();
        let (list, mut changed) = apply(&self.shared.list(), order.change);
        if order.write {
            let rewritten = self.write(&list, *file)?;
            *file = Some(rewritten.version);
            changed.written = true;
            changed.warning = rewritten.warning;
        }
        self.put(file, list);
        Ok(changed)
    }

    /// Puts keys in the place of the present ones.
    pub(super) fn put(&self, file: MutexGuard<'_, Option<Version>>, list: KeyList) {
        tell_entries(&list);
        let replaced = self.shared.replace(list);
        drop(file);
        free(replaced);
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Option<Version>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lines of keys that stay as they are, and those without a key, are copied; new keys come at
    /// the end.
    pub(super) fn write(
        &self,
        list: &KeyList,
        version: Option<Version>,
    ) -> Result<Rewritten, Refused> {
        let path = &self.config.path;
        let (old, mut new) = Rewrite::begin(path, version)?;
        let mut old = BufReader::new(old);
        let mut written = HashSet::new();
        let mut line = Vec::new();
        while read_line(&mut old, &mut line, KEY_LINE_BYTES_MAX)
            .with_context(|| format!("cannot read the file of keys {}", path.display()))
            .map_err(Refused::Write)?
        {
            // It was a list when it was read.
            let entry = KeyList::parse_line(&line).map_err(|_| Refused::FileHasChanged)?;
            let Some(entry) = entry else {
                append(&mut new, &line)?;
                continue;
            };
            let Some(key) = list.get(entry.text().as_bytes()) else {
                continue;
            };
            match entry.says_of_it(key) {
                true => append(&mut new, &line)?,
                false => append(&mut new, key.to_line(entry.text()).as_bytes())?,
            }
            written.insert(entry.text().to_owned());
        }
        let mut missing: Vec<_> = list
            .iter()
            .filter(|(text, _)| !written.contains(*text))
            .collect();
        missing.sort_unstable_by_key(|(text, _)| *text);
        for (text, key) in missing {
            append(&mut new, key.to_line(text).as_bytes())?;
        }
        Ok(new.finish()?)
    }
}

fn append(new: &mut Rewrite, line: &[u8]) -> Result<(), Refused> {
    new.append(line)?;
    if !line.ends_with(b"\n") {
        new.append(b"\n")?;
    }
    Ok(())
}

/// The keys after a change, and what that did.
pub(super) fn apply(present: &KeyList, change: Change) -> (KeyList, Changed) {
    let mut changed = Changed::default();
    let mut count = |entry: &KeyEntry| match present.get(entry.text().as_bytes()) {
        None => changed.added += 1,
        Some(key) if entry.says_of_it(key) => changed.already_there += 1,
        Some(_) => changed.changed += 1,
    };
    let list = match change {
        Change::Edit { add, remove } => {
            add.iter().for_each(&mut count);
            let mut list = present.clone();
            for entry in add {
                list.put(entry);
            }
            for entry in &remove {
                match list.remove(entry.text()) {
                    true => changed.removed += 1,
                    false => changed.not_there += 1,
                }
            }
            list
        }
        Change::Replace(entries) => {
            entries.iter().for_each(&mut count);
            let list: KeyList = entries.into_iter().collect();
            changed.removed = present.len() - changed.already_there - changed.changed;
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

    use aquatic_keys::{Announcer, KeyRefusal};
    use aquatic_types::Seconds;

    use super::super::change::parse;
    use super::*;

    fn editor(folder: &Path, content: &str) -> KeysEditor {
        let path = folder.join("keys");
        fs::write(&path, content).unwrap();
        let mode = KeyMode::Require;
        KeysEditor::load(&KeysConfig { mode, path }).unwrap()
    }

    fn order(text: &str) -> Order {
        parse(&mut text.as_bytes().to_vec()).unwrap()
    }

    fn content(folder: &Path) -> String {
        fs::read_to_string(folder.join("keys")).unwrap()
    }

    fn announcer(peer: u32) -> Announcer<u32> {
        Announcer {
            now: Seconds(1),
            age_seconds_max: None,
            peer,
        }
    }

    #[test]
    fn a_change_says_what_it_did() {
        let folder = tempfile::tempdir().unwrap();
        let file = "a peers=1 # Alice\nb\nc\n";
        let editor = editor(folder.path(), file);
        let mut reader = editor.shared().reader();
        let a = Some(&b"a"[..]);
        assert_eq!(reader.admit(a, announcer(1)), Ok(()));
        let changed = editor
            .change(order(
                r#"{"add": ["a peers=2 # Alice", "b", "d"], "remove": ["c", "e"]}"#,
            ))
            .unwrap();
        let expected = Changed {
            added: 1,
            changed: 1,
            removed: 1,
            already_there: 1,
            not_there: 1,
            total: 3,
            ..Changed::default()
        };
        assert_eq!(changed, expected);
        assert_eq!(reader.check(Some(b"d")), Ok(()));
        assert_eq!(reader.check(Some(b"c")), Err(KeyRefusal::Unknown));
        assert_eq!(reader.admit(a, announcer(2)), Ok(()));
        let full = reader.admit(a, announcer(3));
        assert!(
            matches!(full, Err(KeyRefusal::PeerLimit(_))),
            "the first peer counts: {full:?}"
        );
        let changed = editor.change(order(r#"{"replace": ["b", "c", "d peers=5"]}"#));
        let expected = Changed {
            added: 1,
            changed: 1,
            removed: 1,
            already_there: 1,
            total: 3,
            ..Changed::default()
        };
        assert_eq!(changed.unwrap(), expected);
        assert_eq!(content(folder.path()), file, "not asked for");
        editor.reload();
        assert_eq!(reader.check(a), Ok(()), "the file wins");
        assert_eq!(reader.check(Some(b"d")), Err(KeyRefusal::Unknown));
    }

    #[test]
    fn the_file_keeps_what_is_not_changed() {
        let folder = tempfile::tempdir().unwrap();
        let text = "# ours\n\na   peers=1   #  Alice\r\nb # gone\nc peers=2 # Carol\n# end";
        let editor = editor(folder.path(), text);
        let body = r#"{"add": ["e", "c peers=3 until=2027-01-31 # Carol", "a peers=1 # Alice", "d"],
                       "remove": "b", "write": true}"#;
        let changed = editor.change(order(body)).unwrap();
        assert!(changed.written);
        assert_eq!((changed.already_there, changed.changed), (1, 1));
        let expected = "# ours\n\na   peers=1   #  Alice\r\n\
                        c peers=3 until=2027-01-31 # Carol\n# end\nd\ne\n";
        assert_eq!(content(folder.path()), expected);
        editor
            .change(order(r#"{"replace": ["d", "a"], "write": true}"#))
            .unwrap();
        assert_eq!(content(folder.path()), "# ours\n\na\n# end\nd\n");
        editor.reload();
        assert_eq!(editor.shared().list().len(), 2);
    }

    #[test]
    fn what_cannot_be_written_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let editor = editor(folder.path(), "a\n");
        fs::write(folder.path().join("keys"), "a\nc\n").unwrap();
        let add = || order(r#"{"add": "b", "write": true}"#);
        let refused = editor.change(add()).unwrap_err();
        assert!(matches!(refused, Refused::FileHasChanged), "{refused:?}");
        assert_eq!(editor.shared().list().len(), 1);
        editor.reload();
        editor.change(add()).unwrap();
        assert_eq!(content(folder.path()), "a\nc\nb\n");
        // Where the new file would be made.
        fs::create_dir(folder.path().join("keys.partial")).unwrap();
        let refused = editor.change(order(r#"{"remove": "a", "write": true}"#));
        assert!(matches!(refused, Err(Refused::Write(_))), "{refused:?}");
        assert_eq!(editor.shared().list().len(), 3);
    }

    #[test]
    fn without_keys_there_is_nothing_to_change() {
        let editor = KeysEditor::load(&KeysConfig::default()).unwrap();
        let refused = editor.change(order(r#"{"add": "a"}"#)).unwrap_err();
        assert!(matches!(refused, Refused::Off), "{refused:?}");
    }
}

//! Lists whose entries are kept elsewhere, for several daemons at once: in a *bucket*, that is a
//! table of names and values of which all of them hear when it changes.
//!
//! Whoever has the way to the bucket gives it to the editor of a list
//! ([`set_bucket`](BucketList::set_bucket)) before anybody can ask for a change, and tells it what
//! is in the bucket from then on. What an operator asks to be changed goes to the bucket, and comes
//! back from there, as it does at all others. The file of the list is a copy then: it is what the
//! daemon goes by at a start until the bucket has been read.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::edited_list::Refused;
use crate::rewritten_file::{Rewritten, Version};

/// Names of entries that cannot be used and are told of one by one.
const TOLD_MAX: usize = 32;

/// And that are remembered.
const UNUSABLE_MAX: usize = 10_000;

/// A list that is no longer may well change as a whole.
const SHORT_LIST: usize = 10;

/// What the bucket says of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The name of the entry.
    pub name: String,
    /// What is said of it; `None`: there is no such entry any more.
    pub value: Option<Vec<u8>>,
    /// The number of the change.
    pub revision: u64,
}

/// A change of a bucket: the name of an entry, and its value, or `None` if it is to be deleted.
pub type BucketChange = (String, Option<Vec<u8>>);

/// The way to a bucket.
pub trait Bucket: Debug + Send + Sync {
    /// Makes changes, and waits until this daemon goes by them, too.
    ///
    /// # Errors
    /// If not all have been made.
    fn change(&self, changes: Vec<BucketChange>) -> Result<(), BucketError>;
}

/// Why changes of a bucket have not all been made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BucketError {
    /// None of them was; says so, and why.
    Unchanged(String),
    /// Some of them may have been, or even all.
    Uncertain(String),
}

/// A list whose entries are in a bucket.
pub trait BucketList: Send + Sync {
    /// From now on, the bucket has the entries. To be called once, before anybody changes the list.
    fn set_bucket(&self, bucket: Box<dyn Bucket>);

    /// The bucket has these entries, and no other ones. Returns how many cannot be used: these are
    /// as if they were not there.
    fn take_all(&self, items: Vec<Item>) -> usize;

    /// There has never been an entry in the bucket: the list stays as it is, and is not what the
    /// bucket has.
    fn take_nothing(&self);

    /// These have changed. No two have the same name.
    fn take(&self, items: Vec<Item>) -> usize;

    /// Has the file say what the list is, if that has changed since the start. So it does if there
    /// is nothing in the list any more: a start without servers would admit what was taken out.
    fn save(&self);
}

/// How the entries of a list are in a bucket.
pub(crate) trait BucketFormat {
    type Entry;

    /// How the list is called in the log.
    const LIST: &'static str;
    /// Whether nobody may see the names of entries.
    const IS_SECRET: bool;

    /// Reads an entry.
    ///
    /// # Errors
    /// If it is none; says why, and nothing that is secret.
    fn entry(name: &str, value: &[u8]) -> Result<Self::Entry, String>;
}

/// Entries that have come, and that have gone.
pub(crate) struct Read<E> {
    pub(crate) add: Vec<E>,
    pub(crate) remove: Vec<E>,
    pub(crate) invalid: usize,
}

/// What an editor keeps about a bucket.
#[derive(Debug, Default)]
pub(crate) struct InBucket {
    bucket: OnceLock<Box<dyn Bucket>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    told: BTreeSet<String>,
    unusable: BTreeSet<String>,
    /// The file does not say what the list is.
    is_unsaved: bool,
    /// The bucket lacks entries of the list.
    is_apart: bool,
    /// The bucket has never had an entry.
    is_unfilled: bool,
    /// What was wrong when the file was last written.
    trouble: Option<String>,
}

impl State {
    fn note_unusable(&mut self, name: &str) {
        if self.unusable.len() < UNUSABLE_MAX {
            self.unusable.insert(name.to_owned());
        }
    }
}

impl InBucket {
    pub(crate) fn set(&self, bucket: Box<dyn Bucket>) {
        // There is only one call.
        let _ = self.bucket.set(bucket);
    }

    pub(crate) fn bucket(&self) -> Option<&dyn Bucket> {
        self.bucket.get().map(|bucket| &**bucket)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what the bucket says. What cannot be used is as if it were not there, so that all
    /// daemons go by the same, whenever they have started. `is_whole`: there is nothing else in it.
    pub(crate) fn read<F: BucketFormat>(&self, items: Vec<Item>, is_whole: bool) -> Read<F::Entry> {
        {
            let mut state = self.state();
            state.is_unfilled = false;
            if is_whole {
                state.unusable.clear();
                state.is_apart = false;
            }
        }
        let mut read = Read {
            add: Vec::with_capacity(items.len()),
            remove: Vec::new(),
            invalid: 0,
        };
        for item in items {
            let refusal = match item.value.as_deref() {
                None => None,
                Some(value) => match F::entry(&item.name, value) {
                    Ok(entry) => {
                        self.state().unusable.remove(&item.name);
                        read.add.push(entry);
                        continue;
                    }
                    Err(reason) => Some(reason),
                },
            };
            if let Some(reason) = refusal {
                read.invalid += 1;
                self.tell::<F>(&item, &reason);
                self.state().note_unusable(&item.name);
            } else {
                self.state().unusable.remove(&item.name);
            }
            // One that cannot be a name has never been there.
            read.remove.extend(F::entry(&item.name, b""));
        }
        read
    }

    fn tell<F: BucketFormat>(&self, item: &Item, reason: &str) {
        let told = &mut self.state().told;
        if told.len() >= TOLD_MAX || !told.insert(item.name.clone()) {
            return;
        }
        let place = match F::IS_SECRET {
            true => format!("with revision {}", item.revision),
            false => format!("`{}`", item.name.escape_debug()),
        };
        let list = F::LIST;
        log::warn!("{list}: the entry {place} of the bucket cannot be used: {reason}");
        if told.len() == TOLD_MAX {
            log::warn!("{list}: further entries that cannot be used are counted only");
        }
    }

    /// The names of entries that cannot be used: they are in no list, and whoever replaces it does
    /// not want them either.
    pub(crate) fn unusable(&self) -> BTreeSet<String> {
        self.state().unusable.clone()
    }

    /// Whether the bucket lacks entries of the list.
    pub(crate) fn is_apart(&self) -> bool {
        self.state().is_apart
    }

    /// There has never been an entry in it, and so many are in the list.
    pub(crate) fn note_nothing(&self, entries: usize) {
        let mut state = self.state();
        state.is_apart = entries > 0;
        state.is_unfilled = true;
    }

    /// Whether some entries may be changed in a bucket, while there are so many in the list. The
    /// first ones of a bucket would soon be all: the others were never in it.
    ///
    /// # Errors
    /// If the list would lose its entries.
    pub(crate) fn require_filled(&self, entries: usize) -> Result<(), Refused> {
        match self.state().is_unfilled && entries > 0 {
            true => Err(Refused::Unfilled),
            false => Ok(()),
        }
    }

    /// The list has been changed.
    pub(crate) fn note_change(&self) {
        self.state().is_unsaved = true;
    }

    /// See [`BucketList::save`]. `lock` is of the file, and `write` writes the present list, unless
    /// the file is another one than this.
    pub(crate) fn save<'a>(
        &self,
        list: &str,
        path: &Path,
        lock: impl FnOnce() -> MutexGuard<'a, Option<Version>>,
        write: impl Fn(Option<Version>) -> Result<Rewritten, Refused>,
    ) {
        if let Some(trouble) = self.save_and_tell(path, lock, write) {
            log::warn!("{list}: {trouble}");
        }
    }

    /// Returns what is wrong, if that is new.
    fn save_and_tell<'a>(
        &self,
        path: &Path,
        lock: impl FnOnce() -> MutexGuard<'a, Option<Version>>,
        write: impl Fn(Option<Version>) -> Result<Rewritten, Refused>,
    ) -> Option<String> {
        if !std::mem::take(&mut self.state().is_unsaved) {
            return None;
        }
        let mut file = lock();
        let written = match write(*file) {
            // It is a copy: what somebody else has made of it is not kept.
            Err(Refused::FileHasChanged) => {
                let metadata = fs::metadata(path).ok();
                write(metadata.and_then(|it| Version::of(&it)))
            }
            written => written,
        };
        let mut state = self.state();
        let trouble = match written {
            Ok(rewritten) => {
                *file = Some(rewritten.version);
                rewritten.warning
            }
            Err(refused) => {
                // It is tried again: a key that has ended would be in the file for ever.
                state.is_unsaved = true;
                let reason = refused.reason();
                Some(format!(
                    "the file is no copy of the bucket any more: {reason}"
                ))
            }
        };
        let is_new = state.trouble != trouble;
        state.trouble.clone_from(&trouble);
        trouble.filter(|_| is_new)
    }
}

/// How the log is told of a whole bucket that was read, after which `gone` of `before` entries are
/// there no more, and `now` are: that almost everything goes is seldom meant.
pub(crate) fn level_of_read(before: usize, gone: usize, now: usize) -> log::Level {
    let is_emptied = now == 0 && gone > 0;
    let is_most = before > SHORT_LIST && gone > before / 2;
    match is_emptied || is_most {
        true => log::Level::Warn,
        false => log::Level::Info,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_loudly_that_most_entries_go() {
        use log::Level::{Info, Warn};
        for (before, gone, now, level) in [
            (0, 0, 0, Info),
            (0, 0, 5, Info),
            (1, 1, 0, Warn),
            (10, 10, 0, Warn),
            (10, 10, 1, Info),
            (11, 5, 6, Info),
            (11, 6, 5, Warn),
            (12, 6, 6, Info),
            (12, 7, 100, Warn),
            (10_000, 9_999, 1, Warn),
        ] {
            let told = level_of_read(before, gone, now);
            assert_eq!(told, level, "{before} {gone} {now}");
        }
    }

    #[test]
    fn what_is_wrong_with_the_copy_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list");
        fs::write(&path, "").unwrap();
        let version = Version::of(&fs::metadata(&path).unwrap()).unwrap();
        let (in_bucket, file) = (InBucket::default(), Mutex::new(None));
        let save = |result: Result<Option<&str>, &str>| {
            in_bucket.save_and_tell(
                &path,
                || file.lock().unwrap(),
                |_| match result {
                    Ok(warning) => Ok(Rewritten {
                        version,
                        warning: warning.map(str::to_owned),
                    }),
                    Err(reason) => Err(Refused::Write(anyhow::Error::msg(reason.to_owned()))),
                },
            )
        };
        assert_eq!(save(Ok(Some("lost"))), None, "nothing is to be saved");
        let change = |result| {
            in_bucket.note_change();
            save(result)
        };
        let lost = Some("the file has lost its owner");
        assert_eq!(change(Ok(lost)).as_deref(), lost);
        assert_eq!(*file.lock().unwrap(), Some(version));
        assert_eq!(change(Ok(lost)), None, "it was told");
        let full = Some("the file is no copy of the bucket any more: no space".to_owned());
        assert_eq!(change(Err("no space")), full);
        assert_eq!(save(Err("no space")), None, "the same once more");
        assert_eq!(save(Ok(None)), None);
        assert_eq!(change(Ok(lost)).as_deref(), lost);
    }
}

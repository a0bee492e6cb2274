//! One list for all workers, replaced while they work.

use std::net::IpAddr;
use std::sync::Arc;

use aquatic_types::InfoHash;
use arc_swap::{ArcSwap, Cache};
use serde::{Deserialize, Serialize};

use crate::{AccessList, DeniedNetworksReader, SharedDeniedNetworks};

/// What the list means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessListMode {
    /// Nothing: all torrents are served.
    #[default]
    Off,
    /// Only torrents on the list are served.
    Allow,
    /// Torrents on the list are not served.
    Deny,
}

/// A list in use. Clones share it, so that whoever replaces it does so for all.
///
/// The mode is for the life of the process; the list changes.
#[derive(Clone, Debug)]
pub struct SharedAccessList {
    mode: AccessListMode,
    list: Arc<ArcSwap<AccessList>>,
    networks: Option<SharedDeniedNetworks>,
}

impl SharedAccessList {
    /// In mode [`AccessListMode::Off`] the list is never looked at and may be empty.
    #[must_use]
    pub fn new(mode: AccessListMode, list: AccessList) -> Self {
        let list = Arc::new(ArcSwap::from_pointee(list));
        Self {
            mode,
            list,
            networks: None,
        }
    }

    /// The same, where clients of these networks are not served, if there are any.
    #[must_use]
    pub fn denying(mut self, networks: Option<SharedDeniedNetworks>) -> Self {
        self.networks = networks;
        self
    }

    /// The networks whose clients are not served, if any can be.
    #[must_use]
    pub fn denied_networks(&self) -> Option<&SharedDeniedNetworks> {
        self.networks.as_ref()
    }

    /// What the list means.
    #[must_use]
    pub fn mode(&self) -> AccessListMode {
        self.mode
    }

    /// Puts `list` in place of the present one. Every question asked after this returns is
    /// answered from it; no reader waits.
    pub fn replace(&self, list: AccessList) -> Replaced {
        Replaced(self.list.swap(Arc::new(list)))
    }

    /// The present list.
    #[must_use]
    pub fn present(&self) -> Arc<AccessList> {
        self.list.load_full()
    }

    /// For one worker. To be made once and kept: making one costs more than using it.
    #[must_use]
    pub fn reader(&self) -> AccessListReader {
        AccessListReader {
            mode: self.mode,
            list: Cache::new(Arc::clone(&self.list)),
            networks: self.networks.as_ref().map(SharedDeniedNetworks::reader),
        }
    }
}

/// A list that was replaced.
///
/// Readers may still hold it, until they are asked again or [refreshed](AccessListReader::refresh).
/// To free a long list takes milliseconds. Who keeps this until it is no longer in use spends them
/// in the place of a worker.
#[derive(Debug)]
pub struct Replaced<L = AccessList>(pub(crate) Arc<L>);

impl<L> Replaced<L> {
    /// Whether readers hold the list.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

impl Replaced {
    /// Whether anybody holds the list, or an earlier or later one that has the same table.
    #[must_use]
    pub fn table_is_in_use(&self) -> bool {
        self.is_in_use() || self.0.table_is_shared()
    }
}

/// A worker's way to ask.
///
/// Keeps the list it used last, and with each question only looks whether that is still the
/// present one: a read of a shared pointer that hardly ever changes, no write to shared memory.
#[derive(Clone, Debug)]
pub struct AccessListReader {
    mode: AccessListMode,
    list: Cache<Arc<ArcSwap<AccessList>>, Arc<AccessList>>,
    networks: Option<DeniedNetworksReader>,
}

impl AccessListReader {
    /// Whether the torrent is to be served.
    #[inline]
    pub fn is_allowed(&mut self, info_hash: &InfoHash) -> bool {
        match self.mode {
            AccessListMode::Off => true,
            AccessListMode::Allow => self.list.load().contains(info_hash),
            AccessListMode::Deny => !self.list.load().contains(info_hash),
        }
    }

    /// Whether clients of this address are not to be served.
    #[inline]
    pub fn denies(&mut self, ip: IpAddr) -> bool {
        match &mut self.networks {
            None => false,
            Some(networks) => networks.contain(ip),
        }
    }

    /// Lets go of a list that was replaced. To be called now and then by a reader that may not be
    /// asked for long; it costs no more than a question.
    #[inline]
    pub fn refresh(&mut self) {
        self.list.load();
        if let Some(networks) = &mut self.networks {
            networks.refresh();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const LISTED: InfoHash = InfoHash([1; 20]);
    const UNLISTED: InfoHash = InfoHash([2; 20]);

    #[test]
    fn mode_decides() {
        for (mode, listed, unlisted) in [
            (AccessListMode::Off, true, true),
            (AccessListMode::Allow, true, false),
            (AccessListMode::Deny, false, true),
        ] {
            let shared = SharedAccessList::new(mode, AccessList::from_iter([LISTED]));
            let mut reader = shared.reader();
            assert_eq!(reader.is_allowed(&LISTED), listed, "{mode:?}");
            assert_eq!(reader.is_allowed(&UNLISTED), unlisted, "{mode:?}");
            assert_eq!(shared.mode(), mode);
        }
    }

    #[test]
    fn replacing_reaches_all_readers() {
        let shared = SharedAccessList::new(AccessListMode::Deny, AccessList::default());
        let mut readers = [shared.reader(), shared.clone().reader()];
        assert!(readers.iter_mut().all(|reader| reader.is_allowed(&LISTED)));

        shared.clone().replace(AccessList::from_iter([LISTED]));
        assert!(!readers.iter_mut().any(|reader| reader.is_allowed(&LISTED)));
    }

    #[test]
    fn replacing_reaches_other_threads() {
        let shared = SharedAccessList::new(AccessListMode::Allow, AccessList::default());
        let mut reader = shared.reader();
        assert!(!reader.is_allowed(&LISTED));
        let worker = thread::spawn(move || {
            // Ends only once the new list is seen.
            while !reader.is_allowed(&LISTED) {
                thread::yield_now();
            }
        });
        shared.replace(AccessList::from_iter([LISTED]));
        worker.join().unwrap();
    }

    #[test]
    fn replaced_list_is_in_use_until_each_reader_was_asked_or_refreshed() {
        let shared = SharedAccessList::new(AccessListMode::Allow, AccessList::default());
        let mut asked = shared.reader();
        let mut refreshed = shared.reader();
        assert!(!asked.is_allowed(&LISTED));

        let replaced = shared.replace(AccessList::from_iter([LISTED]));
        assert!(replaced.is_in_use());
        assert!(asked.is_allowed(&LISTED));
        assert!(replaced.is_in_use());
        refreshed.refresh();
        assert!(!replaced.is_in_use());
        assert!(refreshed.is_allowed(&LISTED));
    }

    /// A reader that slept through two replacements holds the table by the list before both.
    #[test]
    fn a_table_is_in_use_as_long_as_any_list_has_it() {
        let shared = SharedAccessList::new(AccessListMode::Allow, AccessList::default());
        let mut asleep = shared.reader();
        let mut changed = AccessList::clone(&shared.present());
        changed.insert(LISTED);
        assert!(changed.shares_table_with(&shared.present()));
        drop(shared.replace(changed));
        let replaced = shared.replace(AccessList::default());
        assert!(!replaced.is_in_use() && replaced.table_is_in_use());
        asleep.refresh();
        assert!(!replaced.table_is_in_use());
    }
}

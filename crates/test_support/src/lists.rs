//! An access list that is replaced while requests are on their way, and what it has been before.
//!
//! A request is judged by the list that is in force when a worker looks at it. When that is, nobody
//! sees from outside: some time after its last byte has come, and before its answer can be read. So
//! an answer is right if a list that was in force in that time can lead to it; and if nothing was
//! replaced meanwhile, there is only one.

use std::collections::BTreeSet;

use aquatic_access_list::{AccessListMode, SharedAccessList};
use aquatic_types::InfoHash;

/// All lists that have been in force, one after the other.
pub struct Lists {
    shared: SharedAccessList,
    versions: Vec<BTreeSet<InfoHash>>,
}

impl Lists {
    /// The first list.
    #[must_use]
    pub fn new(mode: AccessListMode, listed: BTreeSet<InfoHash>) -> Self {
        Self {
            shared: SharedAccessList::new(mode, listed.iter().copied().collect()),
            versions: vec![listed],
        }
    }

    /// Lists of a tracker that starts with the one that is in force now.
    #[must_use]
    pub fn now_only(&self) -> Self {
        Self::new(self.shared.mode(), self.versions[self.version()].clone())
    }

    /// What the workers of a tracker look at.
    #[must_use]
    pub fn shared(&self) -> &SharedAccessList {
        &self.shared
    }

    /// From now on this list is in force.
    pub fn replace(&mut self, listed: BTreeSet<InfoHash>) {
        self.shared.replace(listed.iter().copied().collect());
        self.versions.push(listed);
    }

    /// Which list is in force: how many were before.
    #[must_use]
    pub fn version(&self) -> usize {
        self.versions.len() - 1
    }

    /// Whether the list that is in force allows a torrent.
    #[must_use]
    pub fn allows(&self, torrent: &InfoHash) -> bool {
        self.allows_in(self.version(), torrent)
    }

    /// Whether a list allows a torrent.
    #[must_use]
    pub fn allows_in(&self, version: usize, torrent: &InfoHash) -> bool {
        let is_listed = self.versions[version].contains(torrent);
        match self.shared.mode() {
            AccessListMode::Off => true,
            AccessListMode::Allow => is_listed,
            AccessListMode::Deny => !is_listed,
        }
    }

    /// The lists that have been in force since then.
    pub fn since(&self, version: usize) -> impl Iterator<Item = usize> {
        version..=self.version()
    }

    /// Whether it depends on the list, of those in force since then, if a torrent is allowed.
    #[must_use]
    pub fn is_doubtful(&self, since: usize, torrent: &InfoHash) -> bool {
        let mut verdicts = self.since(since).map(|it| self.allows_in(it, torrent));
        let first = verdicts.next();
        verdicts.any(|it| Some(it) != first)
    }

    /// Checks that an answer can have come about.
    ///
    /// # Panics
    /// If no list that has been in force since then leads to it.
    pub fn check(&self, since: usize, torrent: &InfoHash, is_allowed: bool) {
        let mut lists = self.since(since);
        assert!(
            lists.any(|it| self.allows_in(it, torrent) == is_allowed),
            "{torrent:?} allowed: {is_allowed}, by no list from {since} to {}",
            self.version()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TORRENT: InfoHash = InfoHash([1; 20]);

    fn lists() -> Lists {
        let mut lists = Lists::new(AccessListMode::Deny, BTreeSet::new());
        lists.replace(BTreeSet::from([TORRENT]));
        lists
    }

    #[test]
    fn what_was_asked_before_may_be_judged_by_either() {
        let mut lists = lists();
        assert!(lists.is_doubtful(0, &TORRENT) && !lists.is_doubtful(1, &TORRENT));
        lists.check(0, &TORRENT, true);
        lists.check(0, &TORRENT, false);
        lists.check(1, &TORRENT, false);
        assert!(!lists.allows(&TORRENT));
        assert!(!lists.shared().reader().is_allowed(&TORRENT));
        lists.replace(BTreeSet::new());
        assert!(lists.allows(&TORRENT));
    }

    #[test]
    #[should_panic(expected = "by no list from 1 to 1")]
    fn what_was_asked_afterwards_may_not() {
        lists().check(1, &TORRENT, true);
    }
}

//! One list for all workers, replaced while they work.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use aquatic_types::Seconds;
use arc_swap::{ArcSwap, Cache};
use serde::{Deserialize, Serialize};

use crate::list::{Key, KeyList};
use crate::refusal::KeyRefusal;

/// Whether clients need a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyMode {
    /// No: everybody is served, and keys in URLs mean nothing.
    #[default]
    Off,
    /// Only clients with a key of the list are served.
    Require,
}

/// Keys in use. Clones share them, so that whoever replaces them does so for all.
///
/// The mode is for the life of the process; the list changes.
#[derive(Clone, Debug)]
pub struct SharedKeys {
    mode: KeyMode,
    list: Arc<ArcSwap<KeyList>>,
    /// What the calendar says.
    unix_seconds: Arc<AtomicI64>,
    /// Makes fewer bytes of a peer.
    hasher: RandomState,
}

impl SharedKeys {
    /// In mode [`KeyMode::Off`] the list is never looked at and may be empty. End dates mean
    /// nothing until the [time is set](Self::set_unix_seconds).
    #[must_use]
    pub fn new(mode: KeyMode, mut list: KeyList) -> Self {
        list.put_in_order();
        Self {
            mode,
            list: Arc::new(ArcSwap::from_pointee(list)),
            unix_seconds: Arc::default(),
            hasher: RandomState::new(),
        }
    }

    /// For a tracker that wants no keys.
    #[must_use]
    pub fn off() -> Self {
        Self::new(KeyMode::Off, KeyList::default())
    }

    /// Whether clients need a key.
    #[must_use]
    pub fn mode(&self) -> KeyMode {
        self.mode
    }

    /// The present list.
    #[must_use]
    pub fn list(&self) -> Arc<KeyList> {
        self.list.load_full()
    }

    /// Puts `list` in place of the present one. Every question asked after this returns is answered
    /// from it; no reader waits. Peers that are active under a key stay so, if the key is in both.
    ///
    /// To be called by one thread at a time: of two lists, the later one stays.
    pub fn replace(&self, mut list: KeyList) -> Replaced {
        list.go_on_from(&self.list.load());
        Replaced(self.list.swap(Arc::new(list)))
    }

    /// Says what time it is, in seconds since 1970. To be called about once a second: keys end by
    /// this.
    pub fn set_unix_seconds(&self, seconds: i64) {
        self.unix_seconds.store(seconds, Ordering::Relaxed);
    }

    /// Whether a key is past its end date.
    #[must_use]
    pub fn has_ended(&self, key: &Key) -> bool {
        let now = self.unix_seconds.load(Ordering::Relaxed);
        key.until.is_some_and(|until| until.is_past(now))
    }

    /// How many peers are active under a key; `None` if they are not limited, and not counted.
    #[must_use]
    pub fn active_peers(&self, key: &Key, now: Seconds) -> Option<usize> {
        key.active.as_ref().map(|active| active.count(now))
    }

    /// As [`KeyReader::leave`], for whoever asks nothing else.
    pub fn leave<P: Hash>(&self, key: &[u8], peer: P) {
        if self.mode == KeyMode::Require {
            let peer = self.hasher.hash_one(&peer);
            self.list.load().leave(key, peer);
        }
    }

    /// Forgets peers that have been silent for too long, some at a time, so that what is kept of
    /// them goes away though nobody announces under their key any more. Looks at no more than about
    /// `looks_max` keys and peers, and at no key twice. Returns how many those were.
    ///
    /// To be called now and then with the same `cursor`. A worker that announces under a key which
    /// is looked at waits for no more than [`LOOKS_PER_LOCK`] peers.
    pub fn forget_silent(
        &self,
        now: Seconds,
        cursor: &mut ForgettingCursor,
        looks_max: usize,
    ) -> usize {
        let list = self.list.load();
        let limited = list.limited();
        let (mut looks, mut keys) = (0, 0);
        while looks < looks_max && keys < limited.len() {
            let Some(active) = limited.get(cursor.key) else {
                *cursor = ForgettingCursor::default();
                continue;
            };
            let some = (looks_max - looks).min(LOOKS_PER_LOCK);
            let pass = active.forget_some(now, cursor.peer, some);
            looks += pass.looks;
            // The list may be another one next time: then a part of a key is passed over, once.
            cursor.peer = pass.next.unwrap_or_default();
            if pass.next.is_none() {
                cursor.key += 1;
                keys += 1;
            }
        }
        looks
    }

    /// For one worker. To be made once and kept: making one costs more than using it.
    #[must_use]
    pub fn reader(&self) -> KeyReader {
        KeyReader {
            mode: self.mode,
            list: Cache::new(Arc::clone(&self.list)),
            unix_seconds: Arc::clone(&self.unix_seconds),
            hasher: self.hasher.clone(),
        }
    }
}

/// Peers of one key that are looked at while workers have to wait for that: some 50 µs.
const LOOKS_PER_LOCK: usize = 1_024;

/// Where [`SharedKeys::forget_silent`] goes on.
#[derive(Clone, Copy, Debug, Default)]
pub struct ForgettingCursor {
    key: usize,
    peer: u64,
}

/// A list that was replaced. Readers may still hold it; whoever keeps this until they do not frees
/// the list in the place of a worker.
#[derive(Debug)]
pub struct Replaced(Arc<KeyList>);

impl Replaced {
    /// Whether readers hold the list.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

/// The deadline of a peer that stays until it leaves.
const NEVER: Seconds = Seconds(u32::MAX);

/// Somebody who announces.
#[derive(Clone, Copy, Debug)]
pub struct Announcer<P> {
    /// The time.
    pub now: Seconds,
    /// For how many seconds it counts as active if it does not announce again; `None`: until it
    /// [leaves](KeyReader::leave).
    pub age_seconds_max: Option<u32>,
    /// What tells it from other peers, with the torrent: a client that takes part in two torrents
    /// is two peers.
    pub peer: P,
}

impl<P> Announcer<P> {
    fn deadline(&self) -> Seconds {
        self.age_seconds_max.map_or(NEVER, |age| self.now + age)
    }
}

/// A worker's way to ask.
///
/// Keeps the list it used last, and with each question only looks whether that is still the
/// present one: a read of a shared pointer that hardly ever changes.
#[derive(Clone, Debug)]
pub struct KeyReader {
    mode: KeyMode,
    list: Cache<Arc<ArcSwap<KeyList>>, Arc<KeyList>>,
    unix_seconds: Arc<AtomicI64>,
    hasher: RandomState,
}

impl KeyReader {
    /// Whether clients need a key. If not, nobody needs to look for one.
    #[inline]
    #[must_use]
    pub fn is_required(&self) -> bool {
        self.mode == KeyMode::Require
    }

    /// Whether a request with this key is to be served. To be asked before anything else is told
    /// about the tracker, and for a peer that comes or stays, [last of all](Self::admit) again.
    ///
    /// # Errors
    /// If it is not.
    #[inline]
    pub fn check(&mut self, key: Option<&[u8]>) -> Result<(), KeyRefusal> {
        match self.mode {
            KeyMode::Off => Ok(()),
            KeyMode::Require => self.find(key).map(|_| ()),
        }
    }

    /// Whether an announce of a peer that comes or stays is to be served. Takes note of it, if the
    /// peers of its key are limited.
    ///
    /// # Errors
    /// If it is not to be served.
    pub fn admit<P: Hash>(
        &mut self,
        key: Option<&[u8]>,
        announcer: Announcer<P>,
    ) -> Result<(), KeyRefusal> {
        if self.mode == KeyMode::Off {
            return Ok(());
        }
        let peer = self.hasher.hash_one(&announcer.peer);
        let key = self.find(key)?;
        let (Some(peers_max), Some(active)) = (key.peers_max, &key.active) else {
            return Ok(());
        };
        match active.admit(announcer.now, announcer.deadline(), peer, peers_max) {
            true => Ok(()),
            false => Err(KeyRefusal::PeerLimit(peers_max)),
        }
    }

    /// Takes note of a peer that stays whatever its key says: one that came before the key was
    /// there, or before its peers were limited. It takes a place that may not be there.
    pub fn keep<P: Hash>(&mut self, key: Option<&[u8]>, announcer: Announcer<P>) {
        if self.mode == KeyMode::Off {
            return;
        }
        let peer = self.hasher.hash_one(&announcer.peer);
        if let Ok(key) = self.find(key)
            && let Some(active) = &key.active
        {
            active.keep(announcer.deadline(), peer);
        }
    }

    /// A peer has left, or was not let in after it was [admitted](Self::admit). Its key has room
    /// for another one then, also if the key has ended: its end may be put off.
    pub fn leave<P: Hash>(&mut self, key: Option<&[u8]>, peer: P) {
        if self.mode == KeyMode::Require
            && let Some(text) = key
        {
            let peer = self.hasher.hash_one(&peer);
            self.list.load().leave(text, peer);
        }
    }

    /// Lets go of a list that was replaced. To be called now and then by a reader that may not be
    /// asked for long; it costs no more than a question.
    #[inline]
    pub fn refresh(&mut self) {
        self.list.load();
    }

    fn find(&mut self, key: Option<&[u8]>) -> Result<&Key, KeyRefusal> {
        let unix_seconds = self.unix_seconds.load(Ordering::Relaxed);
        let text = key.ok_or(KeyRefusal::Missing)?;
        let key = self.list.load().get(text).ok_or(KeyRefusal::Unknown)?;
        match key.until {
            Some(until) if until.is_past(unix_seconds) => Err(KeyRefusal::Ended(until)),
            _ => Ok(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn list(file: &str) -> KeyList {
        KeyList::parse(file.as_bytes()).unwrap()
    }

    fn shared(file: &str) -> SharedKeys {
        SharedKeys::new(KeyMode::Require, list(file))
    }

    fn announcer(peer: u32) -> Announcer<u32> {
        Announcer {
            now: Seconds(10),
            age_seconds_max: Some(100),
            peer,
        }
    }

    fn limit(max: u32) -> Result<(), KeyRefusal> {
        Err(KeyRefusal::PeerLimit(NonZeroU32::new(max).unwrap()))
    }

    #[test]
    fn without_keys_everybody_is_served() {
        let mut reader = SharedKeys::off().reader();
        assert!(!reader.is_required());
        for key in [None, Some(&b"a"[..])] {
            assert_eq!(reader.check(key), Ok(()));
            assert_eq!(reader.admit(key, announcer(1)), Ok(()));
        }
    }

    #[test]
    fn the_list_and_the_calendar_decide() {
        let keys = shared("a\nb until=2027-01-31\n");
        let end = crate::EndDate::parse("2027-01-31").unwrap();
        let mut reader = keys.reader();
        assert!(reader.is_required());
        let mut check = |key| {
            let admitted = reader.admit(key, announcer(1));
            assert_eq!(reader.check(key), admitted);
            admitted
        };
        assert_eq!(check(None), Err(KeyRefusal::Missing));
        assert_eq!(check(Some(b"c")), Err(KeyRefusal::Unknown));
        assert_eq!(check(Some(b"a")), Ok(()));
        assert_eq!(check(Some(b"b")), Ok(()));
        keys.set_unix_seconds(1_801_440_000);
        assert_eq!(check(Some(b"a")), Ok(()));
        assert_eq!(check(Some(b"b")), Err(KeyRefusal::Ended(end)));
    }

    #[test]
    fn workers_count_the_peers_of_a_key_together() {
        let keys = shared("a peers=2\nb peers=2\n");
        let mut readers = [keys.reader(), keys.clone().reader()];
        let a = Some(&b"a"[..]);
        assert_eq!(readers[0].admit(a, announcer(1)), Ok(()));
        assert_eq!(readers[1].admit(a, announcer(2)), Ok(()));
        assert_eq!(readers[1].admit(a, announcer(1)), Ok(()), "the same peer");
        assert_eq!(readers[0].admit(a, announcer(3)), limit(2));
        assert_eq!(readers[0].admit(Some(b"b"), announcer(3)), Ok(()));
        let active = |text: &[u8]| keys.active_peers(keys.list().get(text).unwrap(), Seconds(10));
        assert_eq!((active(b"a"), active(b"b")), (Some(2), Some(1)));
        readers[0].leave(a, 3_u32);
        assert_eq!(readers[0].admit(a, announcer(3)), limit(2), "not there");
        readers[0].leave(Some(b"b"), 1_u32);
        assert_eq!(
            readers[0].admit(a, announcer(3)),
            limit(2),
            "of another key"
        );
        readers[0].leave(a, 1_u32);
        assert_eq!(readers[0].admit(a, announcer(3)), Ok(()));
    }

    #[test]
    fn peers_leave_keys_that_have_ended() {
        let keys = shared("a peers=1 until=2027-01-31\n");
        let mut reader = keys.reader();
        let a = Some(&b"a"[..]);
        assert_eq!(reader.admit(a, announcer(1)), Ok(()));
        keys.set_unix_seconds(1_801_440_000);
        assert!(matches!(reader.check(a), Err(KeyRefusal::Ended(_))));
        reader.leave(a, 1_u32);
        keys.replace(list("a peers=1 until=2028-01-31\n"));
        assert_eq!(reader.admit(a, announcer(2)), Ok(()));
    }

    #[test]
    fn some_peers_stay_until_they_leave() {
        let keys = shared("a peers=1\n");
        let mut reader = keys.reader();
        let a = Some(&b"a"[..]);
        let staying = Announcer {
            age_seconds_max: None,
            ..announcer(1)
        };
        assert_eq!(reader.admit(a, staying), Ok(()));
        let late = Announcer {
            now: Seconds(4_000_000_000),
            ..announcer(2)
        };
        assert_eq!(reader.admit(a, late), limit(1));
        reader.leave(a, 1_u32);
        assert_eq!(reader.admit(a, late), Ok(()));
    }

    /// How many are kept in memory, whether they are active or not.
    fn kept(keys: &SharedKeys) -> usize {
        let list = keys.list();
        list.limited().iter().map(|active| active.kept()).sum()
    }

    #[test]
    fn the_silent_are_forgotten_without_further_announces() {
        const KEYS: u32 = 300;
        const PEERS: u32 = 7;
        const LOOKS: usize = 100;
        let mut file = "z peers=9000\nunlimited\n".to_owned();
        for key in 0..KEYS {
            file += &format!("{key} peers={PEERS}\n");
        }
        let keys = shared(&file);
        let mut reader = keys.reader();
        for key in 0..KEYS {
            for peer in 0..PEERS {
                let text = key.to_string();
                assert_eq!(reader.admit(Some(text.as_bytes()), announcer(peer)), Ok(()));
            }
        }
        for peer in 0..5_000 {
            assert_eq!(reader.admit(Some(b"z"), announcer(peer)), Ok(()));
        }
        let all = kept(&keys);
        assert_eq!(all, (KEYS * PEERS) as usize + 5_000);
        let mut cursor = ForgettingCursor::default();
        for _ in 0..100 {
            let looks = keys.forget_silent(Seconds(109), &mut cursor, LOOKS);
            assert!(looks <= LOOKS);
        }
        assert_eq!(kept(&keys), all, "nobody was silent for too long");
        let mut rounds = 0;
        while kept(&keys) > 0 {
            let before = kept(&keys);
            let looks = keys.forget_silent(Seconds(110), &mut cursor, LOOKS);
            // It ends with the key that is looked at.
            assert!((1..=LOOKS + 8).contains(&looks), "{looks}");
            assert!(before - kept(&keys) <= looks);
            rounds += 1;
            assert!(rounds < 200, "{} are left", kept(&keys));
        }
        assert!(
            rounds > 50,
            "so many cannot be looked at in {rounds} rounds"
        );
    }

    #[test]
    fn a_replaced_list_does_not_stop_forgetting() {
        let keys = shared("a peers=9\nb peers=9\nc peers=9\n");
        let mut reader = keys.reader();
        for key in [b"a", b"b", b"c"] {
            assert_eq!(reader.admit(Some(&key[..]), announcer(1)), Ok(()));
        }
        let mut cursor = ForgettingCursor::default();
        assert_eq!(keys.forget_silent(Seconds(10), &mut cursor, 2), 2);
        keys.replace(list("b peers=5\nd\n"));
        assert_eq!(kept(&keys), 1);
        keys.forget_silent(Seconds(110), &mut cursor, 2);
        assert_eq!(kept(&keys), 0);
        keys.replace(list(""));
        assert_eq!(keys.forget_silent(Seconds(110), &mut cursor, 2), 0);
    }

    #[test]
    fn counts_outlive_a_reload() {
        let keys = shared("a peers=1\nb\nc peers=1\n");
        let mut reader = keys.reader();
        let [a, b, c] = [b"a", b"b", b"c"].map(|key| Some(&key[..]));
        for key in [a, b, c] {
            assert_eq!(reader.admit(key, announcer(1)), Ok(()));
        }
        let replaced = keys.replace(list("a peers=1\nb peers=1\n"));
        assert!(replaced.is_in_use());
        reader.refresh();
        assert!(!replaced.is_in_use());
        assert_eq!(reader.admit(a, announcer(2)), limit(1));
        assert_eq!(reader.admit(b, announcer(2)), Ok(()), "counted from now on");
        assert_eq!(reader.admit(b, announcer(1)), limit(1));
        assert_eq!(reader.admit(c, announcer(1)), Err(KeyRefusal::Unknown));
        keys.replace(list("a peers=2\nc peers=1\n"));
        assert_eq!(reader.admit(a, announcer(2)), Ok(()));
        assert_eq!(reader.admit(c, announcer(2)), Ok(()), "its peers are gone");
    }
}

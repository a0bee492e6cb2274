//! How many peers are active under one key.
//!
//! Kept beside the swarms and not in them, so that a tracker without keys keeps nothing, and one
//! with keys counts the peers of all shards and protocols together. A peer is 64 bits of a hash
//! with a random secret; it is active until it leaves, or until its age allows it to be forgotten.
//! Whoever is told how many there are, or adds one where there are as many as may be, forgets those
//! first; so does the daemon, [a slice at a time](crate::SharedKeys::forget_silent).

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aquatic_types::Seconds;

/// The peers of one key.
///
/// The lock is that of one key, so workers meet at it only when one user announces to several of
/// them at the same time.
#[derive(Debug, Default)]
pub(crate) struct ActivePeers(Mutex<Deadlines>);

#[derive(Debug, Default)]
struct Deadlines {
    /// By peer: when it is forgotten unless it announces again. In the order of their hashes, so
    /// that a pass over them can stop anywhere and go on there.
    by_peer: BTreeMap<u64, Seconds>,
    /// No peer has an earlier one.
    earliest: Seconds,
}

/// What has come of a look at some peers of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pass {
    /// Peers that were looked at; and one more for the key.
    pub(crate) looks: usize,
    /// The peer to go on with; `None` after the last one.
    pub(crate) next: Option<u64>,
}

impl ActivePeers {
    /// Takes note of a peer, if it is known or there is room for one more.
    pub(crate) fn admit(
        &self,
        now: Seconds,
        deadline: Seconds,
        peer: u64,
        max: NonZeroU32,
    ) -> bool {
        let mut peers = self.lock();
        if let Some(known) = peers.by_peer.get_mut(&peer)
            && now < *known
        {
            *known = deadline;
            peers.earliest = peers.earliest.min(deadline);
            return true;
        }
        let max = usize::try_from(max.get()).unwrap_or(usize::MAX);
        if peers.by_peer.len() >= max {
            peers.forget(now);
        }
        if peers.by_peer.len() >= max {
            return false;
        }
        peers.insert(peer, deadline);
        true
    }

    /// Takes note of a peer that stays in any case: there can be more than may be then.
    pub(crate) fn keep(&self, deadline: Seconds, peer: u64) {
        self.lock().insert(peer, deadline);
    }

    /// A peer has left.
    pub(crate) fn remove(&self, peer: u64) {
        self.lock().by_peer.remove(&peer);
    }

    /// Forgets those of the peers from `first` on that have been silent for too long, and looks at
    /// no more than so many.
    pub(crate) fn forget_some(&self, now: Seconds, first: u64, looks_max: usize) -> Pass {
        self.lock().forget_some(now, first, looks_max)
    }

    /// How many are active.
    pub(crate) fn count(&self, now: Seconds) -> usize {
        let mut peers = self.lock();
        peers.forget(now);
        peers.by_peer.len()
    }

    /// How many are kept in memory, whether they are active or not.
    #[cfg(test)]
    pub(crate) fn kept(&self) -> usize {
        self.lock().by_peer.len()
    }

    fn lock(&self) -> MutexGuard<'_, Deadlines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Deadlines {
    fn insert(&mut self, peer: u64, deadline: Seconds) {
        self.earliest = match self.by_peer.is_empty() {
            true => deadline,
            false => self.earliest.min(deadline),
        };
        self.by_peer.insert(peer, deadline);
    }

    /// Forgets whoever has not announced for too long. Looks at all peers only when one of them may
    /// be due, so that who is refused again and again does not cost that each time.
    fn forget(&mut self, now: Seconds) {
        if now < self.earliest {
            return;
        }
        self.by_peer.retain(|_, deadline| now < *deadline);
        self.earliest = self.by_peer.values().copied().min().unwrap_or_default();
    }

    fn forget_some(&mut self, now: Seconds, first: u64, looks_max: usize) -> Pass {
        let mut pass = Pass {
            looks: 1,
            next: None,
        };
        if self.by_peer.is_empty() || now < self.earliest {
            return pass;
        }
        if first == 0 && self.by_peer.len() <= looks_max {
            pass.looks += self.by_peer.len();
            self.forget(now);
            return pass;
        }
        let mut silent = Vec::new();
        let mut some = self.by_peer.range(first..);
        for (peer, deadline) in some.by_ref().take(looks_max) {
            pass.looks += 1;
            if *deadline <= now {
                silent.push(*peer);
            }
        }
        pass.next = some.next().map(|(peer, _)| *peer);
        for peer in silent {
            self.by_peer.remove(&peer);
        }
        pass
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const TWO: NonZeroU32 = NonZeroU32::new(2).unwrap();

    #[test]
    fn room_is_made_by_leaving_and_by_silence() {
        let peers = ActivePeers::default();
        let admit = |now, peer| peers.admit(Seconds(now), Seconds(now + 100), peer, TWO);
        assert!(admit(0, 1) && admit(50, 2));
        assert!(
            !admit(60, 3) && admit(60, 2),
            "who is known is always served"
        );
        peers.remove(2);
        assert!(admit(61, 3) && !admit(61, 2));
        assert!(!admit(99, 2), "the first is not forgotten yet");
        assert!(admit(100, 2) && !admit(100, 1));
        assert_eq!(peers.count(Seconds(160)), 2);
        assert_eq!(peers.count(Seconds(161)), 1);
        assert_eq!(peers.count(Seconds(200)), 0);
    }

    #[test]
    fn a_lower_limit_sends_nobody_away() {
        let peers = ActivePeers::default();
        let admit = |peer, max| {
            let max = NonZeroU32::new(max).unwrap();
            peers.admit(Seconds(1), Seconds(100), peer, max)
        };
        assert!((0..5).all(|peer| admit(peer, 5)));
        assert!((0..5).all(|peer| admit(peer, 2)));
        assert!(!admit(5, 2) && admit(5, 6));
    }

    #[test]
    fn who_stays_counts_beyond_the_limit() {
        let peers = ActivePeers::default();
        let admit = |peer| peers.admit(Seconds(1), Seconds(100), peer, TWO);
        assert!(admit(1));
        (1..=3).for_each(|peer| peers.keep(Seconds(50), peer));
        assert_eq!(peers.count(Seconds(1)), 3);
        assert!(!admit(4) && admit(3));
        peers.remove(1);
        assert!(!admit(4));
        assert_eq!(peers.count(Seconds(50)), 1, "the second was silent");
        assert!(admit(4));
    }

    #[test]
    fn the_silent_are_forgotten_in_slices() {
        let peers = ActivePeers::default();
        let max = NonZeroU32::MAX;
        for peer in 0..100 {
            let deadline = Seconds(if peer % 4 == 0 { 500 } else { 50 });
            assert!(peers.admit(Seconds(0), deadline, peer, max));
        }
        let pass = |looks, next| Pass { looks, next };
        assert_eq!(peers.forget_some(Seconds(49), 0, 30), pass(1, None));
        assert_eq!(peers.kept(), 100, "nobody is silent yet");
        assert_eq!(peers.forget_some(Seconds(50), 0, 30), pass(31, Some(30)));
        assert_eq!(peers.kept(), 100 - 22);
        assert_eq!(peers.forget_some(Seconds(50), 30, 30), pass(31, Some(60)));
        assert_eq!(peers.forget_some(Seconds(50), 60, 30), pass(31, Some(90)));
        assert_eq!(peers.forget_some(Seconds(50), 90, 30), pass(11, None));
        assert_eq!(peers.kept(), 25);
        assert_eq!(peers.forget_some(Seconds(50), 0, 30), pass(26, None));
        assert_eq!(
            peers.forget_some(Seconds(51), 0, 30),
            pass(1, None),
            "it is known that nobody is due"
        );
        assert_eq!(peers.forget_some(Seconds(500), 0, 30), pass(26, None));
        assert_eq!(peers.kept(), 0);
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Announce(u64, u32),
        Leave(u64),
        Wait(u32),
        /// From this peer on, so many.
        ForgetSome(u64, usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0..8_u64, 1..50_u32).prop_map(|(peer, age)| Step::Announce(peer, age)),
            1 => (0..8_u64).prop_map(Step::Leave),
            2 => (0..20_u32).prop_map(Step::Wait),
            2 => (0..9_u64, 0..5_usize).prop_map(|(first, looks)| Step::ForgetSome(first, looks)),
        ];
        vec(step, 0..200)
    }

    proptest! {
        /// Against a list that is looked through each time.
        #[test]
        fn counts_are_those_of_a_naive_model(steps in steps(), max in 1..6_u32) {
            let peers = ActivePeers::default();
            let max = NonZeroU32::new(max).unwrap();
            let mut model: Vec<(u64, u32)> = Vec::new();
            let mut now = 0;
            for step in steps {
                match step {
                    Step::Announce(peer, age) => {
                        let deadline = now + age;
                        let known = model.iter_mut().find(|(known, _)| *known == peer);
                        let expected = match known {
                            // One that is past its deadline and that nobody has looked at may be
                            // known still, or not: it comes in either way, if there is room.
                            Some((_, until)) if *until > now => {
                                *until = deadline;
                                true
                            }
                            _ => {
                                model.retain(|(_, until)| *until > now);
                                let is_room = model.len() < max.get() as usize;
                                if is_room {
                                    model.push((peer, deadline));
                                }
                                is_room
                            }
                        };
                        let admitted = peers.admit(Seconds(now), Seconds(deadline), peer, max);
                        prop_assert_eq!(admitted, expected);
                    }
                    // Nobody who asks can tell whether it was done.
                    Step::ForgetSome(first, looks_max) => {
                        let pass = peers.forget_some(Seconds(now), first, looks_max);
                        prop_assert!(pass.looks <= looks_max + 1);
                        prop_assert!(pass.next.is_none_or(|next| next >= first));
                    }
                    Step::Leave(peer) => {
                        model.retain(|(known, _)| *known != peer);
                        peers.remove(peer);
                    }
                    Step::Wait(seconds) => {
                        now += seconds;
                        model.retain(|(_, until)| *until > now);
                        prop_assert_eq!(peers.count(Seconds(now)), model.len());
                    }
                }
            }
        }
    }
}

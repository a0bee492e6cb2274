//! What nodes know, compared with what there is.

use std::ops::AddAssign;

use crate::node::Known;
use crate::population::{Population, SECOND, Session, State};

/// Deadlines are kept in steps of two seconds, which begin at other times at each node: it forgets
/// others up to one step earlier or later for that. What it hears counts as 200 ms newer than the
/// beginning of its batch, too.
pub(crate) const ROUNDING_MICROS: u64 = 2 * SECOND + 200_000 + 10_000;

/// Numbers of peers, over all comparisons. Peers that a node has heard of by others, unless it says
/// otherwise.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) samples: u64,
    /// Who is there, and of these who is not known.
    pub(crate) live: u64,
    pub(crate) missing: u64,
    /// Who is there and has announced to this node, and is not known to it.
    pub(crate) missing_at_home: u64,
    /// Who is known as a seeder and is none, or the other way round.
    pub(crate) mistaken: u64,
    /// Who has left and is known.
    pub(crate) left: u64,
    /// Who has vanished and is known.
    pub(crate) vanished: u64,
    /// The longest time for which somebody was known after his own node has forgotten him.
    pub(crate) latest_micros: u64,
    /// Who is known and was never there.
    pub(crate) strangers: u64,
}

impl AddAssign for Figures {
    fn add_assign(&mut self, other: Self) {
        self.samples += other.samples;
        self.live += other.live;
        self.missing += other.missing;
        self.missing_at_home += other.missing_at_home;
        self.mistaken += other.mistaken;
        self.left += other.left;
        self.vanished += other.vanished;
        self.latest_micros = self.latest_micros.max(other.latest_micros);
        self.strangers += other.strangers;
    }
}

impl Figures {
    /// The part of live peers that is missing.
    pub(crate) fn missing_share(&self) -> f64 {
        share(self.missing, self.live)
    }

    /// In seconds.
    #[expect(clippy::cast_precision_loss, reason = "hours, not centuries")]
    pub(crate) fn seconds(micros: u64) -> f64 {
        micros as f64 / 1e6
    }
}

/// A part of a whole.
#[expect(
    clippy::cast_precision_loss,
    reason = "these are counts of things that happened"
)]
pub(crate) fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

/// Which peers are compared.
pub(crate) type Among<'a> = &'a dyn Fn(&Session) -> bool;

/// Who was seen in a comparison.
#[derive(Default)]
pub(crate) struct Seen {
    /// By session: the comparison in which it was seen last.
    at: Vec<u64>,
    present: u64,
}

impl Seen {
    /// Compares what `node` knows of a torrent with the model.
    pub(crate) fn compare(
        &mut self,
        (population, torrent, among): (&Population, usize, Among<'_>),
        known: &[Known],
        (node, now, grace): (usize, u64, u64),
        figures: &mut Figures,
    ) {
        self.present += 1;
        self.at.resize(population.sessions.len(), 0);
        for known in known {
            let number = known.address.number() as usize;
            let session = population.sessions.get(number);
            let Some(session) = session.filter(|it| it.torrent as usize == torrent) else {
                figures.strangers += 1;
                continue;
            };
            self.at[number] = self.present;
            let is_old = |since: u64| since + grace <= now;
            if session.node != node && among(session) {
                let is_live = session.state == State::Live;
                let is_mistaken = is_live && session.is_seeder != known.is_seeder;
                figures.mistaken += u64::from(is_mistaken && is_old(session.changed));
                let has_left = session.state == State::Left;
                figures.left += u64::from(has_left && is_old(session.end));
                figures.vanished += u64::from(session.state == State::Vanished);
                let late = now.saturating_sub(session.until);
                figures.latest_micros = figures.latest_micros.max(late);
            }
        }
        for number in &population.torrents[torrent] {
            let session = &population.sessions[*number as usize];
            if session.state != State::Live || session.first + grace > now || !among(session) {
                continue;
            }
            let is_missing = self.at[*number as usize] != self.present;
            if session.node == node {
                figures.missing_at_home += u64::from(is_missing);
            } else {
                figures.live += 1;
                figures.missing += u64::from(is_missing);
            }
        }
    }
}

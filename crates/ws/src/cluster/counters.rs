//! What is counted about other nodes.

use aquatic_daemon::counter::{Counter, Counts, Label};
use aquatic_daemon::exposition::{Exposition, Kind};
use aquatic_daemon::labels;

labels! {
    /// `aquatic_cluster_messages_relayed_total{kind}`.
    pub enum LetterKind {
        /// An offer for a client of another node.
        Offer = "offer",
        /// An answer to an offer that came from another node.
        Answer = "answer",
        /// An offer has not come to its receiver, and is closed.
        Withdrawal = "withdrawal",
        /// Something else, which a later version may know.
        Other = "other",
    }
}

labels! {
    /// `aquatic_cluster_messages_relayed_total{outcome}`.
    pub enum LetterOutcome {
        /// To another node.
        Sent = "sent",
        /// Of another node: on its way to the client, or for a withdrawal, heeded.
        Delivered = "delivered",
        /// Of another node: the receiver is not in the swarm, or no such offer is open.
        Refused = "refused",
        /// Of another node: no letter that can be read, or an offer or answer that is no JSON.
        Invalid = "invalid",
        /// Of another node: larger than `protocol.max_offer_size`. Or for one, and larger than what
        /// fits into a message.
        TooLarge = "too_large",
        /// Of another node: a worker does not keep up.
        Full = "full",
        /// For a node that has gone, or was never heard of.
        NodeGone = "node_gone",
        /// For another node, while there is no connection: it would come too late.
        Disconnected = "disconnected",
    }
}

labels! {
    /// `aquatic_cluster_members_total{outcome}`.
    pub enum MemberOutcome {
        /// Told to other nodes.
        Published = "published",
        /// Not told to other nodes, since the bus does not keep up. Told again when it is due.
        Dropped = "dropped",
        /// Told by another node, and taken in.
        Applied = "applied",
        /// Told by another node: nothing that was not known, or what is over.
        Known = "known",
        /// Told by another node: a torrent or software that is not allowed here.
        Forbidden = "forbidden",
        /// Told by another node: there is no room, by `limits`.
        Full = "full",
        /// Told by another node: what cannot be.
        Invalid = "invalid",
        /// Told by another node: a worker does not keep up.
        Lost = "lost",
    }
}

impl LetterKind {
    /// Of a letter as it stands in a parcel, where its kind comes first.
    pub(crate) fn of_written(letter: &[u8]) -> Self {
        match letter.first() {
            Some(1) => Self::Offer,
            Some(2) => Self::Answer,
            Some(3) => Self::Withdrawal,
            _ => Self::Other,
        }
    }
}

/// What the replica counts.
#[derive(Debug)]
pub struct ClusterCounters {
    /// By [`LetterKind`].
    letters: Box<[Counts<LetterOutcome>]>,
    /// What is told of members.
    pub members: Counts<MemberOutcome>,
}

impl Default for ClusterCounters {
    fn default() -> Self {
        Self {
            letters: LetterKind::ALL.iter().map(|_| Counts::default()).collect(),
            members: Counts::default(),
        }
    }
}

impl ClusterCounters {
    /// The counter of a kind of letter with this outcome.
    #[must_use]
    pub fn letters(&self, kind: LetterKind, outcome: LetterOutcome) -> &Counter {
        self.letters[kind.index()].of(outcome)
    }

    /// Adds what is counted to the metrics.
    pub fn write(&self, metrics: &mut Exposition) {
        let help = "WebTorrent messages for clients of other nodes, and from those.";
        let name = "aquatic_cluster_messages_relayed_total";
        let mut family = metrics.family(name, Kind::Counter, help);
        for (kind, counts) in LetterKind::ALL.iter().zip(&self.letters) {
            for (outcome, count) in counts.iter() {
                let labels = [("kind", kind.label()), ("outcome", outcome.label())];
                family.sample(&labels, count);
            }
        }
        let help = "What nodes tell each other of members of WebTorrent swarms.";
        let name = "aquatic_cluster_members_total";
        let mut family = metrics.family(name, Kind::Counter, help);
        for (outcome, count) in self.members.iter() {
            family.sample(&[("outcome", outcome.label())], count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_and_outcome_is_a_sample() {
        let counters = ClusterCounters::default();
        let offers = counters.letters(LetterKind::Offer, LetterOutcome::Sent);
        offers.add(3);
        counters.members.of(MemberOutcome::Known).add(4);
        let mut metrics = Exposition::default();
        counters.write(&mut metrics);
        let text = metrics.into_text();
        let kinds = LetterKind::ALL.len() * LetterOutcome::ALL.len();
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        assert_eq!(samples.count(), kinds + MemberOutcome::ALL.len());
        for sample in [
            "aquatic_cluster_messages_relayed_total{kind=\"offer\",outcome=\"sent\"} 3",
            "aquatic_cluster_messages_relayed_total{kind=\"answer\",outcome=\"sent\"} 0",
            "aquatic_cluster_members_total{outcome=\"known\"} 4",
        ] {
            assert!(text.lines().any(|line| line == sample), "{sample}: {text}");
        }
    }
}

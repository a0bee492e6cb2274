//! Under which subjects messages go.

use crate::bus::{Channel, Destination};
use crate::config::is_name;

/// The version of what is in messages is a part of each subject.
const PREFIX: &str = "aquatic.v1";

/// What the name of the stream of announces begins with: no log of a cluster does.
pub(super) const ANNOUNCE_STREAM: &str = "AQUATIC-ANNOUNCES_";

/// Subjects of one cluster, for one node.
#[derive(Clone, Debug)]
pub(super) struct Subjects {
    cluster: String,
    node: String,
}

impl Subjects {
    pub(super) fn new(cluster: &str, node: &str) -> Self {
        Self {
            cluster: cluster.to_owned(),
            node: node.to_owned(),
        }
    }

    fn of(&self, word: &str, node: &str) -> String {
        format!("{PREFIX}.{}.{word}.{node}", self.cluster)
    }

    /// What to subscribe to, to hear this channel.
    pub(super) fn to_hear(&self, channel: Channel) -> String {
        match channel {
            Channel::Peers | Channel::Members | Channel::Nodes => self.of(channel.name(), "*"),
            Channel::Parcels => self.of(channel.name(), &self.node),
        }
    }

    /// What to publish under, so that a message gets to its destination. `None`: there is no such
    /// one.
    pub(super) fn to(&self, destination: &Destination) -> Option<String> {
        match destination {
            Destination::All(Channel::Parcels) => None,
            Destination::All(channel) => Some(self.of(channel.name(), &self.node)),
            Destination::Node(node) => {
                is_name(node).then(|| self.of(Channel::Parcels.name(), node))
            }
        }
    }

    /// A subject that nobody listens to.
    pub(super) fn greeting(&self) -> String {
        self.of("greeting", &self.node)
    }

    /// All messages of a channel, for the log.
    pub(super) fn logged(&self, channel: Channel) -> String {
        self.of(channel.name(), ">")
    }

    /// What announces of this node are published under.
    pub(super) fn announces(&self) -> String {
        self.of("announces", &self.node)
    }

    /// Those of all nodes.
    pub(super) fn all_announces(&self) -> String {
        self.of("announces", "*")
    }

    /// The name of the stream that keeps them.
    pub(super) fn announce_stream(&self) -> String {
        format!("{ANNOUNCE_STREAM}{}", self.cluster)
    }

    /// The name of the log.
    pub(super) fn stream(&self) -> String {
        format!("AQUATIC_{}", self.cluster)
    }

    /// The name of the node.
    pub(super) fn node(&self) -> &str {
        &self.node
    }

    /// The name of the cluster.
    pub(super) fn cluster(&self) -> &str {
        &self.cluster
    }

    /// What a message under this subject of this cluster is about, and the node that it names. A
    /// stream may have those of others.
    pub(super) fn parse<'a>(&self, subject: &'a str) -> Option<(Channel, &'a str)> {
        let mut words = subject.strip_prefix(PREFIX)?.strip_prefix('.')?.split('.');
        let (cluster, word, node) = (words.next()?, words.next()?, words.next()?);
        if cluster != self.cluster {
            return None;
        }
        let channel = Channel::ALL.into_iter().find(|it| it.name() == word)?;
        words.next().is_none().then_some((channel, node))
    }
}

/// Whether all that is published under `subject` (`a.b.>`) goes to one of these, which may have
/// wildcards, too.
pub(super) fn is_covered(subject: &str, by: &[String]) -> bool {
    by.iter().any(|it| covers(it, subject))
}

fn covers(wide: &str, subject: &str) -> bool {
    let mut words = subject.split('.');
    for wanted in wide.split('.') {
        let covered = match (wanted, words.next()) {
            (">", Some(_)) => return true,
            ("*", Some(word)) => word != ">",
            (wanted, word) => word == Some(wanted),
        };
        if !covered {
            return false;
        }
    }
    words.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_says_where_a_message_goes_and_what_it_is_about() {
        let subjects = Subjects::new("main", "a");
        let subject = subjects.to(&Destination::All(Channel::Peers)).unwrap();
        assert_eq!(subject, "aquatic.v1.main.peers.a");
        assert_eq!(subjects.parse(&subject), Some((Channel::Peers, "a")));
        assert_eq!(subjects.to_hear(Channel::Peers), "aquatic.v1.main.peers.*");
        let parcel = subjects.to(&Destination::Node("b".to_owned())).unwrap();
        let other = Subjects::new("main", "b");
        assert_eq!(other.to_hear(Channel::Parcels), parcel);
        assert_eq!(subjects.parse(&parcel), Some((Channel::Parcels, "b")));
    }

    #[test]
    fn what_is_no_subject_of_ours_is_nothing() {
        let subjects = Subjects::new("main", "a");
        for node in ["", "a.b", "*", ">", "a b", "b\r\nPUB x 0\r\n"] {
            assert_eq!(
                subjects.to(&Destination::Node(node.to_owned())),
                None,
                "{node}"
            );
        }
        assert_eq!(subjects.to(&Destination::All(Channel::Parcels)), None);
        for subject in [
            "aquatic.v1.main.peers",
            "aquatic.v1.main.peers.a.b",
            "aquatic.v1.main.others.a",
            "aquatic.v2.main.peers.a",
            "aquatic.v1",
            "",
        ] {
            assert_eq!(subjects.parse(subject), None, "{subject}");
        }
    }

    #[test]
    fn a_wider_subject_covers_a_narrower_one() {
        for (wide, subject, is_covered) in [
            ("a.b.>", "a.b.>", true),
            ("a.>", "a.b.>", true),
            (">", "a.b.>", true),
            ("a.*.>", "a.b.>", true),
            ("a.b.*", "a.b.>", false),
            ("a.b.c", "a.b.>", false),
            ("a.c.>", "a.b.>", false),
            ("a.b.c.>", "a.b.>", false),
        ] {
            assert_eq!(covers(wide, subject), is_covered, "{wide} {subject}");
        }
    }
}

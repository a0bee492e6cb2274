//! What a message is about.

use crate::json::Value;

/// What a message is about, as its `action` says. Offers and answers are announces, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Taking part in a swarm.
    Announce,
    /// The size of swarms.
    Scrape,
}

impl Action {
    /// The word that stands for it in a message.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Announce => "announce",
            Self::Scrape => "scrape",
        }
    }

    /// `None` for anything but a string with one of the names.
    pub(crate) fn read(value: Value<'_>) -> Option<Self> {
        let name = value.text()?.decoded();
        let mut all = [Self::Announce, Self::Scrape].into_iter();
        all.find(|action| action.name() == name)
    }
}

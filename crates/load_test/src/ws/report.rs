//! What is printed, beyond what all load testers report.

use std::fmt::{self, Display, Formatter};

use serde::Serialize;

use crate::core::config::RunConfig;
use crate::core::kind::RequestKind;
use crate::core::report::{LoadReport, as_map, ratio, to_f64};
use crate::stream::Loaded;

/// All kinds of messages, in the order in which they are reported.
const KINDS: [RequestKind; 5] = [
    RequestKind::Announce,
    RequestKind::Scrape,
    RequestKind::Offer,
    RequestKind::Answer,
    RequestKind::AnswerReply,
];

/// The result of putting load on a tracker. What is called an answer in it is a message of the
/// tracker; CPU time is divided among all of them.
#[derive(Clone, Debug, Serialize)]
pub struct WsLoadReport {
    /// What all load testers report.
    #[serde(flatten)]
    pub load: LoadReport,
    /// Messages to the tracker. To it, offers are part of announces.
    pub messages_in_per_second: MessageRates,
    /// Messages from the tracker. Not every tracker replies to answers.
    pub messages_out_per_second: MessageRates,
}

/// Messages per second. Refusals are among the kind that they refuse.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MessageRates {
    /// Each kind, by its key.
    #[serde(flatten, serialize_with = "as_map")]
    pub kinds: Vec<(&'static str, f64)>,
    /// All together.
    pub all: f64,
}

impl WsLoadReport {
    /// Sums up a run.
    #[must_use]
    pub fn new(config: &RunConfig, mut loaded: Loaded) -> Self {
        // Who sends an answer and who waits for it are two.
        loaded.tally.lose_unanswered(RequestKind::Answer);
        let tally = &loaded.tally;
        let seconds = f64::from(config.duration_seconds);
        let mut load = loaded.report(config, &KINDS);
        // A peer is met by way of an offer.
        let offers = to_f64(tally.kind(RequestKind::Offer).sent);
        let announces = tally.kind(RequestKind::Announce);
        load.peers_per_announce = ratio(offers, to_f64(announces.answered + announces.late));
        Self {
            load,
            messages_in_per_second: MessageRates::new(seconds, |kind| match kind {
                RequestKind::Offer | RequestKind::AnswerReply => 0,
                kind => tally.kind(kind).sent,
            }),
            messages_out_per_second: MessageRates::new(seconds, |kind| {
                tally.kind(kind).received_in_window
            }),
        }
    }
}

impl MessageRates {
    fn new(seconds: f64, count: impl Fn(RequestKind) -> u64) -> Self {
        let rate = |kind: RequestKind| (kind.key(), ratio(to_f64(count(kind)), seconds));
        let kinds: Vec<_> = KINDS.map(rate).into();
        Self {
            all: kinds.iter().map(|(_, rate)| rate).sum(),
            kinds,
        }
    }
}

impl Display for MessageRates {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let kinds = self.kinds.iter();
        let kinds: Vec<_> = kinds
            .map(|(key, rate)| format!("{key} {rate:.0}"))
            .collect();
        write!(f, "{:.0} ({})", self.all, kinds.join(", "))
    }
}

impl Display for WsLoadReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.load)?;
        let (rates_in, rates_out) = (&self.messages_in_per_second, &self.messages_out_per_second);
        writeln!(f, "messages in per second: {rates_in}")?;
        writeln!(f, "messages out per second: {rates_out}")
    }
}

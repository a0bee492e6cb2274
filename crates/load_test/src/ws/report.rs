//! What is printed, beyond what all load testers over TCP report.

use std::fmt::{self, Display, Formatter};

use serde::Serialize;

use crate::core::config::RunConfig;
use crate::core::report::{LoadReport, ratio, to_f64};
use crate::stream::report::StreamLoadReport;
use crate::stream::run::Loaded;
use crate::ws::dialogue::Browser;
use crate::ws::kinds::RequestKind;

/// The result of putting load on a tracker. What is called an answer in it is a message of the
/// tracker; CPU time is divided among all of them.
#[derive(Clone, Debug, Serialize)]
pub struct WsLoadReport {
    /// What all load testers over TCP report.
    #[serde(flatten)]
    pub load: StreamLoadReport,
    /// Messages to the tracker.
    pub messages_in_per_second: MessageRates,
    /// Messages from the tracker.
    pub messages_out_per_second: MessageRates,
}

/// Messages per second. Refusals are among the kind that they refuse.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MessageRates {
    /// Announces, or replies to them.
    pub announce: f64,
    /// Scrapes, or replies to them.
    pub scrape: f64,
    /// Forwarded offers. To the tracker, offers are part of announces.
    pub offer: f64,
    /// Answers, or forwarded answers.
    pub answer: f64,
    /// Replies to answers, which not every tracker sends.
    pub re_answer: f64,
    /// All together.
    pub all: f64,
}

impl WsLoadReport {
    /// Sums up a run.
    #[must_use]
    pub fn new(config: &RunConfig, mut loaded: Loaded<Browser>) -> Self {
        // Who sends an answer and who waits for it are two.
        loaded.tally.lose_unanswered(RequestKind::Answer);
        let tally = &loaded.tally;
        let seconds = f64::from(config.duration_seconds);
        let sent = |kind| ratio(to_f64(tally.kind(kind).sent), seconds);
        let received = |kind| ratio(to_f64(tally.kind(kind).received_in_window), seconds);
        let mut load = LoadReport::new(config, tally, &loaded.used);
        // A peer is met by way of an offer.
        let offers = to_f64(tally.kind(RequestKind::Offer).sent);
        let announces = tally.kind(RequestKind::Announce);
        load.peers_per_announce = ratio(offers, to_f64(announces.answered + announces.late));
        Self {
            messages_in_per_second: MessageRates::new(|kind| match kind {
                RequestKind::Offer | RequestKind::AnswerReply => 0.0,
                kind => sent(kind),
            }),
            messages_out_per_second: MessageRates::new(received),
            load: StreamLoadReport {
                load,
                connections: loaded.connections,
            },
        }
    }
}

impl MessageRates {
    fn new(rate: impl Fn(RequestKind) -> f64) -> Self {
        let [announce, scrape, offer, answer, re_answer] = [
            RequestKind::Announce,
            RequestKind::Scrape,
            RequestKind::Offer,
            RequestKind::Answer,
            RequestKind::AnswerReply,
        ]
        .map(rate);
        Self {
            announce,
            scrape,
            offer,
            answer,
            re_answer,
            all: announce + scrape + offer + answer + re_answer,
        }
    }
}

impl Display for MessageRates {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            announce,
            scrape,
            offer,
            answer,
            re_answer,
            all,
        } = self;
        write!(
            f,
            "{all:.0} (announce {announce:.0}, scrape {scrape:.0}, offer {offer:.0}, \
             answer {answer:.0}, re_answer {re_answer:.0})"
        )
    }
}

impl Display for WsLoadReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.load)?;
        writeln!(f, "messages in per second: {}", self.messages_in_per_second)?;
        writeln!(
            f,
            "messages out per second: {}",
            self.messages_out_per_second
        )
    }
}

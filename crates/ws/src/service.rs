//! From the bytes of a message to what has to be done about it. Pure.
//!
//! [`Service::receive`] is what a socket worker decides alone: the time, the client and the message
//! come in; a request that may be served or a [`Failure`] comes out. What needs the swarms is
//! decided by their [`relay`](crate::relay).

use std::sync::Arc;

use aquatic_access_list::AccessListReader;
use aquatic_daemon::clock::Now;
use aquatic_tracker::limits::RequestRate;
use aquatic_types::{CanonicalAddr, InfoHash};
use aquatic_ws_protocol::{Action, Request, ScrapeRequest};

use crate::config::Config;
use crate::counters::{RequestKind, WorkerCounters};
use crate::refusal::{Failure, Refusal};

/// What socket workers share with each other and with the rest of the daemon.
pub struct ServiceParts {
    /// Which torrents are allowed.
    pub access_list: AccessListReader,
    /// Messages per client, if limited.
    pub request_rate: Option<Arc<RequestRate>>,
    /// Where this worker counts.
    pub counters: Arc<WorkerCounters>,
}

/// Decides about messages.
pub struct Service {
    parts: ServiceParts,
    scrape_torrents_max: usize,
}

impl Service {
    /// A service as configured.
    #[must_use]
    pub fn new(config: &Config, parts: ServiceParts) -> Self {
        Self {
            parts,
            scrape_torrents_max: config.protocol.max_scrape_torrents,
        }
    }

    /// Takes a message of a client.
    ///
    /// # Errors
    /// If it is not served.
    pub fn receive<'a>(
        &mut self,
        now: Now,
        client: CanonicalAddr,
        message: &'a [u8],
    ) -> Result<Request<'a>, Failure> {
        let request = Request::parse(message);
        let rate = self.parts.request_rate.as_ref();
        if rate.is_some_and(|rate| !rate.allows(now.micros, client.ip())) {
            let (action, info_hash) = match &request {
                Ok(request) => subject(request),
                Err(error) => (error.action, error.info_hash),
            };
            return Err(Refusal::REQUEST_RATE.about(action, info_hash));
        }
        let request = request?;
        let kind = match request {
            Request::Announce(_) => RequestKind::Announce,
            Request::Answer(_) => RequestKind::Answer,
            Request::Scrape(_) => RequestKind::Scrape,
        };
        let traffic = self.parts.counters.traffic(client.family());
        traffic.requests(kind).add(1);
        if let (Action::Announce, Some(info_hash)) = subject(&request)
            && !self.parts.access_list.is_allowed(&info_hash)
        {
            return Err(Refusal::INFO_HASH_DENIED.about(Action::Announce, Some(info_hash)));
        }
        Ok(request)
    }

    /// The torrents of a scrape that are answered, in order.
    pub fn scraped<'a>(
        &self,
        scrape: &'a ScrapeRequest,
    ) -> impl Iterator<Item = &'a InfoHash> + use<'a> {
        scrape.info_hashes.iter().take(self.scrape_torrents_max)
    }

    /// To be called in each round, also if nothing was received.
    pub fn background(&mut self) {
        self.parts.access_list.refresh();
    }

    /// Whether the access list allows a torrent.
    #[must_use]
    pub fn is_allowed(&mut self, info_hash: &InfoHash) -> bool {
        self.parts.access_list.is_allowed(info_hash)
    }
}

/// What a request is about.
fn subject(request: &Request<'_>) -> (Action, Option<InfoHash>) {
    match request {
        Request::Announce(announce) => (Action::Announce, Some(announce.info_hash)),
        Request::Answer(answer) => (Action::Announce, Some(answer.info_hash)),
        Request::Scrape(_) => (Action::Scrape, None),
    }
}

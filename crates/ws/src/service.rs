//! From the bytes of a message to what has to be done about it. Pure.
//!
//! [`Service::receive`] is what a socket worker decides alone: the time, the client and the message
//! come in; a request that may be served or a [`Failure`] comes out. What needs the swarms is
//! decided by their [`relay`](crate::relay).

use std::sync::Arc;

use aquatic_access_list::AccessListReader;
use aquatic_daemon::clock::Now;
use aquatic_daemon::request_rate::RequestRate;
use aquatic_types::{CanonicalAddr, InfoHash};
use aquatic_ws_protocol::{Request, ScrapeRequest};

use crate::config::Config;
use crate::counters::{Reason, RequestKind, WorkerCounters};
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
    offer_bytes_max: usize,
}

impl Service {
    /// A service as configured.
    #[must_use]
    pub fn new(config: &Config, parts: ServiceParts) -> Self {
        Self {
            parts,
            scrape_torrents_max: config.protocol.max_scrape_torrents,
            offer_bytes_max: config.protocol.max_offer_size,
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
        let request = Request::parse_within(message, self.offer_bytes_max);
        let rate = self.parts.request_rate.as_ref();
        if rate.is_some_and(|rate| !rate.allows(now.micros, client.ip())) {
            return Err(match &request {
                Ok(request) => Refusal::REQUEST_RATE.about_request(request),
                Err(error) => Refusal::REQUEST_RATE.about(error.action, error.info_hash),
            });
        }
        let request = request?;
        let kind = match request {
            Request::Announce(_) => RequestKind::Announce,
            Request::Answer(_) => RequestKind::Answer,
            Request::Scrape(_) => RequestKind::Scrape,
        };
        let traffic = self.parts.counters.traffic(client.family());
        traffic.requests(kind).add(1);
        if let Request::Announce(announce) = &request
            && let Some(skipped) = &announce.skipped
        {
            let too_large = usize::try_from(skipped.too_large).unwrap_or(usize::MAX);
            traffic.reason(Reason::OfferSize).add(too_large);
        }
        self.if_allowed(request)
    }

    /// Takes a message that has been [received](Self::receive) and counted before, and had to wait.
    ///
    /// # Errors
    /// If it is not served any more.
    pub fn receive_again<'a>(&mut self, message: &'a [u8]) -> Result<Request<'a>, Failure> {
        let request = Request::parse_within(message, self.offer_bytes_max)?;
        self.if_allowed(request)
    }

    fn if_allowed<'a>(&mut self, request: Request<'a>) -> Result<Request<'a>, Failure> {
        let info_hash = match &request {
            Request::Announce(announce) => announce.info_hash,
            Request::Answer(answer) => answer.info_hash,
            Request::Scrape(_) => return Ok(request),
        };
        if !self.parts.access_list.is_allowed(&info_hash) {
            return Err(Refusal::INFO_HASH_DENIED.about_request(&request));
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

//! What is asked about the key of an announce. Pure.

use std::borrow::Cow;

use aquatic_keys::{Announcer, KeyRefusal, key_in_url};
use aquatic_tracker::admission::AddressPeer;
use aquatic_types::AnnounceEvent;
use aquatic_udp_protocol::{AnnounceRequest, TransactionId, url_data};

use super::RequestContext;
use crate::counters::Reason;

/// The URL that the client was given, which comes in options, perhaps in pieces (BEP 41).
pub(super) fn announce_url(options: &[u8]) -> Cow<'_, [u8]> {
    let mut pieces = url_data(options);
    let mut url = Cow::Borrowed(pieces.next().unwrap_or_default());
    for piece in pieces {
        url.to_mut().extend_from_slice(piece);
    }
    url
}

/// The key in such a URL.
pub(super) fn key_in(url: &[u8]) -> Option<&[u8]> {
    let end_of_path = url.iter().position(|byte| *byte == b'?');
    let (path, query) = url.split_at(end_of_path.unwrap_or(url.len()));
    key_in_url(path, query)
}

impl RequestContext<'_> {
    /// Whether the key is served. A peer that leaves has left then, whatever it is told.
    pub(super) fn check_key(
        &mut self,
        key: Option<&[u8]>,
        request: &AnnounceRequest<'_>,
    ) -> Result<(), KeyRefusal> {
        if request.event == AnnounceEvent::Stopped {
            self.keys.leave(key, self.peer(request));
        }
        self.keys.check(key)
    }

    /// Whether the key has room for the peer, unless that leaves.
    pub(super) fn admit_by_key(
        &mut self,
        key: Option<&[u8]>,
        request: &AnnounceRequest<'_>,
    ) -> Result<(), KeyRefusal> {
        if request.event == AnnounceEvent::Stopped {
            return Ok(());
        }
        let announcer = Announcer {
            now: self.now.seconds,
            age_seconds_max: Some(self.peer_age_seconds_max),
            peer: self.peer(request),
        };
        self.keys.admit(key, announcer)
    }

    fn peer(&self, request: &AnnounceRequest<'_>) -> AddressPeer {
        AddressPeer {
            info_hash: request.info_hash,
            ip: self.from.ip(),
            port: request.port,
        }
    }

    pub(super) fn refuse_key(&mut self, transaction_id: TransactionId, refusal: KeyRefusal) {
        let reason = match refusal {
            KeyRefusal::Missing => Reason::KeyMissing,
            KeyRefusal::Unknown => Reason::KeyUnknown,
            KeyRefusal::Ended(_) => Reason::KeyExpired,
            KeyRefusal::PeerLimit(_) => Reason::KeyPeerLimit,
        };
        self.refuse(transaction_id, reason, &refusal.to_string());
    }
}

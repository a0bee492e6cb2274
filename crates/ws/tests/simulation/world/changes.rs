//! What operators change while messages are on their way: the access list, and the certificate.

use std::collections::BTreeSet;

use aquatic_stream::IoAction;
use aquatic_test_support::certificates::Certificates;
use aquatic_test_support::wire::{Handshake, Wire};

use super::{Pace, Replies, World};

impl World {
    /// One torrent, or none, is forbidden from now on.
    pub(super) fn change_access_list(&mut self) {
        let forbidden: BTreeSet<_> = match self.rng.bool() {
            true => BTreeSet::from([self.torrent()]),
            false => BTreeSet::new(),
        };
        let mut replies = self.clients.iter().flat_map(|it| it.replies.values());
        let is_amidst = replies.any(Replies::is_open);
        self.tally
            .note_if("reloads of the list with requests on their way", is_amidst);
        self.lists.replace(forbidden.clone());
        self.model.forbidden = forbidden;
    }

    /// New connections get another certificate from now on, or the reload fails.
    ///
    /// In a hasty run, somebody may have begun a handshake.
    pub(super) fn change_certificate(&mut self) {
        if self.pace == Pace::Hasty && self.certificates.is_some() {
            self.come();
            let bytes = self.rng.usize(1..1_000);
            self.deliver(self.clients.len() - 1, bytes);
        }
        let now = self.now().seconds.0;
        if let Some(certificates) = &mut self.certificates {
            certificates.change(&mut self.rng, &mut self.tally, |tls| tls.reload());
            self.outdated_since.resize(certificates.version(), now);
        }
    }

    /// Which certificate is in force.
    pub(super) fn certificate(&self) -> usize {
        self.certificates.as_ref().map_or(0, Certificates::version)
    }

    /// What a client speaks over.
    pub(super) fn wire(&mut self) -> Wire {
        match &self.certificates {
            Some(certificates) => certificates.client(&mut self.rng),
            None => Wire::plain(),
        }
    }

    /// A client has read so many messages.
    pub(super) fn check_connection(
        &mut self,
        client: usize,
        handshake: Option<&Handshake>,
        messages: usize,
    ) {
        if let Some(certificates) = &self.certificates {
            if let Some(handshake) = handshake {
                certificates.check(handshake, &mut self.tally);
            }
            if self.clients[client].wire.began() < Some(certificates.version()) {
                let what = "messages over connections with an earlier certificate";
                self.tally.add(what, messages as u64);
            }
        }
    }

    /// When a connection may be closed because its certificate is outdated, in seconds.
    fn outdated_at(&self, client: usize) -> Option<u32> {
        let began = self.clients[client].wire.began()?;
        let since = self.outdated_since.get(began)?;
        Some(since + self.config.cleaning.close_after_tls_update_grace_period)
    }

    pub(super) fn is_outdated(&self, client: usize) -> bool {
        let now = self.now().seconds.0;
        self.outdated_at(client).is_some_and(|at| at <= now)
    }

    /// Each worker closes connections with outdated certificates, one certificate after the other.
    pub(super) fn close_outdated(&mut self) {
        for _ in 0..self.outdated_since.len() {
            for worker in 0..self.tracker.hubs.len() {
                self.work(worker, false);
            }
        }
        let now = self.now().seconds.0;
        for client in 0..self.clients.len() {
            // What a worker has noticed only later is closed later.
            let is_due = self.outdated_at(client).is_some_and(|at| at + 2 <= now);
            // Those that do not read have longer.
            let it = &self.clients[client];
            let keeps_it = is_due && it.is_open && !it.is_mute;
            assert!(!keeps_it, "client {client} keeps its certificate");
        }
    }

    /// What the tracker does about a connection. It closes only those of clients that have fallen
    /// silent, and outdated ones.
    pub(super) fn settle(&mut self, client: usize, settled: IoAction) {
        let is_closed = matches!(
            settled,
            IoAction::Close | IoAction::Reset | IoAction::CloseSendingHalf
        );
        let it = &self.clients[client];
        if is_closed && it.is_open && (it.is_mute || self.is_outdated(client)) {
            let what = "connections closed because their certificate was outdated";
            self.tally.note_if(what, !self.clients[client].is_mute);
            self.clients[client].is_open = false;
            self.model.leave(client);
        }
        let it = &self.clients[client];
        assert_eq!(is_closed, !it.is_open, "closed by whom?");
        if settled == IoAction::CloseSendingHalf {
            let (worker, id, now) = (it.worker, it.id, self.now());
            self.tracker.hubs[worker].read_ended(now, id);
        }
    }
}

//! What a socket worker does with the messages of its connections, whatever moves their bytes.
//! Pure.
//!
//! A [`SocketWorker`] is the [`Handler`] of the connections of one thread. While bytes come in, it
//! looks at each message and puts requests into batches. When a round of receiving is over
//! ([`Handler::finish`]) the batches go to the owners of the shards, this worker's own one is
//! decided, and whatever has come back is written into connections: of this worker, or by way of
//! [`forwarding`](crate::forwarding) into those of others.

use std::collections::VecDeque;
use std::sync::Arc;

use aquatic_access_list::AccessListMode;
use aquatic_daemon::clock::Now;
use aquatic_daemon::per_client::PerClientLimit;
use aquatic_keys::{KeyMode, SharedKeys};
use aquatic_stream::{
    Client, Closed, ConnectionKey, Connections, Deadlines, Handler, Io, TlsConfig,
};
use aquatic_stream_tracker::{Following, MayOwnShard};
use aquatic_tracker::announces::Announces;
use aquatic_tracker::dispatch::dispatcher::Dispatcher;
use aquatic_tracker::dispatch::waiting_lines::WaitingLines;
use aquatic_tracker::interval::AnnounceIntervals;
use aquatic_tracker::shard::ShardOwner;
use aquatic_types::{CanonicalAddr, ShardKey};
use tungstenite::protocol::frame::coding::CloseCode;

use crate::certificates::CertificateWatch;
use crate::config::Config;
use crate::counters::{Reason, ResponseKind, WorkerCounters};
use crate::forwarding::Forwarding;
use crate::frames::{self, Violation};
use crate::liveness::{LOOKS_PER_ROUND_MAX, Liveness, Patience};
use crate::notices::Notices;
use crate::offer_pace::FewOffers;
use crate::request_handler::RequestHandler;
use crate::response_writer::ResponseWriter;
use crate::service::Service;
use crate::session::{Held, IN_FLIGHT_IN_CROWD_MAX, MessageBounds, Next, Session};
use crate::signalling::{Signalling, SignallingShard};
use crate::sweep::Sweep;
use crate::upgrade::{self, Decision, Denial, Doorkeeper};

/// Requests in one round after which each connection may have few more: see
/// [`IN_FLIGHT_IN_CROWD_MAX`].
const CROWD: usize = 4_096;

/// Bytes that the scratch buffer for a message keeps room for.
const MESSAGE_BYTES_KEPT: usize = 64 * 1_024;

mod live;

/// What a worker is made of.
pub struct SocketWorkerParts {
    /// Its place among the socket workers.
    pub index: u16,
    /// Decides about messages.
    pub service: Service,
    /// The same in all workers.
    pub shard_key: ShardKey,
    /// Knows the ways to the shards.
    pub dispatcher: Dispatcher<Signalling>,
    /// If it owns a shard.
    pub owner: Option<Box<ShardOwner<SignallingShard>>>,
    /// The ways to the other socket workers.
    pub forwarding: Forwarding,
    /// When clients are to announce again.
    pub intervals: AnnounceIntervals,
    /// Peers per client, if limited.
    pub peers_per_ip: Option<Arc<PerClientLimit>>,
    /// The certificate, if connections are encrypted.
    pub tls: Option<TlsConfig>,
    /// Drawn at random at start.
    pub pace_key: [u64; 2],
    /// Where it counts.
    pub counters: Arc<WorkerCounters>,
}

/// A socket worker without its sockets.
pub struct SocketWorker {
    following: Following<Config>,
    doorkeeper: Doorkeeper,
    requests: RequestHandler,
    writer: ResponseWriter,
    /// Scratch space for a message.
    message: Vec<u8>,
    liveness: Liveness<ConnectionKey>,
    patience: Patience,
    /// Looks for peers that are no longer served: now and then, if torrents can be forbidden.
    sweep: Sweep,
    certificates: Option<(TlsConfig, CertificateWatch)>,
    bounds: MessageBounds,
    /// Messages that were served in the present round.
    served: usize,
}

impl SocketWorker {
    /// A worker without connections.
    #[must_use]
    pub fn new(config: &Config, parts: SocketWorkerParts) -> Self {
        let cleaning = &config.cleaning;
        let grace_seconds = cleaning.close_after_tls_update_grace_period;
        let shards = parts.dispatcher.shards();
        let requests = RequestHandler {
            worker: parts.index,
            service: parts.service,
            dispatcher: parts.dispatcher,
            owner: parts.owner,
            peers_per_ip: parts.peers_per_ip.clone(),
            offers_max: config.protocol.max_offers,
            peers_max: config.protocol.max_torrents_per_connection,
            notices: Notices::new(parts.shard_key, shards),
            lines: WaitingLines::new(shards),
        };
        let writer = ResponseWriter {
            worker: parts.index,
            forwarding: parts.forwarding,
            peers_per_ip: parts.peers_per_ip,
            keys: SharedKeys::off(),
            counters: parts.counters,
            intervals: parts.intervals,
            bounds: config.forwarding_bounds(),
            now: Now::default(),
            dropped: Vec::new(),
            evicted: Vec::new(),
            evicted_elsewhere: VecDeque::new(),
            withdrawn: Vec::new(),
            few_offers: FewOffers::new(parts.pace_key),
        };
        Self {
            following: Following::default(),
            doorkeeper: Doorkeeper::new(config),
            requests,
            writer,
            message: Vec::new(),
            liveness: Liveness::default(),
            patience: config.patience(),
            sweep: Sweep::new(
                (config.access_list.mode != AccessListMode::Off)
                    .then_some(cleaning.torrent_cleaning_interval),
            ),
            certificates: parts.tls.map(|tls| {
                let watch = CertificateWatch::new(tls.generation(), grace_seconds);
                (tls, watch)
            }),
            bounds: config.message_bounds(),
            served: 0,
        }
    }

    /// Serves only clients with one of these keys, if they need one. To be called before it works.
    pub fn require_keys(&mut self, keys: &SharedKeys) {
        self.requests.service.admission.keys = keys.reader();
        self.writer.keys = keys.clone();
        self.doorkeeper.takes_keys = keys.mode() != KeyMode::Off;
    }

    /// Tells of every announce that it serves, if somebody wants that. To be called before it
    /// works.
    pub fn tell_announces(&mut self, announces: Option<&Announces>) {
        self.requests.service.admission.tell_announces(announces);
    }

    /// Whether messages wait because the owner of a shard does not keep up.
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        !self.requests.lines.is_empty()
    }

    /// Looks at the bytes of a connection that is no WebSocket yet. Returns how many were taken.
    fn upgrade(
        &mut self,
        now: Now,
        id: ConnectionKey,
        session: &mut Session,
        bytes: &[u8],
        io: &mut Io<'_>,
    ) -> usize {
        let seen = session.upgrading().unwrap_or(0);
        let decided = self.doorkeeper.decide(session.client, bytes, seen);
        let Some((decision, size)) = decided else {
            session.wait_for_request(bytes.len());
            return 0;
        };
        match decision {
            Decision::Accept { client, .. } if self.denies_network(client) => {
                self.deny(Denial::NETWORK, session, io);
            }
            Decision::Accept {
                client,
                accept_key,
                subprotocol,
                key,
            } => {
                session.open(client, key);
                upgrade::write_acceptance(&accept_key, subprotocol.as_deref(), io.out);
                self.liveness
                    .look_at(now.seconds + self.patience.ping_seconds, id);
            }
            Decision::Healthy { omit_body } => {
                upgrade::write_health(omit_body, io.out);
                io.close();
            }
            Decision::Refuse(denial) => self.deny(denial, session, io),
        }
        size
    }

    fn denies_network(&mut self, client: CanonicalAddr) -> bool {
        self.requests.service.admission.denies_network(client)
    }

    fn deny(&self, denial: Denial, session: &Session, io: &mut Io<'_>) {
        let traffic = self.writer.counters.traffic(session.client.family());
        traffic.reason(denial.reason).add(1);
        traffic.responses(ResponseKind::Error).add(1);
        denial.write(io.out);
        io.close();
    }

    fn violate(&self, violation: Violation, session: &Session, io: &mut Io<'_>) {
        let reason = match violation {
            Violation::Protocol => Reason::Frame,
            Violation::Size => Reason::MessageSize,
            Violation::Text => Reason::Json,
            Violation::Time => Reason::TimedOut,
        };
        let traffic = self.writer.counters.traffic(session.client.family());
        traffic.reason(reason).add(1);
        frames::write_close(violation.close_code(), io.out);
        io.close();
    }

    /// Deals with one message: it is either answered when this returns, or on its way.
    ///
    /// # Errors
    /// If it is text that is not UTF-8. It is read only once, so this is found out here.
    fn serve(
        &mut self,
        now: Now,
        id: ConnectionKey,
        session: &mut Session,
        message: &[u8],
        io: &mut Io<'_>,
    ) -> Result<(), Violation> {
        self.served += 1;
        let reply = match self.requests.ask(now, id, session, message) {
            Ok(None) => return Ok(()),
            Ok(Some(scrape)) => Held::Scrape(scrape),
            Err(failure) if failure.refusal.is_about_encoding() && session.is_text() => {
                return Err(Violation::Text);
            }
            Err(failure) => Held::Failure(failure),
        };
        self.writer.reply_in_turn(reply, session, io.out);
        Ok(())
    }

    fn look_after(&mut self, now: Now, connections: &mut Connections<Session>) {
        let (requests, patience) = (&mut self.requests, self.patience);
        for _ in 0..LOOKS_PER_ROUND_MAX {
            let Some(id) = self.liveness.take_due(now) else {
                break;
            };
            let next = connections.with(id, |session, io| {
                if session.silent_seconds(now) >= patience.peer_age_seconds_max {
                    requests.dismiss_all(id, session);
                }
                session.look(now, patience, io)
            });
            if let Some(next) = next {
                self.liveness.look_at(next, id);
            }
        }
        self.sweep.go_on(now, connections, |id, session| {
            requests.dismiss_forbidden(id, session);
        });
        if let Some((tls, watch)) = &mut self.certificates
            && let Some(generation) = watch.outdated(now, tls.generation())
        {
            connections.close_tls_before(generation);
        }
    }
}

impl MayOwnShard for SocketWorker {
    fn process_for_others(&mut self, now: Now) -> usize {
        let owner = self.requests.owner.as_mut();
        owner.map_or(0, |owner| owner.process(now))
    }
}

impl Handler for SocketWorker {
    type Session = Session;

    fn open(&mut self, now: Now, _: ConnectionKey, client: Client) -> Session {
        Session::new(now, client.peer)
    }

    fn receive(
        &mut self,
        now: Now,
        id: ConnectionKey,
        session: &mut Session,
        bytes: &[u8],
        io: &mut Io<'_>,
    ) -> usize {
        let mut rest = bytes;
        if session.upgrading().is_some() {
            let taken = self.upgrade(now, id, session, bytes, io);
            rest = rest.get(taken..).unwrap_or_default();
        }
        let mut bounds = self.bounds;
        if self.served >= CROWD {
            bounds.in_flight_max = IN_FLIGHT_IN_CROWD_MAX;
        }
        let mut message = std::mem::take(&mut self.message);
        loop {
            let size = match session.next(now, rest, bounds, &mut message, io) {
                Next::Nothing => break,
                Next::Control(size) => size,
                Next::Message(size) => match self.serve(now, id, session, &message, io) {
                    Ok(()) => size,
                    Err(violation) => {
                        self.violate(violation, session, io);
                        rest.len()
                    }
                },
                Next::Violation(violation) => {
                    self.violate(violation, session, io);
                    rest.len()
                }
            };
            rest = rest.get(size..).unwrap_or_default();
        }
        message.clear();
        message.shrink_to(MESSAGE_BYTES_KEPT);
        self.message = message;
        bytes.len() - rest.len()
    }

    fn input_ended(&mut self, _: Now, _: ConnectionKey, session: &mut Session, io: &mut Io<'_>) {
        match session.upgrading() {
            Some(seen) if seen > 0 && !io.closes() => self.deny(Denial::CUT_OFF, session, io),
            Some(_) => io.close(),
            None => session.end_input(io),
        }
    }

    fn timed_out(
        &mut self,
        _: Now,
        _: ConnectionKey,
        session: &mut Session,
        why: Closed,
        io: &mut Io<'_>,
    ) {
        match session.upgrading() {
            // It has sent nothing at all, and may not know HTTP.
            Some(0) => {}
            Some(_) => self.deny(Denial::TIMED_OUT, session, io),
            None if why == Closed::IdleDeadline => {
                frames::write_close(CloseCode::Away.into(), io.out);
            }
            None => self.violate(Violation::Time, session, io),
        }
    }

    fn finish(&mut self, now: Now, connections: &mut Connections<Session>) -> usize {
        self.look_after(now, connections);
        let Self {
            requests, writer, ..
        } = self;
        writer.now = now;
        writer.few_offers.forget_idle(now);
        requests.look_for_evicted(&mut writer.evicted, connections);
        requests.send_notices(&mut writer.dropped, connections);
        let RequestHandler {
            dispatcher, owner, ..
        } = requests;
        let finished = dispatcher.finish(now, owner.as_deref_mut(), |batch| {
            writer.settle(batch, connections);
        });
        let in_flight = &writer.counters.batches_in_flight;
        in_flight.set(finished.in_flight);
        if !requests.lines.is_empty() {
            // What has just become free is shared by notices and those who wait.
            requests.send_notices(&mut writer.dropped, connections);
            requests.serve_waiting(now, connections, |failure, session, out| {
                writer.reply_in_turn(Held::Failure(failure), session, out);
            });
            requests.dispatcher.send();
        }
        finished.batches + writer.deliver(connections)
    }

    fn closed(&mut self, _: Now, id: ConnectionKey, session: Session, _: Closed) {
        self.requests.forget(id, &session);
    }

    fn maintain(&mut self, now: Now) -> bool {
        self.served = 0;
        self.requests.service.admission.refresh();
        self.follow(now);
        let owner = self.requests.owner.as_mut();
        owner.is_some_and(|owner| owner.maintain(now))
    }

    fn changed_deadlines(&mut self) -> Option<Deadlines> {
        self.following.take_deadlines()
    }

    fn stop(&mut self, _: Now, _: ConnectionKey, session: &mut Session, io: &mut Io<'_>) {
        session.stop(io);
    }

    fn has_pending(&self) -> bool {
        self.sweep.is_under_way() || self.requests.has_pending() || self.writer.has_pending()
    }
}

#[cfg(test)]
mod tests;

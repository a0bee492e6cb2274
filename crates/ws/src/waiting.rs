//! Messages whose torrent's owner has no room for them: who waits, and who has the next turn. Pure.
//!
//! See [`aquatic_tracker::dispatch::waiting_lines`]. A connection that waits keeps its message, and
//! is not read from: so whoever sends much waits for long, and nobody else does. What waits counts
//! as memory of its connection.

use aquatic_daemon::clock::Now;
use aquatic_stream::{ConnectionKey, Connections};
use aquatic_tracker::dispatch::waiting_lines::SCRAPE_TURN;
use aquatic_ws_protocol::Request;

use crate::refusal::{Failure, Refusal};
use crate::request_handler::{RequestHandler, Stopped, Turn};
use crate::session::{Held, Session};

/// What has become of the first one in a line.
enum Outcome {
    /// Its message is on its way.
    Served,
    /// Its message is not served.
    Refused(Failure),
    /// It goes to the end of the line for this shard, with the rest of a scrape.
    GoesOn(usize),
    /// There is no room yet.
    Stays,
}

impl RequestHandler {
    /// A message waits until there is room.
    pub(crate) fn wait(
        &mut self,
        shard: usize,
        id: ConnectionKey,
        session: &mut Session,
        message: &[u8],
    ) -> Result<(), Refusal> {
        if !self.lines.join(shard, id) {
            return Err(Refusal::QUEUE_FULL);
        }
        session.held = Some(Box::new(Held::Message(message.to_vec())));
        Ok(())
    }

    /// Serves those who wait as far as there is room: each in turn. `refuse` answers messages that
    /// are not served.
    pub fn serve_waiting(
        &mut self,
        now: Now,
        connections: &mut Connections<Session>,
        mut refuse: impl FnMut(Failure, &mut Session, &mut Vec<u8>),
    ) {
        for shard in 0..self.dispatcher.shards() {
            while let Some(id) = self.lines.leave(shard) {
                let outcome = connections.with(id, |session, io| {
                    match self.take_turn(now, shard, id, session) {
                        Outcome::Refused(failure) => {
                            refuse(failure, session, io.out);
                            Outcome::Served
                        }
                        outcome => outcome,
                    }
                });
                match outcome {
                    // It has gone.
                    None => {}
                    Some(Outcome::Stays) => {
                        self.lines.stay(shard, id);
                        break;
                    }
                    Some(Outcome::GoesOn(next)) => {
                        let has_place = self.lines.join(next, id);
                        connections.with(id, |session, _| fail_unless(has_place, session));
                    }
                    Some(Outcome::Served | Outcome::Refused(_)) => {
                        connections.resume(id);
                    }
                }
            }
        }
    }

    fn take_turn(
        &mut self,
        now: Now,
        shard: usize,
        id: ConnectionKey,
        session: &mut Session,
    ) -> Outcome {
        match session.held.take().map(|held| *held) {
            Some(Held::Message(message)) => self.ask_again((now, shard), id, session, message),
            Some(Held::Scrape(mut scrape)) => {
                let before = scrape.next_row();
                let next = self.ask_rows(id, &mut scrape, Some(shard), SCRAPE_TURN);
                let has_asked = scrape.next_row() != before;
                session.held = Some(Box::new(Held::Scrape(scrape)));
                match next {
                    None => Outcome::Served,
                    Some(next) if has_asked || next != shard => Outcome::GoesOn(next),
                    Some(_) => Outcome::Stays,
                }
            }
            other => {
                session.held = other.map(Box::new);
                Outcome::Served
            }
        }
    }

    fn ask_again(
        &mut self,
        (now, shard): (Now, usize),
        id: ConnectionKey,
        session: &mut Session,
        message: Vec<u8>,
    ) -> Outcome {
        let turn = Turn::FirstFor(shard);
        let request = match self.service.receive_again(&message) {
            Ok(request) => request,
            Err(failure) => return Outcome::Refused(failure),
        };
        if let Err(failure) = self.judge(id, session, &request) {
            return Outcome::Refused(failure);
        }
        let asked = match &request {
            Request::Announce(announce) => self.announce(now, id, session, announce, turn),
            Request::Answer(answer) => self.answer(id, session, answer, turn),
            // They never wait as messages.
            Request::Scrape(_) => Ok(()),
        };
        match asked {
            Err(Stopped::NoRoom(_)) => {
                session.held = Some(Box::new(Held::Message(message)));
                Outcome::Stays
            }
            Err(Stopped::Refused(refusal)) => Outcome::Refused(refusal.about_request(&request)),
            Ok(()) => Outcome::Served,
        }
    }
}

/// Who has no place in the line cannot go on.
fn fail_unless(has_place: bool, session: &mut Session) {
    if !has_place && let Some(Held::Scrape(scrape)) = session.held.as_deref_mut() {
        scrape.fail();
    }
}

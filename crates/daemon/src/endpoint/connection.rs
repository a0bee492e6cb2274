//! One connection: bytes in, bytes out, and how long it may take. Pure.

use std::time::Duration;

use super::head::{self, Head};
use super::request::{Post, Request};
use super::response::Response;
use super::routes::{Job, LargeBody, Routes, Target};

pub(super) use super::head::HEAD_BYTES_MAX;

/// From the first byte of a request, or the beginning of the connection, to the end of the head.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);

/// From the end of the head to the end of the body: 6 Mbit/s for the largest one.
const BODY_DEADLINE: Duration = Duration::from_secs(90);

/// From an action that a client has asked for to its answer. A reload may wait for files that do
/// not come, one after the other.
const WORK_DEADLINE: Duration = Duration::from_secs(120);

/// From an answer to the next request. Prometheus asks every 15 to 60 seconds, and its own end
/// gives up after five minutes.
const IDLE_DEADLINE: Duration = Duration::from_secs(300);

/// From a request to the last byte of its answer.
const SEND_DEADLINE: Duration = Duration::from_secs(30);

/// How long a client may take nothing of its answer when somebody else needs its place.
const STUCK_AFTER: Duration = Duration::from_secs(10);

/// How long a client may take over an answer for which room is kept when somebody else needs its
/// place: who gets such an answer must not take that room away.
const BRIEF_AFTER: Duration = Duration::from_secs(2);

/// From the last byte that the server sends to the end of what the client sends. To close a
/// connection before that could destroy the answer on its way (RFC 9112, 9.6).
const LINGER_DEADLINE: Duration = Duration::from_secs(2);

/// What a client is told that waits for a word before it sends a body (RFC 9110, 10.1.1).
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What a connection waits for, since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// All is said: for the client to end its half.
    Lingering,
    /// For a request after the first.
    Idle,
    /// For the (rest of the) head of a request.
    Reading,
    /// For the rest of the body of a request that may come.
    ReadingBody,
    /// For an action to be done.
    Working,
    /// For the client to take its answer.
    Sending,
}

impl Phase {
    fn deadline(self) -> Duration {
        match self {
            Self::Lingering => LINGER_DEADLINE,
            Self::Idle => IDLE_DEADLINE,
            Self::Reading => HEAD_DEADLINE,
            Self::ReadingBody => BODY_DEADLINE,
            Self::Working => WORK_DEADLINE,
            Self::Sending => SEND_DEADLINE,
        }
    }

    /// Whether somebody is being served, who has asked for something that may be had.
    fn is_busy(self) -> bool {
        self >= Self::ReadingBody
    }
}

/// The state of a connection.
#[derive(Debug)]
pub(super) struct Connection {
    /// What has come and was not answered yet.
    input: Vec<u8>,
    output: Vec<u8>,
    sent_bytes: usize,
    /// Nothing is said after the output.
    is_last: bool,
    /// The request whose body is awaited.
    awaited: Option<Awaited>,
    /// What is to be done for the client, until somebody takes it.
    job: Option<Job>,
    phase: Phase,
    since: Duration,
    /// When it entered its phase, or sent something.
    moved: Duration,
    /// The answer is one for which room is kept, so that there must be some.
    is_brief: bool,
}

/// A request whose body is awaited.
#[derive(Debug)]
struct Awaited {
    action: usize,
    query: String,
    body_bytes: usize,
    hold: Option<LargeBody>,
}

impl Connection {
    pub(super) fn new(now: Duration) -> Self {
        Self {
            input: Vec::new(),
            output: Vec::new(),
            sent_bytes: 0,
            is_last: false,
            awaited: None,
            job: None,
            phase: Phase::Reading,
            since: now,
            moved: now,
            is_brief: false,
        }
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// Since when it is in its phase.
    pub(super) fn since(&self) -> Duration {
        self.since
    }

    /// Whether it has to be left alone: somebody is being served, and there is progress.
    pub(super) fn is_busy(&self, now: Duration) -> bool {
        let patience_ends = match self.is_brief {
            true => self.since + BRIEF_AFTER,
            false => self.moved + STUCK_AFTER,
        };
        let is_stuck = self.phase == Phase::Sending && now >= patience_ends;
        self.phase.is_busy() && !is_stuck
    }

    /// Whether it takes room of those who are served for long.
    pub(super) fn is_long(&self, now: Duration) -> bool {
        self.is_busy(now) && !self.is_brief
    }

    /// When it is given up if nothing happens.
    pub(super) fn deadline(&self) -> Duration {
        self.since + self.phase.deadline()
    }

    /// Takes what has been received. To be called in the phases in which something is awaited
    /// from the client, with at most [`HEAD_BYTES_MAX`] bytes.
    pub(super) fn receive(&mut self, now: Duration, bytes: &[u8]) {
        match self.phase {
            Phase::Lingering => return,
            Phase::Idle => self.enter(now, Phase::Reading),
            Phase::Reading | Phase::ReadingBody | Phase::Working | Phase::Sending => {}
        }
        self.input.extend_from_slice(bytes);
    }

    /// Answers the request that has come, if one has, or has [something done](Self::take_job).
    pub(super) fn answer(&mut self, now: Duration, routes: &mut Routes) {
        if self.phase == Phase::Reading {
            self.answer_head(now, routes);
        }
        if self.phase == Phase::ReadingBody {
            self.take_body(now);
        }
    }

    fn answer_head(&mut self, now: Duration, routes: &mut Routes) {
        let Some(outcome) = head::read(&self.input) else {
            return;
        };
        let head = match outcome {
            Ok(head) => head,
            Err(refusal) => {
                self.is_brief = true;
                self.refuse(&refusal);
                self.enter(now, Phase::Sending);
                return;
            }
        };
        let Head {
            bytes, body_bytes, ..
        } = head;
        let keep_alive = head.keep_alive;
        let request = Request {
            is_authorized: routes.is_authorized(&head.credentials),
            has_token: routes.has_token(),
            ..head.request
        };
        let admitted = routes.admit(&request, &head.credentials);
        let admitted = admitted.and_then(|it| routes.require_room(it).map(|()| it));
        // What is refused is said in few words.
        self.is_brief = admitted
            .as_ref()
            .map_or(true, |it| routes.is_kept_room_for(*it));
        let outcome = match admitted {
            Ok(Target::Page(page)) => Err(routes.show(page, &request)),
            Ok(Target::Action {
                index,
                body_bytes_max,
            }) => await_body(routes, index, request.query, body_bytes, body_bytes_max),
            Err(refusal) => Err(refusal),
        };
        match outcome {
            Ok(awaited) => {
                if head.expects_continue && self.input.len() < bytes + body_bytes {
                    self.output.extend_from_slice(CONTINUE);
                }
                self.is_last = !keep_alive;
                self.awaited = Some(awaited);
                self.input.drain(..bytes);
                self.enter(now, Phase::ReadingBody);
            }
            Err(response) => {
                // A body that is not read would be taken for the next request.
                let keep_alive = keep_alive && body_bytes == 0;
                let with_body = request.method != "HEAD";
                response.write(with_body, keep_alive, &mut self.output);
                self.is_last = !keep_alive;
                self.input.drain(..bytes);
                self.enter(now, Phase::Sending);
            }
        }
    }

    /// Hands the body on if it is whole.
    fn take_body(&mut self, now: Duration) {
        let is_whole = |it: &mut Awaited| self.input.len() >= it.body_bytes;
        let Some(awaited) = self.awaited.take_if(is_whole) else {
            return;
        };
        let rest = self.input.split_off(awaited.body_bytes);
        let post = Post {
            query: awaited.query,
            body: std::mem::replace(&mut self.input, rest),
        };
        self.job = Some(Job::new(awaited.action, post, awaited.hold));
        self.enter(now, Phase::Working);
    }

    /// What is to be done for the client, once. Its answer is to be told to [`Self::complete`].
    pub(super) fn take_job(&mut self) -> Option<Job> {
        self.job.take()
    }

    /// What the client has asked for is done.
    pub(super) fn complete(&mut self, now: Duration, response: &Response) {
        if self.phase == Phase::Working {
            response.write(true, !self.is_last, &mut self.output);
            self.enter(now, Phase::Sending);
        }
    }

    /// Ends the wait for what a client has asked for, if that takes too long: the client is told.
    /// Returns whether it is.
    pub(super) fn give_up_work(&mut self, now: Duration) -> bool {
        let is_late = self.phase == Phase::Working && now >= self.deadline();
        if is_late {
            let reason = format!(
                "this was not done within {} seconds, and may still be done: the log tells what \
                 became of it",
                WORK_DEADLINE.as_secs()
            );
            self.refuse(&Response::error(504, reason));
            self.enter(now, Phase::Sending);
        }
        is_late
    }

    /// Says `response`, and nothing after it.
    pub(super) fn refuse(&mut self, response: &Response) {
        self.is_last = true;
        self.input = Vec::new();
        response.write(true, false, &mut self.output);
    }

    /// What is to be sent.
    pub(super) fn output(&self) -> &[u8] {
        self.output.get(self.sent_bytes..).unwrap_or_default()
    }

    /// So much of the output has been sent. When that was all, the connection waits again: for the
    /// next request, or for its end.
    pub(super) fn sent(&mut self, now: Duration, bytes: usize) {
        self.sent_bytes += bytes;
        self.moved = now;
        if !self.output().is_empty() {
            return;
        }
        self.output = Vec::new();
        self.sent_bytes = 0;
        if self.phase != Phase::Sending {
            return;
        }
        let next = if self.is_last {
            Phase::Lingering
        } else if self.input.is_empty() {
            self.input = Vec::new();
            Phase::Idle
        } else {
            Phase::Reading
        };
        self.enter(now, next);
    }

    fn enter(&mut self, now: Duration, phase: Phase) {
        self.phase = phase;
        self.since = now;
        self.moved = now;
    }
}

/// Whether a body may come.
fn await_body(
    routes: &Routes,
    action: usize,
    query: &str,
    body_bytes: usize,
    body_bytes_max: usize,
) -> Result<Awaited, Response> {
    if body_bytes > body_bytes_max {
        let reason = format!("the body of this request may have {body_bytes_max} bytes");
        return Err(Response::error(413, reason));
    }
    Ok(Awaited {
        action,
        query: query.to_owned(),
        body_bytes,
        hold: routes.hold(body_bytes)?,
    })
}

#[cfg(test)]
mod tests;

//! Reads the log: by a consumer of the stream, which is at one of the servers that have a copy.

use std::time::Duration;

use aquatic_daemon::clock;
use async_nats::datetime::{self, DateTime};
use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy, pull};
use async_nats::jetstream::response::Response;
use async_nats::jetstream::{self, stream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::history::Log;
use super::requests::WAIT;
use super::{Payload, next_of};
use crate::bus::Message;

/// Messages and bytes that are asked for at a time, ahead of those that are taken. The subscription
/// has room for more.
const MESSAGES_MAX: usize = 64;
const BYTES_MAX: usize = 4 * 1_024 * 1_024;

/// How long the server remembers a reader that asks for nothing more.
const READER_KEPT: Duration = Duration::from_secs(60);

/// Clocks that differ by no more than this are the same: it may be the way to the server.
const CLOCK_NANOS: i128 = 1_000_000_000;

/// A copy that is behind is looked at so often until it has caught up.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
const LOOKS_MAX: u32 = 20;

/// What the server that leads knows of a copy is older than this if that server was away, and has
/// not said anything since: they hear each other every second.
const KNOWN_SINCE: Duration = Duration::from_millis(2_500);

/// So often more if it has: the server that leads does not know whether all of it can be read yet.
/// It tells others once in a second up to where it can; this is longer.
const QUIET_LOOKS: u32 = 6;

/// What comes out of the log.
#[derive(Debug)]
pub(super) enum Item {
    Message(Box<Message<Payload>>),
    Read { age: Duration },
    Failed(String),
}

fn unix_nanos() -> i128 {
    i128::from(clock::unix_micros()) * 1_000
}

fn nanos_of(duration: Duration) -> i128 {
    i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX)
}

impl Log {
    /// Reads what was published in the time `since` before now, until the end.
    pub(super) async fn read(self, since: Duration, sender: mpsc::Sender<Item>) {
        // The stream may be being made.
        drop(self.preparation.lock().await);
        let end = match self.read_to_end(since, &sender).await {
            Ok(age) => Item::Read { age },
            Err(reason) => Item::Failed(reason),
        };
        // Nobody may want to know any more.
        let _ = sender.send(end).await;
    }

    /// A reader of what was published since then, in nanoseconds since 1970 by the server's clock.
    async fn consume(&self, start: i128) -> Result<Consumer<pull::Config>, String> {
        let start = datetime::from_nanos(start.max(0));
        let config = pull::Config {
            name: Some(format!("{}_{:016x}", self.node, fastrand::u64(..))),
            deliver_policy: DeliverPolicy::ByStartTime {
                start_time: start.map_err(|error| error.to_string())?,
            },
            ack_policy: AckPolicy::None,
            filter_subject: self
                .channel
                .map_or_else(String::new, |it| self.subjects.logged(it)),
            inactive_threshold: READER_KEPT,
            memory_storage: true,
            num_replicas: 1,
            ..pull::Config::default()
        };
        let name = self.subjects.stream();
        self.requests.begin();
        let context = self.requests.context();
        let consumer = context.create_consumer_on_stream(config, name);
        self.requests.answer(consumer).await
    }

    /// A reader of what was published in the time `since` before now, and by how many nanoseconds
    /// the clock here is ahead of the server's.
    async fn consume_since(
        &self,
        since: Duration,
    ) -> Result<(Consumer<pull::Config>, i128), String> {
        let since = nanos_of(since);
        let now = unix_nanos();
        let mut consumer = self.consume(now.saturating_sub(since)).await?;
        // What the log is asked for is by the server's clock, and not every clock is right.
        let ahead = now - consumer.cached_info().created.unix_timestamp_nanos();
        if ahead.abs() > CLOCK_NANOS {
            let start = now.saturating_sub(ahead).saturating_sub(since);
            consumer = self.consume(start).await?;
        }
        Ok((consumer, ahead))
    }

    /// The stream, as the server says that leads it.
    async fn look(&self) -> Result<stream::Info, String> {
        match self.requests.find(&self.subjects.stream()).await? {
            Response::Ok(info) => Ok(info),
            Response::Err { error } => Err(error.to_string()),
        }
    }

    /// Returns for how long there has been a log.
    async fn read_to_end(
        &self,
        since: Duration,
        sender: &mpsc::Sender<Item>,
    ) -> Result<Duration, String> {
        let (consumer, ahead) = self.consume_since(since).await?;
        let info = consumer.cached_info();
        let stream = self.look().await?;
        let age = age_at(info.created, &stream);
        let server = info.cluster.as_ref().and_then(|it| it.leader.clone());
        let begin = info
            .created
            .unix_timestamp_nanos()
            .saturating_sub(nanos_of(since));
        let has_some = stream.state.last_timestamp.unix_timestamp_nanos() >= begin;
        let left = info.num_pending;
        if left == 0 && !has_some {
            return Ok(age);
        }
        let messages = consumer
            .stream()
            .max_messages_per_batch(MESSAGES_MAX)
            .max_bytes_per_batch(BYTES_MAX)
            .messages();
        let messages = messages
            .await
            .map_err(|error| self.requests.reason(&error))?;
        let mut reader = Reader {
            log: self,
            messages,
            ahead,
            read: 0,
            left,
            last: 0,
            end: if has_some {
                stream.state.last_sequence
            } else {
                0
            },
            server,
            looks: 0,
            quiet_looks: 0,
        };
        while let Some(message) = reader.next().await? {
            // Nobody wants it any more.
            if sender.send(Item::Message(message)).await.is_err() {
                break;
            }
        }
        Ok(age)
    }
}

/// For how long what is published has been kept, until this time.
fn age_at(now: DateTime, stream: &stream::Info) -> Duration {
    let state = &stream.state;
    // With its first message in it, it is as if it was made then: servers that were all restarted
    // may have kept no more than its name.
    let since = match (state.first_sequence, state.messages) {
        (0 | 1, 0) => now,
        (0 | 1, _) => state.first_timestamp,
        _ => stream.created,
    };
    let nanos = now.unix_timestamp_nanos() - since.unix_timestamp_nanos();
    Duration::from_nanos(u64::try_from(nanos).unwrap_or_default())
}

/// What the copy of a server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CopyState {
    /// It is the one of the server that leads, or there is no other.
    Leads,
    /// It was sent everything up to the message that is looked for.
    HasBeenSent,
    /// It is so many messages behind.
    Behind(u64),
    /// The server that leads has not heard of it for a while, or not at all.
    Unknown,
}

impl CopyState {
    /// As the server says that leads the stream. `end` is the number of the message.
    fn at(server: Option<&str>, stream: &stream::Info, end: u64) -> Self {
        let mut replicas = stream.cluster.iter().flat_map(|it| &it.replicas);
        let Some(replica) = replicas.find(|it| Some(it.name.as_str()) == server) else {
            return Self::Leads;
        };
        // Not at all, so far: no time.
        if replica.active.is_zero() || replica.active > KNOWN_SINCE {
            return Self::Unknown;
        }
        let behind = replica.lag.unwrap_or_default();
        match stream.state.last_sequence.saturating_sub(behind) >= end {
            true => Self::HasBeenSent,
            false => Self::Behind(behind),
        }
    }
}

struct Reader<'a> {
    log: &'a Log,
    messages: pull::Stream,
    ahead: i128,
    /// Messages that were read.
    read: u64,
    /// And that are left, of the copy that is read.
    left: u64,
    /// The number in the stream of the last one.
    last: u64,
    /// That of the last one in the stream, when reading began.
    end: u64,
    /// Who has the copy.
    server: Option<String>,
    looks: u32,
    /// For so many, the copy was not behind.
    quiet_looks: u32,
}

impl Reader<'_> {
    /// The next message; `None` if that was all.
    async fn next(&mut self) -> Result<Option<Box<Message<Payload>>>, String> {
        loop {
            if self.left == 0 && self.has_all().await? {
                return Ok(None);
            }
            let within = if self.left == 0 { LOOK_INTERVAL } else { WAIT };
            let next = timeout(within, next_of(&mut self.messages));
            let Ok(next) = self.log.requests.unless_refused(next).await? else {
                if self.left == 0 {
                    continue;
                }
                return Err(self.log.requests.silence());
            };
            let next = next.ok_or_else(|| "the server has ended it".to_owned())?;
            let message = next.map_err(|error| self.log.requests.reason(&error))?;
            let message = self.take(message)?;
            if message.is_some() {
                return Ok(message);
            }
        }
    }

    /// Whether that is all there is: the copy may be of a server that was away, or that has not
    /// looked through yet what it was sent. It may also be all because what follows is of a channel
    /// that is not read.
    async fn has_all(&mut self) -> Result<bool, String> {
        if self.last >= self.end {
            return Ok(true);
        }
        let server = self.server.as_deref();
        self.looks += 1;
        match CopyState::at(server, &self.log.look().await?, self.end) {
            CopyState::Leads => return Ok(true),
            CopyState::HasBeenSent => self.quiet_looks += 1,
            CopyState::Behind(behind) if self.looks > LOOKS_MAX => {
                let server = server.unwrap_or_default();
                return Err(format!(
                    "the copy of the server {server} is {behind} messages behind"
                ));
            }
            CopyState::Unknown if self.looks > LOOKS_MAX => {
                let server = server.unwrap_or_default();
                return Err(format!(
                    "it is not known how far the copy of the server {server} is"
                ));
            }
            CopyState::Behind(_) | CopyState::Unknown => self.quiet_looks = 0,
        }
        Ok(self.quiet_looks > QUIET_LOOKS)
    }

    /// `None` if it is not ours.
    fn take(
        &mut self,
        message: jetstream::Message,
    ) -> Result<Option<Box<Message<Payload>>>, String> {
        let info = message.info().map_err(|error| error.to_string())?;
        self.read += 1;
        if info.consumer_sequence != self.read {
            return Err("messages were lost on the way".to_owned());
        }
        (self.left, self.last) = (info.pending, info.stream_sequence);
        let ago = unix_nanos() - self.ahead - info.published.unix_timestamp_nanos();
        let age_millis = u64::try_from(ago / 1_000_000).unwrap_or_default();
        let message = message.message;
        let parsed = self.log.subjects.parse(&message.subject);
        let Some((channel, node)) = parsed else {
            return Ok(None);
        };
        let node = node.to_owned();
        Ok(Some(Box::new(Message {
            channel,
            node,
            logged_millis_ago: Some(age_millis),
            payload: Payload(message),
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream that was made at 10:00, as the server `a` says, which leads it.
    fn stream(state: &str, lag: u64) -> stream::Info {
        seen(state, lag, 900)
    }

    /// The same, if it has heard of the copy of the server `b` so many milliseconds ago.
    fn seen(state: &str, lag: u64, millis: u64) -> stream::Info {
        let nanos = millis * 1_000_000;
        let text = format!(
            r#"{{"config":{{"name":"AQUATIC_main","subjects":[],"retention":"limits",
            "max_consumers":-1,"max_msgs":-1,"max_bytes":-1,"max_age":0,"max_msg_size":-1,
            "discard":"old","storage":"file","num_replicas":3}},"created":"2026-01-01T10:00:00Z",
            "state":{{"bytes":0,"consumer_count":0,{state}}},
            "cluster":{{"leader":"a","replicas":[
            {{"name":"b","current":true,"active":{nanos},"lag":{lag}}}]}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    const LAST_17: &str = r#""messages":3,"first_seq":15,"first_ts":"2026-01-01T10:09:00Z",
        "last_seq":17,"last_ts":"2026-01-01T10:10:00Z""#;

    #[test]
    fn a_copy_has_been_sent_what_it_is_not_behind() {
        for (server, lag, end, expected) in [
            (Some("b"), 0, 17, CopyState::HasBeenSent),
            (Some("b"), 1, 17, CopyState::Behind(1)),
            // More has come since.
            (Some("b"), 1, 16, CopyState::HasBeenSent),
            (Some("b"), 99, 16, CopyState::Behind(99)),
            (Some("a"), 1, 17, CopyState::Leads),
            (Some("of another cluster"), 1, 17, CopyState::Leads),
            (None, 1, 17, CopyState::Leads),
        ] {
            assert_eq!(CopyState::at(server, &stream(LAST_17, lag), end), expected);
        }
    }

    /// A server that was away has just come back, and leads nothing.
    #[test]
    fn what_is_known_of_a_copy_is_out_of_date_after_a_while() {
        for (millis, expected) in [
            (0, CopyState::Unknown),
            (1, CopyState::HasBeenSent),
            (2_500, CopyState::HasBeenSent),
            (2_501, CopyState::Unknown),
            (7_000, CopyState::Unknown),
        ] {
            let stream = seen(LAST_17, 0, millis);
            assert_eq!(CopyState::at(Some("b"), &stream, 17), expected, "{millis}");
        }
    }

    #[test]
    fn a_stream_is_as_old_as_what_it_keeps() {
        let now = datetime::parse_rfc3339("2026-01-01T10:20:00Z").unwrap();
        let minutes = |state: &str| age_at(now, &stream(state, 0)).as_secs() / 60;
        assert_eq!(minutes(LAST_17), 20, "what is gone was too old");
        let first = r#""messages":17,"first_seq":1,"first_ts":"2026-01-01T10:09:00Z",
            "last_seq":17,"last_ts":"2026-01-01T10:10:00Z""#;
        assert_eq!(minutes(first), 11, "maybe it was lost");
        let none = r#""messages":0,"first_seq":0,"first_ts":"0001-01-01T00:00:00Z",
            "last_seq":0,"last_ts":"0001-01-01T00:00:00Z""#;
        assert_eq!(minutes(none), 0);
        let gone = r#""messages":0,"first_seq":18,"first_ts":"1970-01-01T00:00:00Z",
            "last_seq":17,"last_ts":"2026-01-01T10:10:00Z""#;
        assert_eq!(minutes(gone), 20);
    }
}

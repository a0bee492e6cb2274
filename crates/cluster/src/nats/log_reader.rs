//! Reads the log: by a consumer of the stream, which is at one of the servers that have a copy.

use std::time::Duration;

use aquatic_daemon::clock;
use async_nats::datetime;
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

/// So often more if it has: the server that leads does not know whether all of it can be read yet.
const QUIET_LOOKS: u32 = 2;

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
        let nanos = info.created.unix_timestamp_nanos() - stream.created.unix_timestamp_nanos();
        let age = Duration::from_nanos(u64::try_from(nanos).unwrap_or_default());
        let server = info.cluster.as_ref().and_then(|it| it.leader.clone());
        let begin = info.created.unix_timestamp_nanos() - nanos_of(since);
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

/// How far the copy at a server is behind the one of the server that leads; `None` if that is this
/// one, or there is no other.
fn behind(stream: &stream::Info, server: Option<&str>) -> Option<u64> {
    let mut replicas = stream.cluster.iter().flat_map(|it| &it.replicas);
    let copy = replicas.find(|it| Some(it.name.as_str()) == server);
    copy.map(|copy| copy.lag.unwrap_or_default())
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
        match behind(&self.log.look().await?, server) {
            None => return Ok(true),
            Some(0) => self.quiet_looks += 1,
            Some(behind) if self.looks == LOOKS_MAX => {
                let server = server.unwrap_or_default();
                return Err(format!(
                    "the copy of the server {server} is {behind} messages behind"
                ));
            }
            Some(_) => self.quiet_looks = 0,
        }
        self.looks += 1;
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

//! The log: a stream of JetStream in which the servers keep what was published.

use std::sync::Arc;
use std::time::Duration;

use aquatic_daemon::clock;
use async_nats::Client;
use async_nats::datetime::{self, DateTime};
use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy, pull};
use async_nats::jetstream::response::Response;
use async_nats::jetstream::{ErrorCode, stream};
use tokio::sync::{Mutex, Notify, OwnedMutexGuard, mpsc};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::link::{About, Area, Link};
use super::requests::{NO_JETSTREAM, NotMade, Requests, WAIT};
use super::subjects::{Subjects, is_covered};
use super::{Payload, next_of};
use crate::bus::{Channel, Message};

/// Messages and bytes that are asked for at a time, ahead of those that are taken. The subscription
/// has room for more.
const MESSAGES_MAX: usize = 64;
const BYTES_MAX: usize = 4 * 1_024 * 1_024;

/// Servers that have just been started find each other, and choose a leader: until then they make
/// no stream, or not in so many copies.
const RETRY_PAUSE: Duration = Duration::from_secs(3);

/// What is refused may be allowed later.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);

/// How often it is looked whether the stream is still there.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// Servers that were all gone need some seconds until one of them leads the stream. What is
/// published before is in no log, so that others miss it who are not connected yet.
const LEADER_WAIT: Duration = Duration::from_secs(12);

/// How long the server remembers a reader that asks for nothing more.
const READER_KEPT: Duration = Duration::from_secs(60);

/// Clocks that differ by no more than this are the same: it may be the way to the server.
const CLOCK_NANOS: i128 = 1_000_000_000;

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

/// Why a stream does not keep everything, by its configuration.
fn limit_of(config: &stream::Config) -> Option<String> {
    let limits = [
        ("max_msgs", config.max_messages),
        ("max_bytes", config.max_bytes),
        ("max_msgs_per_subject", config.max_messages_per_subject),
        ("max_msg_size", config.max_message_size.into()),
    ];
    let limits = limits.into_iter().filter(|(_, most)| *most > 0);
    let mut limits: Vec<String> = limits.map(|(key, most)| format!("{key} {most}")).collect();
    if config.retention != stream::RetentionPolicy::Limits {
        limits.push(format!("retention {:?}", config.retention));
    }
    if config.sealed {
        limits.push("sealed".to_owned());
    }
    (!limits.is_empty()).then(|| limits.join(", "))
}

/// The log of one cluster.
#[derive(Clone, Debug)]
pub(super) struct Log {
    requests: Requests,
    link: Arc<Link>,
    subjects: Subjects,
    node: String,
    max_age: Duration,
    /// The channel that is read, if it is one only.
    channel: Option<Channel>,
    /// Held while the stream is looked for or made, which comes before reading.
    preparation: Arc<Mutex<()>>,
    /// Tells that the stream is there, or that there will be none soon.
    decided: Arc<Notify>,
}

impl Log {
    pub(super) fn new(
        client: Client,
        link: Arc<Link>,
        subjects: Subjects,
        node: &str,
        max_age: Duration,
        channels: &[Channel],
    ) -> Self {
        let mut logged = channels.iter().copied().filter(|it| it.is_logged());
        let (first, second) = (logged.next(), logged.next());
        Self {
            requests: Requests::new(client, Arc::clone(&link), Area::Log),
            link,
            subjects,
            node: node.to_owned(),
            max_age,
            channel: first.filter(|_| second.is_none()),
            preparation: Arc::default(),
            decided: Arc::default(),
        }
    }

    /// Begins to make the stream, if it is not there. Who reads waits for that. The same of an
    /// earlier connection has to be stopped before.
    pub(super) async fn prepare(&self) -> AbortHandle {
        let guard = Arc::clone(&self.preparation).lock_owned().await;
        self.requests.reset();
        // What was told of an earlier connection.
        let _ = timeout(Duration::ZERO, self.decided.notified()).await;
        tokio::spawn(self.clone().make_stream(guard)).abort_handle()
    }

    /// Waits until the stream is there, or it is known that there will be none soon; but not for
    /// ever.
    pub(super) async fn wait_until_decided(&self) {
        let _ = timeout(LEADER_WAIT, self.decided.notified()).await;
    }

    /// Tries until it is there, but holds nobody up after the first attempt: who reads finds out by
    /// itself.
    async fn make_stream(self, guard: OwnedMutexGuard<()>) {
        let mut guard = Some(guard);
        loop {
            let Err(NotMade {
                lacks_servers,
                reason,
            }) = self.find_or_make().await
            else {
                self.link.forget(About::History);
                self.decided.notify_one();
                drop(guard.take());
                self.wait_until_gone().await;
                continue;
            };
            let text = format!(
                "the NATS servers keep no log of what is published (`cluster.history`), so that \
                 swarms are not complete after a start for some time: {reason}"
            );
            self.link.tell(About::History, &text);
            let is_refused = Link::is_refusal(&reason);
            // Nobody leads a stream that there is not.
            if is_refused || lacks_servers || reason == NO_JETSTREAM {
                self.decided.notify_one();
            }
            drop(guard.take());
            sleep(if is_refused {
                REFUSED_PAUSE
            } else {
                RETRY_PAUSE
            })
            .await;
        }
    }

    /// Somebody may delete it while everybody is connected.
    async fn wait_until_gone(&self) {
        let name = self.subjects.stream();
        loop {
            sleep(LOOK_INTERVAL).await;
            if let Ok(Response::Err { error }) = self.requests.find(&name).await
                && error.error_code() == ErrorCode::STREAM_NOT_FOUND
            {
                log::warn!(
                    "the stream {name} in the NATS servers has gone: trackers that start know \
                     only what is published from now on"
                );
                return;
            }
        }
    }

    async fn find_or_make(&self) -> Result<(), NotMade> {
        let name = self.subjects.stream();
        let logged = Channel::ALL.into_iter().filter(|it| it.is_logged());
        let subjects: Vec<_> = logged.map(|it| self.subjects.logged(it)).collect();
        self.requests.begin();
        match self.requests.find(&name).await? {
            Response::Ok(info) => {
                self.judge(&info.config, &subjects);
                Ok(())
            }
            Response::Err { error } if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                self.make(name, subjects).await
            }
            Response::Err { error } => Err(error.to_string().into()),
        }
    }

    async fn make(&self, name: String, subjects: Vec<String>) -> Result<(), NotMade> {
        let config = stream::Config {
            name,
            description: Some("Peers of aquatic trackers".to_owned()),
            subjects,
            max_age: self.max_age,
            storage: stream::StorageType::File,
            discard: stream::DiscardPolicy::Old,
            ..stream::Config::default()
        };
        let what = "a log of what trackers publish";
        self.requests.make(config, what).await
    }

    /// Looks at a stream that somebody else has made. It is not ours to be changed.
    fn judge(&self, config: &stream::Config, subjects: &[String]) {
        let (name, age) = (&config.name, self.max_age.as_secs());
        if !config.max_age.is_zero() && config.max_age < self.max_age {
            let text = format!(
                "the stream {name} in the NATS servers keeps messages for {} s, and peers live \
                 for {age} s: a tracker that starts does not find all of them (nats stream edit \
                 {name} --max-age={age}s)",
                config.max_age.as_secs()
            );
            self.link.tell(About::Stream, &text);
        } else if let Some(subject) = subjects.iter().find(|it| !is_covered(it, &config.subjects)) {
            let text = format!(
                "the stream {name} in the NATS servers does not keep what is published under \
                 {subject}"
            );
            self.link.tell(About::Stream, &text);
        } else if let Some(limit) = limit_of(config) {
            let text = format!(
                "the stream {name} in the NATS servers does not keep all that is published \
                 ({limit}): a tracker that starts does not find everybody"
            );
            self.link.tell(About::Stream, &text);
        } else if config.no_ack {
            let text = format!(
                "the stream {name} in the NATS servers does not say what it has (`no_ack`): what \
                 is published while servers are cut off from each other is not published again \
                 (nats stream edit {name} --ack)"
            );
            self.link.tell(About::Stream, &text);
        } else {
            self.link.forget(About::Stream);
        }
    }

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

    async fn read_to_end(
        &self,
        since: Duration,
        sender: &mpsc::Sender<Item>,
    ) -> Result<Duration, String> {
        let since = i128::try_from(since.as_nanos()).unwrap_or(i128::MAX);
        let now = unix_nanos();
        let mut consumer = self.consume(now.saturating_sub(since)).await?;
        // What the log is asked for is by the server's clock, and not every clock is right.
        let ahead = now - consumer.cached_info().created.unix_timestamp_nanos();
        if ahead.abs() > CLOCK_NANOS {
            let start = now.saturating_sub(ahead).saturating_sub(since);
            consumer = self.consume(start).await?;
        }
        let age = self.age_at(consumer.cached_info().created).await?;
        let mut left = consumer.cached_info().num_pending;
        if left == 0 {
            return Ok(age);
        }
        let messages = consumer
            .stream()
            .max_messages_per_batch(MESSAGES_MAX)
            .max_bytes_per_batch(BYTES_MAX)
            .messages();
        let mut messages = messages
            .await
            .map_err(|error| self.requests.reason(&error))?;
        let mut expected = 1;
        while left > 0 {
            let message = async {
                let next = timeout(WAIT, next_of(&mut messages)).await;
                next.map_err(|_| self.requests.silence())
            };
            let message = self.requests.unless_refused(message).await??;
            let message = message.ok_or_else(|| "the server has ended it".to_owned())?;
            let message = message.map_err(|error| self.requests.reason(&error))?;
            let info = message.info().map_err(|error| error.to_string())?;
            if info.consumer_sequence != expected {
                return Err("messages were lost on the way".to_owned());
            }
            expected += 1;
            left = info.pending;
            let ago = unix_nanos() - ahead - info.published.unix_timestamp_nanos();
            let age_millis = u64::try_from(ago / 1_000_000).unwrap_or_default();
            let message = message.message;
            if let Some((channel, node)) = self.subjects.parse(&message.subject) {
                let message = Message {
                    channel,
                    node: node.to_owned(),
                    logged_millis_ago: Some(age_millis),
                    payload: Payload(message),
                };
                // Nobody wants it any more.
                if sender.send(Item::Message(Box::new(message))).await.is_err() {
                    return Ok(age);
                }
            }
        }
        Ok(age)
    }

    /// For how long the stream has been there, at this time of the servers.
    async fn age_at(&self, now: DateTime) -> Result<Duration, String> {
        match self.requests.find(&self.subjects.stream()).await? {
            Response::Ok(info) => {
                let nanos = now.unix_timestamp_nanos() - info.created.unix_timestamp_nanos();
                Ok(Duration::from_nanos(
                    u64::try_from(nanos).unwrap_or_default(),
                ))
            }
            Response::Err { error } => Err(error.to_string()),
        }
    }
}

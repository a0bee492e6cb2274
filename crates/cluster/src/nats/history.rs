//! The log: a stream of JetStream in which the servers keep what was published.

use std::future::{Future, IntoFuture, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use aquatic_daemon::clock;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::response::Response;
use async_nats::jetstream::{self, Context, ErrorCode, stream};
use async_nats::{Client, datetime};
use tokio::sync::{Mutex, Notify, OwnedMutexGuard, mpsc};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::link::{About, Link};
use super::subjects::Subjects;
use super::{Payload, next_of};
use crate::bus::{Channel, Message};

/// How long an answer of JetStream is waited for, and the next message.
const WAIT: Duration = Duration::from_secs(5);

/// Copies of the stream, each at another server: it is there while most of these are.
const COPIES: usize = 3;

/// Servers that have just been started find each other, and choose a leader: until then they make
/// no stream, or not in so many copies. After some attempts, one copy is better than none.
const RETRY_PAUSE: Duration = Duration::from_secs(3);
const RETRIES_FOR_COPIES: u32 = 7;

/// Messages and bytes that are asked for at a time, ahead of those that are taken. The subscription
/// has room for more.
const MESSAGES_MAX: usize = 64;
const BYTES_MAX: usize = 4 * 1_024 * 1_024;

const NO_JETSTREAM: &str = "the servers have no JetStream, or not for this user";

/// Servers that were all gone need some seconds until one of them leads the stream. What is
/// published before is in no log, so that others miss it who are not connected yet.
const LEADER_WAIT: Duration = Duration::from_secs(12);

/// How long the server remembers a reader that asks for nothing more.
const READER_KEPT: Duration = Duration::from_secs(60);

/// What comes out of the log.
#[derive(Debug)]
pub(super) enum Item {
    Message(Message<Payload>),
    Read,
    Failed(String),
}

/// The log of one cluster.
#[derive(Clone, Debug)]
pub(super) struct Log {
    context: Context,
    link: Arc<Link>,
    subjects: Subjects,
    node: String,
    max_age: Duration,
    /// The channel that is read, if it is one only.
    channel: Option<Channel>,
    /// Held while the stream is looked for or made, which comes before reading.
    preparation: Arc<Mutex<()>>,
    /// Tells that the stream is there, or that there will be none on this connection.
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
        let context = jetstream::context::ContextBuilder::new().timeout(WAIT);
        let mut logged = channels.iter().copied().filter(|it| it.is_logged());
        let (first, second) = (logged.next(), logged.next());
        Self {
            context: context.build(client),
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
        // What was told of an earlier connection.
        let _ = timeout(Duration::ZERO, self.decided.notified()).await;
        tokio::spawn(self.clone().make_stream(guard)).abort_handle()
    }

    /// Waits until what [`Self::prepare`] has begun has come to an end, but not for ever.
    pub(super) async fn wait_until_decided(&self) {
        let _ = timeout(LEADER_WAIT, self.decided.notified()).await;
    }

    /// Tries until it is there, but holds nobody up after the first attempt: who reads finds out by
    /// itself. What the servers refuse stays refused as long as the connection.
    async fn make_stream(self, guard: OwnedMutexGuard<()>) {
        let mut guard = Some(guard);
        for attempt in 0.. {
            match self.find_or_make(attempt).await {
                Ok(()) => {
                    self.link.forget(About::History);
                    return self.decided.notify_one();
                }
                Err(reason) => {
                    let text = format!(
                        "the NATS servers keep no log of what is published (`cluster.history`), \
                         so that swarms are not complete after a start for some time: {reason}"
                    );
                    self.link.tell(About::History, text);
                    if Link::is_refusal(&reason) {
                        return self.decided.notify_one();
                    }
                    if reason == NO_JETSTREAM {
                        self.decided.notify_one();
                    }
                }
            }
            drop(guard.take());
            sleep(RETRY_PAUSE).await;
        }
    }

    async fn find_or_make(&self, attempt: u32) -> Result<(), String> {
        let name = self.subjects.stream();
        let logged = Channel::ALL.into_iter().filter(|it| it.is_logged());
        let subjects: Vec<_> = logged.map(|it| self.subjects.logged(it)).collect();
        self.link.take_refusal();
        let request = self.context.request(format!("STREAM.INFO.{name}"), &());
        match self.answer(request).await? {
            Response::Ok::<stream::Info>(info) => {
                self.judge(&info.config, &subjects);
                Ok(())
            }
            Response::Err { error } if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                self.make(name, subjects, attempt).await
            }
            Response::Err { error } => Err(error.to_string()),
        }
    }

    /// In as many copies as there may be.
    async fn make(&self, name: String, subjects: Vec<String>, attempt: u32) -> Result<(), String> {
        match self.make_in(COPIES, &name, &subjects).await? {
            Ok(()) => {
                log::info!(
                    "made the stream {name} in the NATS servers, in {COPIES} copies: a log of \
                     what trackers publish"
                );
                Ok(())
            }
            Err((ErrorCode::STREAM_NAME_EXIST, _)) => Ok(()),
            // A server by itself.
            Err((ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED, _)) => {
                self.make_one(name, subjects).await
            }
            Err((ErrorCode::CLUSTER_NO_PEERS, _)) if attempt >= RETRIES_FOR_COPIES => {
                self.make_one(name, subjects).await
            }
            Err((_, reason)) => Err(reason),
        }
    }

    async fn make_one(&self, name: String, subjects: Vec<String>) -> Result<(), String> {
        match self.make_in(1, &name, &subjects).await? {
            Ok(()) => {
                log::info!(
                    "made the stream {name} in the NATS servers, in one copy: a log of what \
                     trackers publish. With three servers or more: nats stream edit {name} \
                     --replicas={COPIES}"
                );
                Ok(())
            }
            Err((ErrorCode::STREAM_NAME_EXIST, _)) => Ok(()),
            Err((_, reason)) => Err(reason),
        }
    }

    /// What the servers say to so many copies. Another tracker may have been faster.
    async fn make_in(
        &self,
        copies: usize,
        name: &str,
        subjects: &[String],
    ) -> Result<Result<(), (ErrorCode, String)>, String> {
        let config = stream::Config {
            name: name.to_owned(),
            description: Some("Peers of aquatic trackers".to_owned()),
            subjects: subjects.to_owned(),
            max_age: self.max_age,
            storage: stream::StorageType::File,
            discard: stream::DiscardPolicy::Old,
            num_replicas: copies,
            no_ack: true,
            ..stream::Config::default()
        };
        let request = self
            .context
            .request(format!("STREAM.CREATE.{name}"), &config);
        Ok(match self.answer(request).await? {
            Response::Ok::<stream::Info>(_) => Ok(()),
            Response::Err { error } => Err((
                error.error_code(),
                format!("the stream {name} cannot be made: {error}"),
            )),
        })
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
            self.link.tell(About::History, text);
        } else if let Some(subject) = subjects.iter().find(|it| !config.subjects.contains(it)) {
            let text = format!(
                "the stream {name} in the NATS servers does not keep what is published under \
                 {subject}"
            );
            self.link.tell(About::History, text);
        }
    }

    /// Reads what was published in the time `since` before now, until the end.
    pub(super) async fn read(self, since: Duration, sender: mpsc::Sender<Item>) {
        // The stream may be being made.
        drop(self.preparation.lock().await);
        let end = match self.read_to_end(since, &sender).await {
            Ok(()) => Item::Read,
            Err(reason) => Item::Failed(reason),
        };
        // Nobody may want to know any more.
        let _ = sender.send(end).await;
    }

    async fn read_to_end(
        &self,
        since: Duration,
        sender: &mpsc::Sender<Item>,
    ) -> Result<(), String> {
        let now = Duration::from_micros(clock::unix_micros());
        let start = now.saturating_sub(since).as_nanos();
        let start = datetime::from_nanos(i128::try_from(start).unwrap_or(0));
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
        self.link.take_refusal();
        let consumer = self.context.create_consumer_on_stream(config, name);
        let consumer = self.answer(consumer).await?;
        let mut left = consumer.cached_info().num_pending;
        if left == 0 {
            return Ok(());
        }
        let messages = consumer
            .stream()
            .max_messages_per_batch(MESSAGES_MAX)
            .max_bytes_per_batch(BYTES_MAX)
            .messages();
        let mut messages = messages.await.map_err(|error| self.reason(&error))?;
        let mut expected = 1;
        while left > 0 {
            let message = async {
                let next = timeout(WAIT, next_of(&mut messages)).await;
                next.map_err(|_| self.silence())
            };
            let message = self.unless_refused(message).await??;
            let message = message.ok_or_else(|| "the server has ended it".to_owned())?;
            let message = message.map_err(|error| self.reason(&error))?;
            let info = message.info().map_err(|error| error.to_string())?;
            if info.consumer_sequence != expected {
                return Err("messages were lost on the way".to_owned());
            }
            expected += 1;
            left = info.pending;
            let message = message.message;
            if let Some((channel, node)) = Subjects::parse(&message.subject) {
                let message = Message {
                    channel,
                    node: node.to_owned(),
                    payload: Payload(message),
                };
                // Nobody wants it any more.
                if sender.send(Item::Message(message)).await.is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// What comes of this, unless the server refuses it.
    async fn unless_refused<F: Future>(&self, work: F) -> Result<F::Output, String> {
        if let Some(reason) = self.link.is_mute() {
            return Err(reason);
        }
        let (mut work, mut refused) = (pin!(work), pin!(self.link.refused.notified()));
        poll_fn(|context| {
            if let Poll::Ready(done) = work.as_mut().poll(context) {
                return Poll::Ready(Ok(done));
            }
            let refused = refused.as_mut().poll(context);
            refused.map(|()| Err(self.silence()))
        })
        .await
    }

    async fn answer<T, E: std::error::Error>(
        &self,
        request: impl IntoFuture<Output = Result<T, E>>,
    ) -> Result<T, String> {
        let answer = self.unless_refused(request.into_future()).await?;
        answer.map_err(|error| self.reason(&error))
    }

    fn silence(&self) -> String {
        let refusal = self.link.take_refusal();
        refusal.unwrap_or_else(|| format!("no answer within {} s", WAIT.as_secs()))
    }

    fn reason(&self, error: &dyn std::error::Error) -> String {
        let text = error.to_string();
        if text.contains("no responders") || text.contains("resource does not exist") {
            NO_JETSTREAM.to_owned()
        } else if text.contains("timed out") {
            self.silence()
        } else {
            text
        }
    }
}

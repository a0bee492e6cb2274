//! Announces for a back end: messages with many lines each, one after the other, in a stream of
//! JetStream.
//!
//! A message that the servers have not acknowledged is published again, under the same name: they
//! drop one that they have. Nothing comes after it until then, so that the order is kept.

use std::sync::Arc;
use std::time::Duration;

use aquatic_tracker::announces::Lines;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::{ErrorCode, stream};
use async_nats::{Client, HeaderMap, header::NATS_MESSAGE_ID};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::link::{About, Area, Link};
use super::requests::Requests;
use super::subjects::Subjects;
use crate::announces::{self, AnnounceBuffer, AnnouncePlan};

/// Bytes of a message: half of what servers take by default.
const MESSAGE_BYTES: usize = 512 * 1_024;

/// No stream is made for less.
const MESSAGE_BYTES_MIN: usize = 1_024;

/// What a server says of a message that its stream does not take.
const TOO_LARGE: &str = "exceeds maximum";

/// What a server's limit has to have room for besides.
const HEADER_BYTES: usize = 4 * 1_024;

/// For so long the servers keep what they were told.
const KEPT: Duration = Duration::from_secs(3 * 24 * 3_600);

/// For so long they know the names of messages.
const NAMES_KNOWN: Duration = Duration::from_secs(600);

const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// A message that is on its way.
struct Message {
    name: String,
    lines: Lines,
}

/// Publishes announces for ever.
struct Publisher {
    requests: Requests,
    link: Arc<Link>,
    client: Client,
    subjects: Subjects,
    plan: AnnouncePlan,
    buffer: AnnounceBuffer,
    number: u64,
    /// Bytes of a message, less if the stream takes no such large ones.
    bytes_max: usize,
    /// The connection on which the stream is known to be there.
    prepared: Option<u64>,
}

/// Tells the task that publishes announces to come to an end.
pub struct AnnounceEnd {
    ask: oneshot::Sender<oneshot::Sender<()>>,
    task: AbortHandle,
}

impl AnnounceEnd {
    /// Waits until the servers have everything, at most for this time.
    pub async fn finish(self, within: Duration) {
        let (done, wait) = oneshot::channel();
        if self.ask.send(done).is_ok() && timeout(within, wait).await.is_err() {
            log::warn!(
                "the NATS servers have not acknowledged the last announces in time, so that some \
                 are lost"
            );
        }
        self.task.abort();
    }
}

/// Begins to publish.
pub(super) fn publish(
    client: Client,
    link: Arc<Link>,
    subjects: Subjects,
    plan: AnnouncePlan,
) -> AnnounceEnd {
    let publisher = Publisher {
        requests: Requests::new(client.clone(), Arc::clone(&link), Area::Announces),
        link,
        client,
        subjects,
        buffer: AnnounceBuffer::new(plan.buffer_bytes),
        plan,
        number: 0,
        bytes_max: MESSAGE_BYTES,
        prepared: None,
    };
    let (ask, end) = oneshot::channel();
    let task = tokio::spawn(publisher.run(end)).abort_handle();
    AnnounceEnd { ask, task }
}

impl Publisher {
    async fn run(mut self, mut end: oneshot::Receiver<oneshot::Sender<()>>) {
        let mut done = None;
        loop {
            self.collect();
            if let Some(message) = self.next() {
                self.publish(message).await;
                continue;
            }
            match done.take() {
                // What was asked for before the last look is there.
                Some(done) => {
                    let _: Result<(), ()> = oneshot::Sender::send(done, ());
                    return;
                }
                None => tokio::select! {
                    () = sleep(self.plan.flush_interval) => {}
                    asked = &mut end => match asked {
                        Ok(asked) => done = Some(asked),
                        Err(_) => return,
                    },
                },
            }
        }
    }

    fn collect(&mut self) {
        self.plan.collect(&mut self.buffer);
    }

    fn next(&mut self) -> Option<Message> {
        let lines = self.buffer.take(self.bytes_max())?;
        let name = self.next_name();
        Some(Message { name, lines })
    }

    fn next_name(&mut self) -> String {
        self.number += 1;
        format!("{:016x}-{}", self.plan.process, self.number)
    }

    fn bytes_max(&self) -> usize {
        let server_max = self.client.server_info().max_payload;
        self.bytes_max.min(server_max.saturating_sub(HEADER_BYTES))
    }

    /// Cuts a message that is larger than what can be taken now: the server may be another one. As
    /// it is another message then, it has another name.
    fn fit(&mut self, message: &mut Message) {
        if let Some(rest) = announces::split(&mut message.lines, self.bytes_max()) {
            self.buffer.put_back(rest);
            message.name = self.next_name();
        }
    }

    /// Publishes until it is acknowledged.
    async fn publish(&mut self, mut message: Message) {
        let mut delay = RETRY_MIN;
        loop {
            let connection = self.connected().await;
            self.fit(&mut message);
            let Err(reason) = self.try_publish(connection, &message).await else {
                let counters = &self.plan.counters.announces;
                counters.published.add(message.lines.count);
                self.link.forget(About::Announces);
                return;
            };
            self.plan.counters.announces.failures.add(1);
            if self.link.connection() != Some(connection) {
                continue;
            }
            if reason.contains(TOO_LARGE) && self.bytes_max > MESSAGE_BYTES_MIN {
                self.bytes_max = (message.lines.bytes.len() / 2).max(MESSAGE_BYTES_MIN);
                continue;
            }
            self.prepared = None;
            let text = format!(
                "announces cannot be published (`cluster.announces`), and wait; {} lines by now: \
                 {reason}",
                message.lines.count + self.buffer.lines()
            );
            self.link.tell_reason(About::Announces, &reason, &text);
            let mut left = delay;
            while !left.is_zero() {
                let some = left.min(self.plan.flush_interval);
                sleep(some).await;
                left -= some;
                self.collect();
            }
            delay = (delay * 2).min(RETRY_MAX);
        }
    }

    /// Waits for a connection, and collects meanwhile.
    async fn connected(&mut self) -> u64 {
        loop {
            let link = Arc::clone(&self.link);
            match timeout(self.plan.flush_interval, link.connected()).await {
                Ok(connection) => return connection,
                Err(_) => self.collect(),
            }
        }
    }

    async fn try_publish(&mut self, connection: u64, message: &Message) -> Result<(), String> {
        self.requests.begin();
        if self.prepared != Some(connection) {
            let requests = self.requests.clone();
            let subjects = self.subjects.clone();
            self.while_collecting(find_or_make(&requests, &subjects))
                .await?;
            self.prepared = Some(connection);
            // It may be another stream than the one that takes small messages only.
            self.bytes_max = MESSAGE_BYTES;
        }
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_ID, &*message.name);
        let requests = self.requests.clone();
        let (subject, bytes) = (self.subjects.announces(), message.lines.bytes.clone());
        let published = async {
            let context = requests.context();
            let answer = context.publish_with_headers(subject, headers, bytes.into());
            let answer = answer.await.map_err(|error| requests.reason(&error))?;
            requests.answer(answer).await.map(drop)
        };
        self.while_collecting(published).await
    }

    /// Workers have no room for what they have to tell during a long wait.
    async fn while_collecting<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            match timeout(self.plan.flush_interval, &mut work).await {
                Ok(done) => return done,
                Err(_) => self.collect(),
            }
        }
    }
}

/// Makes sure that there is a stream. One that somebody else has made is used as it is.
async fn find_or_make(requests: &Requests, subjects: &Subjects) -> Result<(), String> {
    let name = subjects.announce_stream();
    match requests.find(&name).await? {
        Response::Ok(_) => return Ok(()),
        Response::Err { error } if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {}
        Response::Err { error } => return Err(error.to_string()),
    }
    let config = stream::Config {
        name,
        description: Some("Announces at aquatic trackers".to_owned()),
        subjects: vec![subjects.all_announces()],
        retention: stream::RetentionPolicy::Limits,
        max_age: KEPT,
        duplicate_window: NAMES_KNOWN,
        storage: stream::StorageType::File,
        discard: stream::DiscardPolicy::Old,
        ..stream::Config::default()
    };
    let made = requests.make(config, "announces, for a back end").await;
    made.map_err(|error| error.reason)
}

//! Lists that are kept in the servers: each in a bucket, which is a stream of JetStream that keeps
//! the last message under each subject.
//!
//! It is read as a whole, and heard from then on, by one consumer. When anything is wrong with that
//! (the connection is lost, a message is missing), all begins anew: what was deleted meanwhile is
//! not among what is read. So it does now and then without a reason, since entries whose time is
//! over go without a message.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use aquatic_daemon::bucket::{BucketError, Item};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::response::Response;
use async_nats::jetstream::{self, ErrorCode, stream};
use async_nats::{Client, HeaderMap};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::link::{About, Area, Link};
use super::next_of;
use super::requests::{Requests, WAIT};
use super::subjects::Subjects;
use crate::counters::{BucketCounters, Counters};
use crate::lists::{Batches, ListKind, ListPlan, Order, Progress, Update};

/// The header that says what has become of an entry, if it was not put.
const OPERATION: &str = "KV-Operation";
const DELETE: &str = "DEL";

/// The header of what servers publish themselves when the time of an entry is over, if the bucket
/// is made so (NATS 2.11 and later).
const MARKER: &str = "Nats-Marker-Reason";

/// Messages and bytes that are asked for at a time.
const MESSAGES_MAX: usize = 512;
const BYTES_MAX: usize = 4 * 1_024 * 1_024;

/// Silence of the server, while nothing changes.
const HEARTBEAT: Duration = Duration::from_secs(5);
const EXPIRES: Duration = Duration::from_secs(30);

/// What is longer is cut: it is for people, but for its beginning.
const VALUE_BYTES_MAX: usize = 4_096;

/// How often it is looked whether the connection is still the same.
const TICK: Duration = Duration::from_secs(1);

/// In what is asked for messages.
const NEXT: &str = ".CONSUMER.MSG.NEXT.";

/// One that was never filled is read again so soon after somebody has begun to.
const FILLED_WITHIN: Duration = Duration::from_secs(60);

/// The whole is read again so often.
const READ_INTERVAL: Duration = Duration::from_secs(600);

/// How long the server remembers a reader that asks for nothing more.
const READER_KEPT: Duration = Duration::from_secs(60);

/// Changes that are on their way at a time.
const ON_THEIR_WAY_MAX: usize = 256;

const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);
const RETRY_LACKING_SERVERS: Duration = Duration::from_secs(3);

/// Changes that have been made, and who waits until the list has them.
struct Waiting {
    revision: u64,
    /// The update that has them, once there is one.
    update: Option<u64>,
    order: Order,
}

/// Changes that are being made, and what comes of them: the revision of the last one.
type Making = Pin<Box<dyn Future<Output = (Order, Result<u64, BucketError>)> + Send>>;

/// Goes on with them.
async fn made(making: &mut Option<Making>) -> (Order, Result<u64, BucketError>) {
    let Some(work) = making else {
        return std::future::pending().await;
    };
    let done = work.await;
    *making = None;
    done
}

async fn publish(
    requests: Requests,
    prefix: String,
    order: Order,
) -> (Order, Result<u64, BucketError>) {
    let mut is_begun = false;
    let made = publish_changes(&requests, &prefix, &order, &mut is_begun).await;
    let error = match is_begun {
        true => BucketError::Uncertain,
        false => BucketError::Unchanged,
    };
    (order, made.map_err(error))
}

/// Returns the revision of the last change. `is_begun`: the servers may have some of them.
async fn publish_changes(
    requests: &Requests,
    prefix: &str,
    order: &Order,
    is_begun: &mut bool,
) -> Result<u64, String> {
    requests.begin();
    let context = requests.context();
    let mut last = 0;
    for changes in order.changes.chunks(ON_THEIR_WAY_MAX) {
        let mut answers = Vec::with_capacity(changes.len());
        for (name, value) in changes {
            let mut headers = HeaderMap::new();
            if value.is_none() {
                headers.insert(OPERATION, DELETE);
            }
            let value = value.clone().unwrap_or_default().into();
            let subject = format!("{prefix}{name}");
            let published = context.publish_with_headers(subject, headers, value).await;
            answers.push(published.map_err(|error| requests.reason(&error))?);
            *is_begun = true;
        }
        for answer in answers {
            last = last.max(requests.answer(answer).await?.sequence);
        }
    }
    Ok(last)
}

/// Keeps one list as it is in its bucket.
pub(super) struct Watch {
    requests: Requests,
    link: Arc<Link>,
    kind: ListKind,
    bucket: String,
    node: String,
    orders: mpsc::Receiver<Order>,
    updates: Sender<(ListKind, Update)>,
    progress: Arc<Progress>,
    counters: Arc<Counters>,
    /// Updates that were sent.
    sent: u64,
    /// The last one has all that was heard up to this revision.
    sent_revision: u64,
    making: Option<Making>,
    waiting: Vec<Waiting>,
    /// The bucket has been there.
    has_read: bool,
    has_told_unfilled: bool,
    /// It could not be made in as many copies as there are to be.
    lacks_servers: bool,
}

impl Watch {
    pub(super) fn new(
        client: Client,
        link: Arc<Link>,
        subjects: &Subjects,
        plan: ListPlan,
    ) -> Self {
        Self {
            requests: Requests::new(client, Arc::clone(&link), Area::Bucket(plan.kind)),
            link,
            kind: plan.kind,
            bucket: plan.kind.bucket(subjects.cluster()),
            node: subjects.node().to_owned(),
            orders: plan.orders,
            updates: plan.updates,
            progress: plan.progress,
            counters: plan.counters,
            sent: 0,
            sent_revision: 0,
            making: None,
            waiting: Vec::new(),
            has_read: false,
            has_told_unfilled: false,
            lacks_servers: false,
        }
    }

    fn counters(&self) -> &BucketCounters {
        self.counters.bucket(self.kind)
    }

    fn stream(&self) -> String {
        format!("KV_{}", self.bucket)
    }

    /// What stands before the name of an entry in its subject.
    fn prefix(&self) -> String {
        format!("$KV.{}.", self.bucket)
    }

    /// Works for ever.
    pub(super) async fn run(mut self) {
        let mut delay = RETRY_MIN;
        loop {
            let connection = self.link.connected().await;
            let ended = self.watch(connection).await;
            let Err(reason) = ended else {
                continue;
            };
            let was_heard = self.counters().is_heard();
            self.counters().set_heard(false);
            if self.link.connection() != Some(connection) {
                continue;
            }
            let (bucket, key) = (&self.bucket, self.kind.key());
            let text = format!(
                "the bucket {bucket} cannot be read (`{key}`), so that the list stays as it was \
                 last known here, which is tried again: {reason}"
            );
            self.link.tell(About::Bucket(self.kind.key()), &text);
            if was_heard {
                delay = RETRY_MIN;
            }
            // They are just being started.
            let delay_max = match std::mem::take(&mut self.lacks_servers) {
                true => RETRY_LACKING_SERVERS,
                false => RETRY_MAX,
            };
            sleep(delay.min(delay_max)).await;
            delay = (delay * 2).min(RETRY_MAX);
        }
    }

    /// Reads and hears, until something is wrong, or it is time to read the whole again.
    async fn watch(&mut self, connection: u64) -> Result<(), String> {
        self.requests.begin();
        let was_filled = self.find_or_make().await?;
        let (mut messages, mut left) = self.consume().await?;
        let mut batches = Batches::new();
        self.sent_revision = 0;
        let mut expected = 1;
        let mut heard = Instant::now();
        let mut end = heard + READ_INTERVAL;
        // The update that has it.
        let mut whole = None;
        let (started, area) = (heard, Area::Bucket(self.kind));
        loop {
            if self.link.connection() != Some(connection) {
                return Err("the connection was lost".to_owned());
            }
            if left == 0 && batches.is_reading() {
                match was_filled {
                    true => batches.end_reading(),
                    false => self.end_reading_unfilled(&mut batches),
                }
                self.has_read = true;
                self.link.forget(About::Bucket(self.kind.key()));
            }
            self.deliver(&mut batches);
            if let Some(reason) = self.link.take_refusal_of(area, NEXT) {
                return Err(reason);
            }
            if batches.is_whole_told() {
                let whole = *whole.get_or_insert(self.sent);
                self.note_heard(whole, started);
            }
            if Instant::now() >= end && !batches.is_reading() && self.is_idle() {
                return Ok(());
            }
            if batches.is_reading() && heard.elapsed() >= WAIT {
                return Err(self.requests.silence());
            }
            tokio::select! {
                next = timeout(TICK, next_of(&mut messages)) => {
                    let Ok(message) = next else { continue };
                    let message = message.ok_or("the server has ended it")?;
                    let message = message.map_err(|error| self.requests.reason(&error))?;
                    let info = message.info().map_err(|error| error.to_string())?;
                    if info.consumer_sequence != expected {
                        return Err("messages were lost on the way".to_owned());
                    }
                    expected += 1;
                    if batches.is_reading() {
                        left = info.pending;
                    }
                    heard = Instant::now();
                    let revision = info.stream_sequence;
                    if let Some(item) = self.item(&message.message, revision) {
                        if !was_filled && !batches.is_reading() {
                            end = end.min(heard + FILLED_WITHIN);
                        }
                        batches.note(item);
                    }
                }
                () = self.progress.changed.notified() => {}
                Some(order) = self.orders.recv(),
                    if !batches.is_reading() && self.making.is_none() =>
                {
                    self.begin(order);
                }
                (order, made) = made(&mut self.making) => self.note_made(order, made),
            }
        }
    }

    /// The list was told the `whole`, by the update of this number. It is heard when it has taken
    /// that over, since changes by an operator are compared with it; and not at once, as it is told
    /// a little later what is refused.
    fn note_heard(&self, whole: u64, started: Instant) {
        if self.progress.done() >= whole && started.elapsed() >= TICK {
            self.counters().set_heard(true);
        }
    }

    fn item(&self, message: &async_nats::Message, revision: u64) -> Option<Item> {
        let name = message.subject.strip_prefix(&self.prefix())?;
        let headers = message.headers.as_ref();
        let is_said = |header: &str| headers.is_some_and(|headers| headers.get(header).is_some());
        let is_gone = is_said(OPERATION) || is_said(MARKER);
        let value = message.payload.get(..VALUE_BYTES_MAX);
        let value = value.unwrap_or(&message.payload);
        Some(Item {
            name: name.to_owned(),
            value: (!is_gone).then(|| value.to_vec()),
            revision,
        })
    }

    /// The list has taken over what it was told.
    fn is_idle(&self) -> bool {
        self.progress.done() >= self.sent
    }

    /// Tells the list what has been heard, if it has time, and whoever waits for that.
    fn deliver(&mut self, batches: &mut Batches) {
        if self.is_idle()
            && let Some(update) = batches.take()
        {
            // The thread that takes it lives as long as the process.
            let _ = self.updates.send((self.kind, update));
            self.sent += 1;
            let revision = batches.revision();
            self.sent_revision = revision;
            let of_update = self.waiting.iter_mut().filter(|it| it.update.is_none());
            for waiting in of_update.filter(|it| it.revision <= revision) {
                waiting.update = Some(self.sent);
            }
        }
        let done = self.progress.done();
        self.waiting.retain(|waiting| {
            let is_done = waiting.update.is_some_and(|update| update <= done);
            if is_done {
                waiting.order.answer(Ok(()));
            }
            !is_done && !waiting.order.is_given_up()
        });
    }

    /// Begins to make changes. What is in the bucket is heard meanwhile.
    fn begin(&mut self, order: Order) {
        // It has come while there was no connection.
        if !order.is_given_up() {
            let making = publish(self.requests.clone(), self.prefix(), order);
            self.making = Some(Box::pin(making));
        }
    }

    fn note_made(&mut self, order: Order, made: Result<u64, BucketError>) {
        let bucket = &self.bucket;
        let error = match made {
            Ok(revision) => {
                self.waiting.push(Waiting {
                    revision,
                    // It may have been heard before it was acknowledged.
                    update: (revision <= self.sent_revision).then_some(self.sent),
                    order,
                });
                return;
            }
            Err(BucketError::Unchanged(reason)) => {
                BucketError::Unchanged(format!("the bucket {bucket} was not changed: {reason}"))
            }
            Err(BucketError::Uncertain(reason)) => BucketError::Uncertain(format!(
                "the bucket {bucket} was not changed as a whole: {reason}"
            )),
        };
        order.answer(Err(error));
    }

    /// It was made anew, or is still to be filled: that says nothing about the list.
    fn end_reading_unfilled(&mut self, batches: &mut Batches) {
        batches.end_reading_unfilled();
        if !std::mem::replace(&mut self.has_told_unfilled, true) {
            log::info!(
                "the bucket {} has never had an entry: the list stays as it is",
                self.bucket
            );
        }
    }

    /// Returns whether there has been an entry in it.
    async fn find_or_make(&mut self) -> Result<bool, String> {
        let name = self.stream();
        match self.requests.find(&name).await? {
            Response::Ok(info) => return Ok(info.state.last_sequence > 0),
            // A new one would be empty, and so would every list and every copy be.
            Response::Err { error }
                if error.error_code() == ErrorCode::STREAM_NOT_FOUND && self.has_read =>
            {
                return Err(format!(
                    "it is gone: the last list stands (`nats kv add {}` makes it anew, and it has \
                     to be filled)",
                    self.bucket
                ));
            }
            Response::Err { error } if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {}
            Response::Err { error } => return Err(error.to_string()),
        }
        // The library cannot make one at old servers.
        let config = stream::Config {
            name,
            description: Some("A list of aquatic trackers".to_owned()),
            subjects: vec![format!("{}>", self.prefix())],
            max_messages_per_subject: 1,
            max_messages: -1,
            max_bytes: -1,
            storage: stream::StorageType::File,
            discard: stream::DiscardPolicy::New,
            allow_rollup: true,
            deny_delete: true,
            allow_direct: true,
            ..stream::Config::default()
        };
        let what = format!("the bucket {}", self.bucket);
        let made = self.requests.make(config, &what).await;
        self.lacks_servers = made.as_ref().is_err_and(|error| error.lacks_servers);
        made.map(|()| false).map_err(|error| error.reason)
    }

    /// Begins to read, and returns how much there is.
    async fn consume(&mut self) -> Result<(pull::Stream, u64), String> {
        let config = pull::Config {
            name: Some(format!("{}_{:016x}", self.node, fastrand::u64(..))),
            deliver_policy: DeliverPolicy::LastPerSubject,
            ack_policy: AckPolicy::None,
            filter_subject: format!("{}>", self.prefix()),
            inactive_threshold: READER_KEPT,
            memory_storage: true,
            num_replicas: 1,
            ..pull::Config::default()
        };
        let context = self.requests.context();
        let consumer = context.create_consumer_on_stream(config, self.stream());
        let consumer: jetstream::consumer::Consumer<pull::Config> =
            self.requests.answer(consumer).await?;
        let left = consumer.cached_info().num_pending;
        let messages = consumer
            .stream()
            .max_messages_per_batch(MESSAGES_MAX)
            .max_bytes_per_batch(BYTES_MAX)
            .heartbeat(HEARTBEAT)
            .expires(EXPIRES)
            .messages();
        let messages = self.requests.answer(messages).await?;
        Ok((messages, left))
    }
}

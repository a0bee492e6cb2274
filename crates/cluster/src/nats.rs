//! A [`Bus`] that speaks to NATS servers.
//!
//! A [`Nats`] belongs to one thread, which runs the [runtime] in which the library has its tasks:
//! these go on whenever the thread waits in [`Nats::ready`], and only then. What waits is bounded:
//!
//! - what is heard: 16 MiB, after which messages are lost, and [missed](Event::Missed); besides
//!   what comes in one turn (8 MiB at most). Who does not get to a turn loses nothing for some
//!   time: it waits in the system and in the server, until that closes the connection;
//! - what is published: 16 messages, after which they are given back; besides those that the
//!   library holds (64);
//! - what is read in the log: 16 messages, after which no more is asked for; besides those that are
//!   on their way (64, or 4 MiB).
//!
//! Nothing that happens to the connection is an error: it is made again and again, to one server
//! after the other, and the log of the program is told once what is wrong. A server that does not
//! answer is given up after 12 seconds.
//!
//! | module | contents |
//! |---|---|
//! | [`settings`], `credentials`, `tls` | what a connection is made with, read at the start |
//! | `system` | what the libraries of the system need |
//! | `subjects` | under which subjects messages go |
//! | `choice` | which server is tried next |
//! | `link` | the state of the connection |
//! | `history`, `log_reader` | the log, and what it has |
//! | `bucket` | lists that are kept in the servers |
//! | `announces` | announces for a back end |
//! | `publisher` | what is published |
//! | `answers` | what servers say about what was published |
//! | `requests` | questions to JetStream |

mod announces;
mod answers;
mod bucket;
mod choice;
mod credentials;
mod history;
mod link;
mod log_reader;
mod publisher;
mod requests;
pub mod settings;
mod subjects;
mod system;
mod tls;

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{self, Poll};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, ConnectOptions, ServerAddr, Subscriber};
use futures_core::Stream;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, unconstrained, yield_now};
use tokio::time::timeout;

pub use self::announces::AnnounceEnd;
use self::answers::{Answer, Answers};
use self::bucket::Watch;
use self::history::Log;
use self::link::Link;
use self::log_reader::Item;
use self::publisher::{Outgoing, Publisher};
use self::settings::Settings;
use self::subjects::Subjects;
use crate::announces::AnnouncePlan;
use crate::bus::{Bus, Channel, Destination, Event, Message};
use crate::lists::ListPlan;

/// Bytes that were heard and are not taken yet.
const HEARD_BYTES_MAX: usize = 16 * 1_024 * 1_024;

/// What a message takes besides its payload, more or less.
const MESSAGE_OVERHEAD: usize = 256;

/// Messages that a subscription has room for. They are there only until the end of a turn, in which
/// the library reads no more than 8 MiB (128 times 64 KiB); some thousand small messages are
/// nothing special after a pause of the thread.
const TURN_MAX: usize = 65_536;

const PUBLISHED_MAX: usize = 16;
const COMMANDS_MAX: usize = 64;
const READ_MAX: usize = 16;
const KEPT_MAX: usize = 4_096;

/// A server that says nothing is asked so often whether it is there, and is gone when it has not
/// answered twice by the third time.
const PING_INTERVAL: Duration = Duration::from_secs(4);

const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// What a thread that owns a [`Nats`] runs. Names are looked up in a thread of its own, as the
/// system gives no other way, which ends when it has nothing to do.
///
/// # Errors
/// If the system gives no descriptors.
pub fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .thread_name("cluster-names")
        .build()
}

/// What is in a message.
#[derive(Clone, Debug)]
pub struct Payload(async_nats::Message);

impl AsRef<[u8]> for Payload {
    fn as_ref(&self) -> &[u8] {
        &self.0.payload
    }
}

/// Wakes the owner of a [`Nats`], from any thread.
#[derive(Clone, Debug)]
pub struct Waker(Arc<Link>);

impl Waker {
    /// [`Nats::ready`] returns, now or when it is called next.
    pub fn wake(&self) {
        self.0.taker.notify_one();
    }
}

/// What a connection has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// How often a connection was made.
    pub connects: u64,
    /// How often something was wrong that the log was told about.
    pub errors: u64,
    /// Bytes of messages, without what the protocol adds.
    pub bytes_received: u64,
    /// The same.
    pub bytes_sent: u64,
}

struct Reading {
    items: mpsc::Receiver<Item>,
    task: AbortHandle,
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// See the [module](self).
pub struct Nats {
    link: Arc<Link>,
    client: Client,
    runtime: Handle,
    subjects: Subjects,
    subscribers: Vec<(Channel, Subscriber)>,
    heard: VecDeque<Message<Payload>>,
    heard_bytes: usize,
    outgoing: mpsc::Sender<Outgoing>,
    log: Option<Log>,
    reading: Option<Reading>,
    /// The connection that the owner has been told of.
    told: Option<u64>,
    answers: Answers,
    /// What is in the log, and the owner was not told of.
    kept: VecDeque<u64>,
    /// The last mark before which everything has arrived.
    arrived: u64,
    /// The one that the owner has been told of.
    confirmed: u64,
    /// What comes before anything else.
    waiting: VecDeque<Event<Payload>>,
}

impl Nats {
    /// Begins to connect, for ever. To be called, as everything else, in the [runtime] of the
    /// thread that is to own it.
    ///
    /// # Errors
    /// If the settings cannot be used. A server that cannot be reached is no error.
    pub async fn connect(settings: Settings) -> anyhow::Result<Self> {
        let link = Arc::new(Link::default());
        let subjects = Subjects::new(&settings.cluster, &settings.node);
        let addresses = settings.urls.iter().map(|url| url.to_string().parse());
        let addresses = addresses.collect::<Result<Vec<ServerAddr>, _>>()?;
        let client = options(&settings, &link).connect(addresses).await?;
        let mut subscribers = Vec::new();
        for channel in &settings.channels {
            let subscriber = client.subscribe(subjects.to_hear(*channel)).await?;
            subscribers.push((*channel, subscriber));
        }
        let answers = Answers::subscribe(&client, subjects.stream()).await?;
        let log = settings.history.map(|max_age| {
            let (client, link) = (client.clone(), Arc::clone(&link));
            let (node, channels) = (&settings.node, &settings.channels);
            Log::new(client, link, subjects.clone(), node, max_age, channels)
        });
        let keeper = {
            let (client, greeting, log) = (client.clone(), subjects.greeting(), log.clone());
            let link = Arc::clone(&link);
            async move { link::keep(&link, client, greeting, log).await }
        };
        tokio::spawn(keeper);
        let (outgoing, from_owner) = mpsc::channel(PUBLISHED_MAX);
        let publisher = Publisher {
            link: Arc::clone(&link),
            client: client.clone(),
            greeting: subjects.greeting(),
            inbox: answers.inbox().clone(),
        };
        tokio::spawn(publisher.publish_all(from_owner));
        Ok(Self {
            link,
            client,
            runtime: Handle::current(),
            subjects,
            subscribers,
            heard: VecDeque::new(),
            heard_bytes: 0,
            outgoing,
            log,
            reading: None,
            told: None,
            answers,
            kept: VecDeque::new(),
            arrived: 0,
            confirmed: 0,
            waiting: VecDeque::new(),
        })
    }

    /// Returns when there is an event, or room for a message after one was given back, or when
    /// [woken](Waker), or after this time; and in the meantime, everything goes on.
    pub async fn ready(&mut self, within: Duration) {
        // A thread that always has something to do has to let the tasks work, too.
        yield_now().await;
        let link = Arc::clone(&self.link);
        let mut woken = pin!(link.taker.notified());
        let something = poll_fn(|context| {
            self.collect(context);
            let is_woken = woken.as_mut().poll(context).is_ready();
            if is_woken || self.has_room_again() || !self.heard.is_empty() {
                return Poll::Ready(());
            }
            self.poll_event(context)
                .map(|event| self.waiting.push_front(event))
        });
        // All that has come is taken, and not only as much as tasks should do at a time. There is
        // nobody to be told that time was up.
        let _ = timeout(within, unconstrained(something)).await;
    }

    /// Keeps a list as it is in its bucket, for ever.
    pub fn watch(&self, plan: ListPlan) {
        let watch = Watch::new(
            self.client.clone(),
            Arc::clone(&self.link),
            &self.subjects,
            plan,
        );
        self.runtime.spawn(watch.run());
    }

    /// Publishes announces, until it is told to come to an end.
    #[must_use]
    pub fn publish_announces(&self, plan: AnnouncePlan) -> AnnounceEnd {
        let (client, link) = (self.client.clone(), Arc::clone(&self.link));
        let _inside = self.runtime.enter();
        announces::publish(client, link, self.subjects.clone(), plan)
    }

    /// Wakes the owner, from any thread.
    #[must_use]
    pub fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.link))
    }

    /// Waits until the server has everything that was published, at most for this time. That is for
    /// the end: nobody is told what could not be sent.
    pub async fn finish(self, within: Duration) {
        let (done, wait) = oneshot::channel();
        let arrived = async {
            if self.is_connected() && self.outgoing.send(Outgoing::End(done)).await.is_ok() {
                let _ = wait.await;
            }
        };
        let _ = timeout(within, arrived).await;
    }

    /// What it has done so far.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let statistics = self.client.statistics();
        Totals {
            connects: statistics.connects.load(Relaxed),
            errors: self.link.errors.load(Relaxed),
            bytes_received: statistics.in_bytes.load(Relaxed),
            bytes_sent: statistics.out_bytes.load(Relaxed),
        }
    }

    /// The owner knows of the connection, and it is still there.
    fn is_connected(&self) -> bool {
        let is_known = self.told.is_some() && self.told == self.link.connection();
        is_known && self.client.connection_state() == State::Connected
    }

    fn has_room_again(&self) -> bool {
        let wants_room = &self.link.wants_room;
        wants_room.load(Relaxed) && self.outgoing.capacity() > 0 && wants_room.swap(false, Relaxed)
    }

    fn poll_event(&mut self, context: &mut task::Context<'_>) -> Poll<Event<Payload>> {
        if let Some(event) = self.waiting.pop_front() {
            return Poll::Ready(event);
        }
        let connection = self.link.connection();
        match self.told {
            Some(_) if self.told != connection => {
                self.told = None;
                if self.reading.take().is_some() {
                    let reason = "the connection was lost".to_owned();
                    self.waiting.push_back(Event::LogFailed(reason));
                }
                return Poll::Ready(Event::Disconnected);
            }
            None if connection.is_some() => {
                self.told = connection;
                return Poll::Ready(Event::Connected);
            }
            _ => {}
        }
        self.collect_answers(context);
        if self.arrived > self.confirmed {
            self.confirmed = self.arrived;
            return Poll::Ready(Event::Confirmed(self.confirmed));
        }
        if let Some(mark) = self.kept.pop_front() {
            return Poll::Ready(Event::Kept(mark));
        }
        let missed = self.link.take_missed();
        if missed > 0 {
            return Poll::Ready(Event::Missed(missed));
        }
        // What is heard comes first, since it is lost if there is too much of it.
        match self.take_heard() {
            Some(message) => Poll::Ready(Event::Heard(message)),
            None => self.poll_log(context),
        }
    }

    /// Takes what has come out of the subscriptions.
    fn collect(&mut self, context: &mut task::Context<'_>) {
        for (channel, subscriber) in &mut self.subscribers {
            while let Poll::Ready(Some(message)) = Pin::new(&mut *subscriber).poll_next(context) {
                // What stranger things are published under our subjects is nothing to us.
                let Some((_, node)) = self.subjects.parse(&message.subject) else {
                    continue;
                };
                let bytes = self.heard_bytes + weight(&message);
                if bytes > HEARD_BYTES_MAX {
                    self.link.miss();
                    continue;
                }
                self.heard_bytes = bytes;
                self.heard.push_back(Message {
                    channel: *channel,
                    node: node.to_owned(),
                    logged_millis_ago: None,
                    payload: Payload(message),
                });
            }
        }
    }

    fn collect_answers(&mut self, context: &mut task::Context<'_>) {
        while self.kept.len() < KEPT_MAX
            && let Poll::Ready(answer) = self.answers.poll(context, &self.link)
        {
            match answer {
                Answer::Kept(mark) => self.kept.push_back(mark),
                Answer::Arrived { connection, mark } => {
                    if connection == self.client.statistics().connects.load(Relaxed) {
                        self.arrived = self.arrived.max(mark);
                    }
                }
            }
        }
    }

    fn take_heard(&mut self) -> Option<Message<Payload>> {
        let message = self.heard.pop_front()?;
        self.heard_bytes -= weight(&message.payload.0);
        Some(message)
    }

    fn poll_log(&mut self, context: &mut task::Context<'_>) -> Poll<Event<Payload>> {
        let Some(reading) = &mut self.reading else {
            return Poll::Pending;
        };
        let Poll::Ready(item) = reading.items.poll_recv(context) else {
            return Poll::Pending;
        };
        let event = match item {
            Some(Item::Message(message)) => return Poll::Ready(Event::Logged(*message)),
            Some(Item::Read { age }) => Event::LogRead { age },
            Some(Item::Failed(reason)) => Event::LogFailed(reason),
            None => Event::LogFailed("the reader has ended".to_owned()),
        };
        self.reading = None;
        Poll::Ready(event)
    }
}

impl Bus for Nats {
    type Payload = Payload;

    fn publish(&mut self, to: &Destination, payload: Vec<u8>, mark: u64) -> Result<(), Vec<u8>> {
        if !self.is_connected() {
            return Err(payload);
        }
        let Some(subject) = self.subjects.to(to) else {
            log::debug!("there is no destination {to:?}");
            return Ok(());
        };
        let is_logged = matches!(to, Destination::All(channel) if channel.is_logged());
        let reply =
            (is_logged && self.log.is_some()).then(|| self.answers.inbox().for_message(mark));
        let message = Outgoing::Message {
            subject,
            reply,
            payload,
        };
        match self.outgoing.try_send(message) {
            Ok(()) => Ok(()),
            Err(error) => match error.into_inner() {
                Outgoing::Message { payload, .. } => {
                    self.link.wants_room.store(true, Relaxed);
                    Err(payload)
                }
                Outgoing::Mark(_) | Outgoing::End(_) => Ok(()),
            },
        }
    }

    fn confirm(&mut self, mark: u64) {
        // If there is no room, the next one will say more.
        let _ = self.outgoing.try_send(Outgoing::Mark(mark));
    }

    fn read_log(&mut self, since: Duration) {
        self.reading = None;
        let reason = match &self.log {
            Some(_) if !self.is_connected() => "there is no connection",
            None => "`cluster.history` is false",
            Some(log) => {
                let (sender, items) = mpsc::channel(READ_MAX);
                let task = self.runtime.spawn(log.clone().read(since, sender));
                let task = task.abort_handle();
                self.reading = Some(Reading { items, task });
                return;
            }
        };
        self.waiting.push_back(Event::LogFailed(reason.to_owned()));
    }

    fn next_event(&mut self) -> Option<Event<Payload>> {
        // `ready` sets another waker.
        let mut context = task::Context::from_waker(task::Waker::noop());
        match self.poll_event(&mut context) {
            Poll::Ready(event) => Some(event),
            Poll::Pending => None,
        }
    }
}

fn weight(message: &async_nats::Message) -> usize {
    message.payload.len() + MESSAGE_OVERHEAD
}

/// The next item of a stream.
async fn next_of<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    poll_fn(|context| Pin::new(&mut *stream).poll_next(context)).await
}

fn options(settings: &Settings, link: &Arc<Link>) -> ConnectOptions {
    let to_note_events = Arc::clone(link);
    let to_note_rounds = Arc::clone(link);
    let options = settings
        .credentials
        .options()
        .name(format!("aquatic {}", settings.node))
        .custom_inbox_prefix(format!("_INBOX_{}", settings.node))
        .no_echo()
        .subscription_capacity(TURN_MAX)
        .client_capacity(COMMANDS_MAX)
        .ping_interval(PING_INTERVAL)
        .retry_on_initial_connect()
        .max_reconnects(None)
        .reconnect_delay_callback(retry_delay)
        // A server tells of others before it is known who it is, and without TLS.
        .ignore_discovered_servers()
        .event_callback(move |event| {
            to_note_events.note(&event);
            async {}
        })
        .reconnect_to_server_callback(move |servers, _| {
            let chosen = to_note_rounds.choose(&servers);
            async { chosen }
        });
    match &settings.tls {
        Some(tls) => options.tls_client_config(tls.clone()),
        None => options,
    }
}

/// How long to wait before the attempt of this number, from 1: longer and longer, and not as long
/// as others do.
fn retry_delay(attempt: usize) -> Duration {
    let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
    let longest = RETRY_MIN.saturating_mul(2_u32.saturating_pow(doublings));
    longest.min(RETRY_MAX).mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_come_at_once_and_then_seldom() {
        for _ in 0..100 {
            assert!(retry_delay(1) <= RETRY_MIN && retry_delay(1) >= RETRY_MIN / 2);
            for attempt in [10, 1_000, usize::MAX] {
                let delay = retry_delay(attempt);
                assert!(delay <= RETRY_MAX && delay >= RETRY_MAX / 2, "{delay:?}");
            }
        }
    }
}

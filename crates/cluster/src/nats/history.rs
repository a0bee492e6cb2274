//! The log: a stream of JetStream in which the servers keep what was published.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::{ErrorCode, stream};
use tokio::sync::{Mutex, Notify, OwnedMutexGuard};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::link::{About, Area, Link};
use super::requests::{NO_JETSTREAM, NotMade, Requests};
use super::subjects::{Subjects, is_covered};
use crate::bus::Channel;

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
    pub(super) requests: Requests,
    link: Arc<Link>,
    pub(super) subjects: Subjects,
    pub(super) node: String,
    max_age: Duration,
    /// The channel that is read, if it is one only.
    pub(super) channel: Option<Channel>,
    /// Held while the stream is looked for or made, which comes before reading.
    pub(super) preparation: Arc<Mutex<()>>,
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
                "the NATS servers have no log of what is published now (`cluster.history`); until \
                 they have, swarms are not complete for some time after a start: {reason}"
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
}

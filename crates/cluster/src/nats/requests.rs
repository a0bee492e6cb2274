//! Questions to JetStream, which the servers may refuse or never answer.

use std::future::{Future, IntoFuture, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::context::{Context, ContextBuilder};
use async_nats::jetstream::response::Response;
use async_nats::jetstream::{ErrorCode, stream};

use super::link::{Area, Link};

/// How long an answer of JetStream is waited for, and the next message.
pub(super) const WAIT: Duration = Duration::from_secs(5);

/// Copies of a stream, each at another server: it is there while most of these are.
const COPIES: usize = 3;

/// Servers that have just been started find each other before they make a stream in so many copies.
/// After some attempts, one copy is better than none.
const ATTEMPTS_AT_COPIES: u32 = 7;

/// What is said of servers without it.
pub(super) const NO_JETSTREAM: &str = "the servers have no JetStream, or not for this user";

/// Asks JetStream about one area.
#[derive(Clone, Debug)]
pub(super) struct Requests {
    context: Context,
    link: Arc<Link>,
    area: Area,
    /// Attempts for which there were too few servers.
    attempts: Arc<AtomicU32>,
}

/// There is no stream.
#[derive(Debug)]
pub(super) struct NotMade {
    /// There are fewer servers than copies, perhaps not yet all of them.
    pub(super) lacks_servers: bool,
    pub(super) reason: String,
}

impl From<String> for NotMade {
    fn from(reason: String) -> Self {
        Self {
            lacks_servers: false,
            reason,
        }
    }
}

impl Requests {
    pub(super) fn new(client: Client, link: Arc<Link>, area: Area) -> Self {
        Self {
            context: ContextBuilder::new().timeout(WAIT).build(client),
            link,
            area,
            attempts: Arc::default(),
        }
    }

    pub(super) fn context(&self) -> &Context {
        &self.context
    }

    /// There is another connection: servers may have just been started.
    pub(super) fn reset(&self) {
        self.attempts.store(0, Ordering::Relaxed);
    }

    /// What was refused before is not about what follows.
    pub(super) fn begin(&self) {
        self.link.take_refusal(self.area);
    }

    /// Asks what a stream is.
    pub(super) async fn find(&self, stream: &str) -> Result<Response<stream::Info>, String> {
        let subject = format!("STREAM.INFO.{stream}");
        self.answer(self.context.request(subject, &())).await
    }

    /// Makes a stream that is not there, in as many copies as there may be, and says so in the log:
    /// `what` it is. Another tracker may be faster.
    pub(super) async fn make(&self, mut config: stream::Config, what: &str) -> Result<(), NotMade> {
        config.num_replicas = COPIES;
        let mut code = self.make_as_it_is(&config, what).await?;
        let has_patience = || self.attempts.fetch_add(1, Ordering::Relaxed) < ATTEMPTS_AT_COPIES;
        let is_alone = |code: &(ErrorCode, String)| match code.0 {
            ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED => true,
            ErrorCode::CLUSTER_NO_PEERS => !has_patience(),
            _ => false,
        };
        if code.as_ref().is_some_and(is_alone) {
            config.num_replicas = 1;
            code = self.make_as_it_is(&config, what).await?;
        }
        match code {
            None | Some((ErrorCode::STREAM_NAME_EXIST, _)) => Ok(()),
            Some((code, reason)) => Err(NotMade {
                lacks_servers: code == ErrorCode::CLUSTER_NO_PEERS,
                reason: format!("the stream {} cannot be made: {reason}", config.name),
            }),
        }
    }

    /// Returns why it was not made, if it was not.
    async fn make_as_it_is(
        &self,
        config: &stream::Config,
        what: &str,
    ) -> Result<Option<(ErrorCode, String)>, String> {
        let (name, copies) = (&config.name, config.num_replicas);
        let subject = format!("STREAM.CREATE.{name}");
        match self.answer(self.context.request(subject, config)).await? {
            Response::Ok::<stream::Info>(_) if copies > 1 => {
                log::info!(
                    "made the stream {name} in the NATS servers, in {copies} copies: {what}"
                );
                Ok(None)
            }
            Response::Ok(_) => {
                log::info!(
                    "made the stream {name} in the NATS servers, in one copy: {what}. With three \
                     servers or more: nats stream edit {name} --replicas={COPIES}"
                );
                Ok(None)
            }
            Response::Err { error } => Ok(Some((error.error_code(), error.to_string()))),
        }
    }

    /// What comes of this, unless the server refuses it.
    pub(super) async fn unless_refused<F: Future>(&self, work: F) -> Result<F::Output, String> {
        if let Some(reason) = self.link.is_mute() {
            return Err(reason);
        }
        let refused = self.link.refused(self.area).notified();
        let (mut work, mut refused) = (pin!(work), pin!(refused));
        poll_fn(|context| {
            if let Poll::Ready(done) = work.as_mut().poll(context) {
                return Poll::Ready(Ok(done));
            }
            let refused = refused.as_mut().poll(context);
            refused.map(|()| Err(self.silence()))
        })
        .await
    }

    pub(super) async fn answer<T, E: std::error::Error>(
        &self,
        request: impl IntoFuture<Output = Result<T, E>>,
    ) -> Result<T, String> {
        let answer = self.unless_refused(request.into_future()).await?;
        answer.map_err(|error| self.reason(&error))
    }

    /// Why there is no answer.
    pub(super) fn silence(&self) -> String {
        let refusal = self.link.take_refusal(self.area);
        refusal.unwrap_or_else(|| format!("no answer within {} s", WAIT.as_secs()))
    }

    /// What an error of the library means.
    pub(super) fn reason(&self, error: &dyn std::error::Error) -> String {
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

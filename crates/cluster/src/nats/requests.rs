//! Questions to JetStream, which the servers may refuse or never answer.

use std::future::{Future, IntoFuture, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::context::{Context, ContextBuilder};
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream;

use super::link::{Area, Link};

/// How long an answer of JetStream is waited for, and the next message.
pub(super) const WAIT: Duration = Duration::from_secs(5);

/// Asks JetStream about one area.
#[derive(Clone, Debug)]
pub(super) struct Requests {
    context: Context,
    link: Arc<Link>,
    area: Area,
}

impl Requests {
    pub(super) fn new(client: Client, link: Arc<Link>, area: Area) -> Self {
        Self {
            context: ContextBuilder::new().timeout(WAIT).build(client),
            link,
            area,
        }
    }

    pub(super) fn context(&self) -> &Context {
        &self.context
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

    /// Makes a stream.
    pub(super) async fn make(
        &self,
        config: &stream::Config,
    ) -> Result<Response<stream::Info>, String> {
        let subject = format!("STREAM.CREATE.{}", config.name);
        self.answer(self.context.request(subject, config)).await
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
            "the servers have no JetStream, or not for this user".to_owned()
        } else if text.contains("timed out") {
            self.silence()
        } else {
            text
        }
    }
}

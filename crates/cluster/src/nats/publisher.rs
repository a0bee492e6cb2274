//! Publishes what the owner of a [`Nats`](super::Nats) gives it, in order.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use async_nats::{Client, PublishErrorKind};
use tokio::sync::{mpsc, oneshot};

use super::answers::Inbox;
use super::link::{self, About, Link};

/// What there is to be published.
pub(super) enum Outgoing {
    Message {
        subject: String,
        /// Where the log is to answer.
        reply: Option<String>,
        payload: Vec<u8>,
    },
    /// Asks whether all messages before it have arrived.
    Mark(u64),
    /// All messages have been before it.
    End(oneshot::Sender<()>),
}

/// See the [module](self).
pub(super) struct Publisher {
    pub(super) link: Arc<Link>,
    pub(super) client: Client,
    pub(super) greeting: String,
    pub(super) inbox: Inbox,
}

impl Publisher {
    /// Takes messages for ever.
    pub(super) async fn publish_all(self, mut messages: mpsc::Receiver<Outgoing>) {
        while let Some(message) = messages.recv().await {
            if self.link.wants_room.load(Relaxed) {
                self.link.taker.notify_one();
            }
            match message {
                Outgoing::Message {
                    subject,
                    reply,
                    payload,
                } => self.publish(subject, reply, payload).await,
                Outgoing::Mark(mark) => self.ask(mark).await,
                Outgoing::End(done) => {
                    let _ = self.client.flush().await;
                    // What is on its way can still be lost: a connection that is closed while
                    // something was not read yet is reset.
                    if self.link.is_mute().is_none() {
                        link::greet(&self.client, &self.greeting).await;
                    }
                    let _ = done.send(());
                }
            }
        }
    }

    async fn publish(&self, subject: String, reply: Option<String>, payload: Vec<u8>) {
        let payload = payload.into();
        let published = match reply {
            Some(reply) => {
                self.client
                    .publish_with_reply(subject, reply, payload)
                    .await
            }
            None => self.client.publish(subject, payload).await,
        };
        if let Err(error) = published
            && error.kind() == PublishErrorKind::MaxPayloadExceeded
        {
            let text = format!(
                "a message is too large for the NATS server, and lost (`max_payload` in its \
                 configuration): {error}"
            );
            self.link.tell_reason(About::Size, "too large", &text);
        }
    }

    /// Asks the server, which answers in order, whether it has what was published before: nobody
    /// listens, which it says.
    async fn ask(&self, mark: u64) {
        let connection = self.client.statistics().connects.load(Relaxed);
        let reply = self.inbox.for_question(connection, mark);
        let (subject, nothing) = (self.greeting.clone(), Vec::new().into());
        // There will be no answer otherwise.
        let _ = self
            .client
            .publish_with_reply(subject, reply, nothing)
            .await;
    }
}

//! What servers answer to what was published: that it is in the log, or that everything before it
//! has arrived.
//!
//! The library could be asked for each answer. It would remember for ever each that does not come.

use std::pin::Pin;
use std::task::{self, Poll};

use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::response::Response;
use async_nats::{Client, Message, SubscribeError, Subscriber};
use futures_core::Stream;

use super::link::{About, Link};

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The log has the message with this mark.
    Kept(u64),
    /// What was published before the question with this mark has arrived, if it was in this
    /// connection: on another one the question may have come through alone.
    Arrived { connection: u64, mark: u64 },
}

/// Where answers are to go: a subject of this node only.
#[derive(Clone, Debug)]
pub(super) struct Inbox(String);

impl Inbox {
    /// About whether this message is kept.
    pub(super) fn for_message(&self, mark: u64) -> String {
        format!("{}.{mark}", self.0)
    }

    /// About whether everything before has arrived.
    pub(super) fn for_question(&self, connection: u64, mark: u64) -> String {
        format!("{}.{connection}.{mark}", self.0)
    }

    /// `None` if it is not an answer to be expected, or says that a message is not kept. A server
    /// to whom nobody listens answers, too.
    fn parse(&self, message: &Message, stream: &str, link: &Link) -> Option<Answer> {
        let numbers = message.subject.strip_prefix(&self.0)?.strip_prefix('.')?;
        if let Some((connection, mark)) = numbers.split_once('.') {
            let (connection, mark) = (connection.parse().ok()?, mark.parse().ok()?);
            return Some(Answer::Arrived { connection, mark });
        }
        let mark = numbers.parse().ok()?;
        match serde_json::from_slice(&message.payload).ok()? {
            // Others may keep the same for purposes of their own.
            Response::Ok(PublishAck { stream: by, .. }) => {
                (by == stream).then_some(Answer::Kept(mark))
            }
            Response::Err { error } => {
                let text = format!(
                    "the stream {stream} in the NATS servers does not take what is published, so \
                     that swarms are not complete after a start for some time: {error}"
                );
                link.tell(About::Keeping, &text);
                None
            }
        }
    }
}

/// Answers that have come.
pub(super) struct Answers {
    inbox: Inbox,
    subscriber: Subscriber,
    stream: String,
}

impl Answers {
    /// `stream` is the log.
    pub(super) async fn subscribe(client: &Client, stream: String) -> Result<Self, SubscribeError> {
        let inbox = client.new_inbox();
        let subscriber = client.subscribe(format!("{inbox}.>")).await?;
        Ok(Self {
            inbox: Inbox(inbox),
            subscriber,
            stream,
        })
    }

    pub(super) fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// The next one.
    pub(super) fn poll(&mut self, context: &mut task::Context<'_>, link: &Link) -> Poll<Answer> {
        while let Poll::Ready(Some(message)) = Pin::new(&mut self.subscriber).poll_next(context) {
            if let Some(answer) = self.inbox.parse(&message, &self.stream, link) {
                return Poll::Ready(answer);
            }
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(subject: &str, payload: &str) -> Option<Answer> {
        let message = Message {
            subject: subject.into(),
            reply: None,
            payload: payload.to_owned().into(),
            headers: None,
            status: None,
            description: None,
            length: payload.len(),
        };
        let inbox = Inbox("_INBOX_a.b".to_owned());
        inbox.parse(&message, "AQUATIC_main", &Link::default())
    }

    #[test]
    fn an_answer_names_what_it_is_about() {
        let inbox = Inbox("_INBOX_a.b".to_owned());
        let kept = r#"{"stream":"AQUATIC_main","seq":7}"#;
        assert_eq!(parsed(&inbox.for_message(5), kept), Some(Answer::Kept(5)));
        assert_eq!(
            parsed(&inbox.for_question(3, 5), ""),
            Some(Answer::Arrived {
                connection: 3,
                mark: 5
            })
        );
    }

    #[test]
    fn what_says_something_else_is_no_answer() {
        let kept = r#"{"stream":"AQUATIC_main","seq":7}"#;
        for (subject, payload) in [
            ("_INBOX_a.b.5", r#"{"stream":"MIRROR","seq":7}"#),
            (
                "_INBOX_a.b.5",
                r#"{"error":{"code":503,"err_code":10077,"description":"maximum messages"}}"#,
            ),
            ("_INBOX_a.b.5", ""),
            ("_INBOX_a.b.5", "+ACK"),
            ("_INBOX_a.b.x", kept),
            ("_INBOX_a.b.1.2.3", kept),
            ("_INBOX_a.b", kept),
            ("_INBOX_a.c.5", kept),
            ("_INBOX_a.b.18446744073709551616", kept),
        ] {
            assert_eq!(parsed(subject, payload), None, "{subject} {payload}");
        }
    }
}

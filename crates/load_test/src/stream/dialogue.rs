//! What is said on a connection: the part of a tester that knows its protocol.

use fastrand::Rng;

use crate::core::kind::{Mix, RequestKind};
use crate::core::tally::Tally;

/// What a client asks, and what it hears, on one connection after the other. No I/O, no clock.
pub trait Dialogue: Sized + Send + 'static {
    /// Writes the requests of a worker's clients.
    type Writer: Clone + Send + 'static;

    /// Whether the tracker may say something that nobody has asked for, so that there is always
    /// something to come.
    const IS_PUSHED: bool;

    /// Appends a request to what is sent.
    fn ask(&mut self, shared: &mut Shared<Self>, kind: RequestKind, due_micros: u64);

    /// A connection is established: appends what has to be said before any request.
    fn greet(&mut self, _shared: &mut Shared<Self>) {}

    /// Whether the greeting was answered, so that requests may be sent.
    fn is_greeted(&self) -> bool {
        true
    }

    /// Judges what has come. Gives back how many requests were answered. What is to be sent at once
    /// is appended.
    ///
    /// # Errors
    /// If it is no answer. The connection is of no more use.
    fn receive(
        &mut self,
        shared: &mut Shared<Self>,
        now_micros: u64,
        bytes: &[u8],
    ) -> Result<usize, ProtocolError>;

    /// The tracker has closed the connection, which may be how an answer ends.
    fn ended(&mut self, _shared: &mut Shared<Self>, _now_micros: u64) {}

    /// What is not answered is lost; the next connection may begin.
    fn give_up(&mut self, shared: &mut Shared<Self>);

    /// How many requests wait.
    fn waiting(&self) -> usize;

    /// When the oldest request that waits was due, in microseconds.
    fn oldest_micros(&self) -> Option<u64>;

    /// Whether another request may be sent: the last answer did not say that it is the last.
    fn stays_open(&self) -> bool {
        true
    }

    /// Whether nothing more will come unless something is asked, so that the tracker may close the
    /// connection now.
    fn is_settled(&self) -> bool {
        !Self::IS_PUSHED && self.waiting() == 0
    }
}

/// What the dialogues of one worker share.
#[derive(Debug)]
pub struct Shared<D: Dialogue> {
    /// Writes requests.
    pub writer: D::Writer,
    /// Which kinds of requests are drawn how often.
    pub mix: Mix,
    /// What is drawn by lot.
    pub rng: Rng,
    /// What is counted.
    pub tally: Tally,
    /// What a connection sends next.
    pub out: Vec<u8>,
}

/// Bytes came that are no answer: nothing that follows can be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProtocolError;

/// Has `take` look at what has come, behind what it has left before (`kept`), and keeps what it
/// leaves now: it gives back how many bytes it took.
///
/// # Errors
/// Those of `take`.
pub fn take_whole(
    kept: &mut Vec<u8>,
    bytes: &[u8],
    take: impl FnOnce(&[u8]) -> Result<usize, ProtocolError>,
) -> Result<(), ProtocolError> {
    if kept.is_empty() {
        // By far the most common: whole messages, which need not be copied.
        let taken = take(bytes)?;
        kept.extend_from_slice(&bytes[taken..]);
    } else {
        kept.extend_from_slice(bytes);
        let taken = take(kept)?;
        kept.drain(..taken);
    }
    Ok(())
}

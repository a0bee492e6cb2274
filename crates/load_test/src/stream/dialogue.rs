//! What is said on a connection: the part of a tester that knows its protocol.

use fastrand::Rng;

use crate::core::kind::Kind;
use crate::stream::kinds::Tally;

/// What a client asks, and what it hears, on one connection after the other. No I/O, no clock.
pub trait Dialogue: Sized + Send + 'static {
    /// Kinds of requests.
    type Request: Kind + Send;
    /// Writes the requests of a worker's clients.
    type Writer: Clone + Send + 'static;

    /// What an idle connection asks, once.
    const ANNOUNCE: Self::Request;

    /// Draws what is to be asked.
    fn sample(writer: &Self::Writer, rng: &mut Rng) -> Self::Request;

    /// Appends a request to what is sent.
    fn ask(&mut self, shared: &mut Shared<Self>, kind: Self::Request, due_micros: u64);

    /// A connection is established: appends what has to be said before any request.
    fn greet(&mut self, shared: &mut Shared<Self>);

    /// Whether the greeting was answered, so that requests may be sent.
    fn is_greeted(&self) -> bool;

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

    /// The tracker has closed the connection: what is not answered by now is lost, and the next
    /// connection may begin. Gives back whether it might do so: nothing was to come.
    fn ended(&mut self, shared: &mut Shared<Self>, now_micros: u64) -> bool;

    /// What is not answered is lost; the next connection may begin.
    fn give_up(&mut self, shared: &mut Shared<Self>);

    /// How many requests wait.
    fn waiting(&self) -> usize;

    /// When the oldest request that waits was due, in microseconds.
    fn oldest_micros(&self) -> Option<u64>;

    /// Whether another request may be sent: the last answer did not say that it is the last.
    fn stays_open(&self) -> bool;

    /// Whether the tracker may close the connection now, since nothing is to come.
    fn may_end(&self) -> bool;

    /// Whether nothing more will come unless something is asked.
    fn is_settled(&self) -> bool;
}

/// What the dialogues of one worker share.
#[derive(Debug)]
pub struct Shared<D: Dialogue> {
    /// Writes requests.
    pub writer: D::Writer,
    /// What is drawn by lot.
    pub rng: Rng,
    /// What is counted.
    pub tally: Tally<D::Request>,
    /// What a connection sends next.
    pub out: Vec<u8>,
}

/// Bytes came that are no answer: nothing that follows can be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProtocolError;

//! What the event loops have in common: how long they wait for what, and where their sockets are.

use std::time::Duration;

use aquatic_daemon::clock::Now;

use crate::handler::{ConnectionKey, Handler};
use crate::hub::Hub;
use crate::memory::KernelBytes;

/// Events that a round takes from the system at most.
pub(crate) const EVENTS_PER_ROUND: usize = 256;

/// So many events are a batch: there is no need to wait for more.
pub(crate) const BATCH_EVENTS: usize = EVENTS_PER_ROUND / 8;

/// Connections that are accepted from one listener before others have their turn.
pub(crate) const ACCEPTS_PER_TURN: usize = 64;

/// How long nothing is accepted after that has failed, for want of files, say.
pub(crate) const ACCEPT_PAUSE_MICROS: u64 = 100_000;

/// How long an idle worker sleeps before it looks after deadlines.
pub(crate) const SLEEP_MAX: Duration = Duration::from_millis(100);

/// How long it sleeps while its connections end.
pub(crate) const STOP_ROUND: Duration = Duration::from_millis(2);

/// The sockets of a worker, by the slots of their connections' names.
pub(crate) struct Sockets<T>(Vec<Option<(ConnectionKey, T)>>);

impl<T> Sockets<T> {
    pub(crate) fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds the socket of a connection that the hub has accepted.
    pub(crate) fn insert(&mut self, key: ConnectionKey, socket: T) {
        let slot = key.index();
        if slot >= self.0.len() {
            self.0.resize_with(slot + 1, || None);
        }
        if let Some(place) = self.0.get_mut(slot) {
            *place = Some((key, socket));
        }
    }

    /// The socket of a connection. `None`: it has gone.
    pub(crate) fn get(&mut self, key: ConnectionKey) -> Option<&mut T> {
        let (known, socket) = self.0.get_mut(key.index())?.as_mut()?;
        if *known != key {
            return None;
        }
        Some(socket)
    }

    /// The socket in a slot, with the name of its connection.
    pub(crate) fn at(&mut self, slot: usize) -> Option<&mut (ConnectionKey, T)> {
        self.0.get_mut(slot)?.as_mut()
    }

    /// Takes the socket of a connection out that the hub has told to close.
    pub(crate) fn remove(&mut self, key: ConnectionKey) -> Option<T> {
        let (_, socket) = self.0.get_mut(key.index())?.take()?;
        Some(socket)
    }

    /// Tells the hub what the kernel holds, as far as it has to know.
    pub(crate) fn ask_kernel<H: Handler>(
        &mut self,
        now: Now,
        hub: &mut Hub<H>,
        ask: impl Fn(&T) -> Option<KernelBytes>,
    ) {
        while let Some(key) = hub.next_unknown(now) {
            if let Some(kernel) = self.get(key).and_then(|socket| ask(socket)) {
                hub.kernel_holds(now, key, kernel);
            }
        }
    }
}

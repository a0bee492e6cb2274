//! Does what clients of an endpoint ask for, apart from the thread that talks to them.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};

use mio::Waker;

use super::response::Response;
use super::routes::{Actions, Job};
use crate::heartbeat;

/// Something to do. Each connection waits for one at most, so there are few.
pub(super) struct Todo {
    /// Which connection waits for the answer.
    pub(super) place: usize,
    pub(super) serial: u64,
    pub(super) job: Job,
}

/// It is done.
pub(super) struct Done {
    pub(super) place: usize,
    pub(super) serial: u64,
    pub(super) response: Response,
}

/// To be run by a thread of its own.
pub struct ActionWorker {
    actions: Actions,
    todos: Receiver<Todo>,
    dones: Sender<Done>,
    waker: Arc<Waker>,
}

impl ActionWorker {
    pub(super) fn new(
        actions: Actions,
        todos: Receiver<Todo>,
        dones: Sender<Done>,
        waker: Arc<Waker>,
    ) -> Self {
        Self {
            actions,
            todos,
            dones,
            waker,
        }
    }

    /// Does one after the other, for as long as the endpoint lives.
    ///
    /// # Errors
    /// If the endpoint cannot be woken.
    pub fn run(mut self) -> anyhow::Result<()> {
        loop {
            heartbeat::beat();
            let todo = match self.todos.recv_timeout(heartbeat::INTERVAL) {
                Ok(todo) => todo,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            let Todo { place, serial, job } = todo;
            // It may read a file that does not come, which has a limit of its own.
            let response = heartbeat::outside(|| self.actions.run(job));
            let done = Done {
                place,
                serial,
                response,
            };
            if self.dones.send(done).is_ok() {
                self.waker.wake()?;
            }
        }
    }
}

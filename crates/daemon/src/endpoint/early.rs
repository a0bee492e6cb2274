//! An endpoint before it has its pages: it says that the daemon is not ready.

use std::cell::RefCell;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SendError, sync_channel};
use std::thread::{self, JoinHandle};

use mio::Waker;

use super::server::Server;

/// A server that can be had back from the thread that runs it meanwhile. That thread must not be
/// there when the process enters the sandbox, which holds only for threads that it knows of.
#[derive(Debug)]
pub(crate) struct EarlyServer(RefCell<State>);

#[derive(Debug)]
enum State {
    Waiting(Box<Server>),
    Serving {
        is_over: Arc<AtomicBool>,
        waker: Arc<Waker>,
        thread: JoinHandle<Option<Box<Server>>>,
    },
    /// The thread has panicked.
    Gone,
}

impl EarlyServer {
    pub(crate) fn new(server: Server) -> Self {
        Self(RefCell::new(State::Waiting(Box::new(server))))
    }

    /// Serves in a thread. If there is none to be had, whoever asks waits for the end of the start,
    /// as the log says then; the server is kept for that.
    pub(crate) fn resume(&self) {
        self.resume_in(thread::Builder::new().name("early".to_owned()));
    }

    fn resume_in(&self, builder: thread::Builder) {
        let mut state = self.0.borrow_mut();
        let server = match mem::replace(&mut *state, State::Gone) {
            State::Waiting(server) => server,
            other => {
                *state = other;
                return;
            }
        };
        let is_over = Arc::<AtomicBool>::default();
        let waker = server.waker();
        let is_over_for_thread = Arc::clone(&is_over);
        // What a thread that cannot be started was given is lost, so it is given afterwards.
        let (give, take) = sync_channel::<Box<Server>>(1);
        let thread = builder.spawn(move || {
            let mut server = take.recv().ok()?;
            if let Err(error) = server.serve_until(&is_over_for_thread) {
                tell_of_delay(&error);
            }
            Some(server)
        });
        *state = match thread {
            Ok(thread) => match give.send(server) {
                Ok(()) => State::Serving {
                    is_over,
                    waker,
                    thread,
                },
                Err(SendError(server)) => State::Waiting(server),
            },
            Err(error) => {
                tell_of_delay(&error.into());
                State::Waiting(server)
            }
        };
    }

    /// Ends the thread.
    pub(crate) fn pause(&self) {
        let mut state = self.0.borrow_mut();
        *state = match mem::replace(&mut *state, State::Gone) {
            State::Serving {
                is_over,
                waker,
                thread,
            } => {
                is_over.store(true, Ordering::Release);
                // If this fails, the thread ends a little later.
                let _ = waker.wake();
                let server = thread.join().ok().flatten();
                server.map_or(State::Gone, State::Waiting)
            }
            other => other,
        };
    }

    /// The server itself, unless its thread is lost.
    pub(crate) fn into_server(self) -> Option<Server> {
        self.pause();
        match self.0.replace(State::Gone) {
            State::Waiting(server) => Some(*server),
            State::Serving { .. } | State::Gone => None,
        }
    }
}

impl Drop for EarlyServer {
    fn drop(&mut self) {
        self.pause();
    }
}

fn tell_of_delay(error: &anyhow::Error) {
    log::warn!("the endpoint answers only when the start is over: {error:#}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_thread_the_server_is_kept() {
        let server = Server::bind(Some(([127, 0, 0, 1], 0).into()), None).unwrap();
        let address = server.address().unwrap();
        let early = EarlyServer::new(server);
        // No machine has as much memory.
        early.resume_in(thread::Builder::new().stack_size(1 << 60));
        assert!(matches!(*early.0.borrow(), State::Waiting(_)));
        early.resume();
        early.resume();
        assert!(matches!(*early.0.borrow(), State::Serving { .. }));
        early.pause();
        let server = early.into_server().unwrap();
        assert_eq!(server.address().unwrap(), address);
    }
}

//! A small HTTP server for the operator: metrics, and whatever else is not for the public.
//!
//! One thread serves a table of [`Routes`]. It holds few connections, each with deadlines, so that
//! whoever can reach the address cannot take the files, the memory or the time that the tracker
//! needs for its clients; and a connection that asks for nothing makes room for one that does.
//!
//! ```text
//!             accept, bytes               a request               a response
//!  listener ─────────────────▶ Connection ─────────▶ Routes ─▶ handler ─────────▶ bytes
//!  (mio)                       (pure)
//! ```
//!
//! HTTP/1.1 with connections that stay open. Pages are read (GET, HEAD), and answered at once.
//! Actions change something (POST): they need the operator's [`Token`], their bodies are bounded,
//! and a thread of their own does them, so that whoever reads pages does not wait for them. Not
//! done here: TLS, and chunked bodies.

mod action_worker;
mod connection;
mod early;
mod guard;
mod head;
mod health;
mod request;
mod response;
mod routes;
mod server;
mod stream;
mod token;
mod unix_socket;

pub(crate) use early::EarlyServer;
pub(crate) use health::{HEALTH_PATH, READY, health};

pub use action_worker::ActionWorker;
pub use guard::Guard;
pub use request::{Post, Request};
pub use response::Response;
pub use routes::{BODY_BYTES_MAX, Routes};
pub use server::Server;
pub use token::Token;
pub use unix_socket::{SocketFile, UnixSocket};

/// What a connection is answered that sends these pieces, and takes all that comes. For the fuzz
/// target, which has no sockets.
#[cfg(fuzzing)]
#[must_use]
pub fn answers<'a>(routes: &mut Routes, pieces: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let now = std::time::Duration::ZERO;
    let mut connection = connection::Connection::new(now);
    let mut answers = Vec::new();
    let mut actions = routes.take_actions();
    for piece in pieces {
        for piece in piece.chunks(connection::HEAD_BYTES_MAX) {
            connection.receive(now, piece);
            // Requests that came together are answered one after the other.
            loop {
                connection.answer(now, routes);
                if let Some(job) = connection.take_job() {
                    connection.complete(now, &actions.run(job));
                }
                let bytes = connection.output().len();
                if bytes == 0 {
                    break;
                }
                answers.extend_from_slice(connection.output());
                connection.sent(now, bytes);
            }
        }
    }
    answers
}

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
//! HTTP/1.1 with connections that stay open, GET and HEAD. Not done here: TLS, passwords and
//! request bodies.

mod connection;
mod routes;
mod server;

pub use routes::{Response, Routes};
pub use server::Listener;

/// What a connection is answered that sends these pieces, and takes all that comes. For the fuzz
/// target, which has no sockets.
#[cfg(fuzzing)]
#[must_use]
pub fn answers<'a>(routes: &mut Routes, pieces: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let now = std::time::Duration::ZERO;
    let mut connection = connection::Connection::new(now);
    let mut answers = Vec::new();
    for piece in pieces {
        for piece in piece.chunks(connection::HEAD_BYTES_MAX) {
            connection.receive(now, piece);
            // Requests that came together are answered one after the other.
            loop {
                connection.answer(now, routes);
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

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

pub use routes::{Method, Request, Response, Routes};
pub use server::Listener;

//! The bus against real servers (`nats-server`), as its owner sees it.
//!
//! Without that program nothing is tested, and said so; under CI (`CI=true`) that is a failure,
//! since a test that nobody sees skipped is no test.

#![forbid(unsafe_code)]

mod announces;
mod connections;
mod credentials;
mod lines;
mod lists;
mod log;
mod node;
mod permissions;
mod sandbox;
mod speed;
mod tls;

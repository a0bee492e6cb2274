//! Encryption: certificates and keys that can be exchanged while the daemon runs, and the encrypted
//! side of a connection.

mod config;
mod expiry;
mod stream;

pub(crate) use config::TlsAcceptor;
pub use config::{TlsConfig, TlsError};
pub(crate) use stream::TlsStream;

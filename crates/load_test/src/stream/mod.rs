//! What load testers over TCP and TLS have in common: many clients, each with one connection after
//! the other, the events of those connections, and the two ways of putting load on a tracker.
//!
//! A tester brings a [`Dialogue`]: what is asked and answered on a connection, as bytes. It gets
//! back what was counted.
//!
//! ```text
//!  the tester ── Plan ──▶ run ── starts workers, watches the time and the processes
//!                                  │
//!            load (or idle): what to send, and when
//!                                  │
//!  worker ◀── events ── client ── Dialogue (the tester's)
//!                         └── transport ◀── bytes ──▶ tracker
//!                                 └ tls
//! ```
//!
//! There are two ways of putting load on a tracker (`rate_per_second`): *at its own pace*, each
//! connection keeping some requests waiting, which shows how much it can do; and *at a fixed rate*,
//! whether answers come or not, which shows how long strangers would wait. In the second way a
//! request's latency counts from the time at which it was due, even if it had to wait for a
//! connection. A third way (`[idle]`) opens connections that announce once and are kept, to see how
//! much memory that takes.
//!
//! | module | contents |
//! |---|---|
//! | [`config`] | the keys that these testers have in common |
//! | [`dialogue`] | what a tester brings |
//! | [`run`] | from a [`Plan`] to what was counted |
//! | [`report`] | what is printed of idle connections |
//! | `client` | one connection after the other, from one address |
//! | `client_options` | what all clients go by |
//! | [`tls`] | a client that trusts everybody |
//! | `transport` | a connection as bytes |
//! | `worker` | one thread's clients and their events |
//! | `load`, `idle` | what to send, and when |

mod client;
mod client_options;
pub mod config;
pub mod dialogue;
mod idle;
mod load;
pub mod report;
pub mod run;
pub mod tls;
mod transport;
mod worker;

pub use dialogue::{Dialogue, ProtocolError, Shared, take_whole};
pub use run::{Loaded, Plan};

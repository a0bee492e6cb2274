//! The mailbox between workers: bounded rings of batches, and wake-ups that cost nothing while
//! the other side is awake.
//!
//! A worker that has requests for another one's shard fills a *batch*, sends it, and later gets
//! the very same batch back with the answers in it. So a ring operation is paid once per batch,
//! an answer of any size is written in place and never copied, and the buffers of a batch are
//! reused for ever.
//!
//! ```text
//!   requester                                       responder
//!   ─────────                                       ─────────
//!   take_free() ─ fill ─ send ───── wake ──────────▶ receive ── answer in place
//!      ▲                                                            │
//!   recycle ◀── use answers ── receive ◀───── wake ──────────────── answer
//! ```
//!
//! **Bound.** An [`exchange`] owns a fixed number of batches, and each of its two rings has room
//! for all of them. So neither direction can ever be full: the only thing that can run out is
//! free batches, on the requester's side, and then the requester drops (and counts) instead of
//! waiting. No one ever blocks on a ring.
//!
//! **Wake-ups.** Waking a sleeping thread costs more than a whole request, so it is avoided
//! twice. [`Waker::wake`] makes no system call unless the other side has said that it sleeps
//! ([`SleepGate`]). And a worker that was busy a moment ago does not really sleep:
//! [`IdleStrategy`] tells it to pause for a fraction of a millisecond and to gather a batch, unless
//! others wait for it.
//!
//! The rings are [`rtrb`]'s. That no wake-up is lost is shown by a model test over all
//! interleavings (`tests/loom.rs`).

#![forbid(unsafe_code)]

mod exchange;
mod idle;
mod lane;
mod trial;
mod waker;

pub use exchange::{Requester, Responder, exchange};
pub use idle::{IdleStrategy, Wait};
pub use lane::{Batch, Lane};
pub use waker::{SleepGate, SleepGuard, WaitHandle, Waker, waker_pair};

//! Swarms that outlive the process: they are written to a file from time to time and at the end,
//! and read at the next start.
//!
//! ```text
//!   shards ── SnapshotSource: records, a slice at a time ──▶ Snapshotter (a thread) ──▶ file
//!   shards ◀── restore: before the workers have threads ◀──────────────────────────────── file
//! ```
//!
//! The file is that of [`aquatic_swarm_log`]. It is replaced as a whole, so a reader finds an old
//! one or a new one, never a part. Whatever else it finds there is set aside and reported; nothing
//! about a file can keep a tracker from starting.
//!
//! | module | contents |
//! |---|---|
//! | [`persistent`] | what a shard tells, and takes in |
//! | [`source`] | a shard's end of a snapshot |
//! | [`snapshotter`] | the thread that writes files |
//! | [`restore`] | reading a file |
//! | [`file`](mod@file) | where it is, and what becomes of one that cannot be used |

pub mod file;
pub mod persistent;
pub mod restore;
pub mod snapshotter;
pub mod source;

#[cfg(test)]
mod tests;

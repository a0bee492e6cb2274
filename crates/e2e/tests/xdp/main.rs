//! The program in front of the network stack (`network.xdp`), with real sockets.
//!
//! `crates/xdp/tests` tries it frame by frame. Here frames come from the network stack of another
//! host, go by interfaces of several kinds, and come back to a kernel that drops what is not quite
//! right. What is asserted is what clients get, and what the tracker's metrics and log say.
//!
//! | module | whether |
//! |---|---|
//! | [`answers`] | clients are answered as without it, by whichever interface they come |
//! | [`attaching`] | it is attached where it may be, and leaves nothing behind |
//! | [`addresses`] | it answers for the addresses of its own host, whichever these are by now |
//! | [`limits`] | it serves whom the tracker serves, and no more |
//! | [`queues`] | all queues serve, what they cannot do is done, and what happens to them is told |
//! | [`stops`] | what waits in queues is answered when the tracker is told to stop |
//! | [`flood`] | honest clients are answered in a flood |

#![cfg(target_os = "linux")]

mod addresses;
mod answers;
mod attaching;
mod flood;
mod limits;
mod queues;
mod stage;
mod stops;

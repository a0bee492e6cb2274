//! The system calls that get pointers from us.
//!
//! Miri, which checks each access to memory, knows none of them. Under Miri the kernel is played
//! instead: by code that follows every pointer, reads and writes all that the kernel may, and so
//! shows that it may. `scripts/check-unsafe.sh` runs the tests at the end that way.

#[cfg(not(all(test, miri)))]
pub(crate) use libc::poll;
#[cfg(all(not(all(test, miri)), target_os = "linux"))]
pub(crate) use libc::{getsockopt, recvmmsg, sendmmsg, sendmsg, setsockopt};

#[cfg(all(test, miri))]
pub(crate) use played::{getsockopt, poll, recvmmsg, sendmmsg, sendmsg, setsockopt};

#[cfg(all(test, miri))]
#[path = "kernel/played.rs"]
mod played;

//! What a daemon can no longer do when it has started, whoever makes it try.
//!
//! A tracker reads what strangers send. Should one of them ever make it run his own code, that code
//! finds little to work with:
//!
//! - **always**: no program that it starts would have more rights than it has itself
//!   ([`renounce`]: `no_new_privs`, and an empty capability bounding set where it may empty it);
//!   and who is not root keeps no capability, which was for the ports below 1024;
//! - **with `privileges.sandbox`** ([`enter`]), where the kernel can do it:
//!   - [`files`]: it opens only what is in the folders of files that the configuration names
//!     (Landlock), and no TCP connection but to the ports of servers that the configuration names;
//!   - [`calls`]: it has only the system calls of a tracker (seccomp). To run a program, look into
//!     other processes or change the kernel ends the process; any other call that is not on the
//!     list fails with EPERM, since a library may try such a call and do without.
//!
//! This is entered when all sockets are bound and privileges have been dropped, and before there
//! are workers. It holds for all threads. What is open stays open.

#[cfg(target_os = "linux")]
mod calls;
#[cfg(target_os = "linux")]
mod files;

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use aquatic_config::PrivilegeConfig;

use crate::supervisor::Supervisor;

/// What a daemon needs of the system while it serves.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    /// Files that are read again at a reload. They may be replaced by others of that name.
    pub reads: Vec<PathBuf>,
    /// Files that are read again, and may not be replaced by others: their folders stay closed.
    pub reads_in_place: Vec<PathBuf>,
    /// Files that are [replaced](crate::replace_file). Their folders are created if missing.
    pub replaces: Vec<PathBuf>,
    /// Folders in which a file is removed at the end.
    pub removes: Vec<Arc<File>>,
    /// TCP ports to which it connects, of whatever host. With none there are no new sockets.
    pub connects: Vec<u16>,
    /// Workers make rings of io_uring.
    pub io_uring: bool,
}

impl Needs {
    /// Whether there is nothing that it needs.
    #[must_use]
    pub fn are_none(&self) -> bool {
        let files = [&self.reads, &self.reads_in_place, &self.replaces];
        files.iter().all(|list| list.is_empty())
            && self.removes.is_empty()
            && self.connects.is_empty()
            && !self.io_uring
    }

    /// What both need.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.reads.extend(other.reads);
        self.reads_in_place.extend(other.reads_in_place);
        self.replaces.extend(other.replaces);
        self.removes.extend(other.removes);
        self.connects.extend(other.connects);
        self.io_uring |= other.io_uring;
        self
    }
}

/// Gives up, for this thread and those that it will start, what no daemon needs: that a program
/// which it starts has more rights than itself. To be called before there are other threads.
pub fn renounce() {
    #[cfg(target_os = "linux")]
    {
        use rustix::thread::{
            CapabilitySet, remove_capability_from_bounding_set, set_no_new_privs,
        };

        // Kernels of this century can do the first. The second is refused to a process without
        // CAP_SETPCAP, which could not get what is in the set anyway, after the first.
        let _ = set_no_new_privs(true);
        for number in 0..u64::BITS {
            let capability = CapabilitySet::from_bits_retain(1 << number);
            if remove_capability_from_bounding_set(capability).is_err() {
                break;
            }
        }
    }
}

/// Gives up the capabilities of who is not root. Then enters the sandbox, if the configuration says
/// so; a part that the kernel does not have is left out, with a warning. To be called after
/// [`privileges::drop`](fn@crate::privileges::drop_privileges), before workers are spawned.
pub fn enter(config: &PrivilegeConfig, needs: &Needs, supervisor: &Supervisor) {
    #[cfg(target_os = "linux")]
    give_up_capabilities(supervisor);
    if !config.sandbox {
        return;
    }
    #[cfg(target_os = "linux")]
    {
        // First, since most of the calls that confine files are not among those of a tracker.
        let files = files::confine(needs, supervisor);
        let calls = calls::confine(needs);
        for (what, result) in [
            ("files are not confined by Landlock", &files),
            ("system calls are not filtered by seccomp", &calls),
        ] {
            if let Err(reason) = result {
                log::warn!(
                    "`privileges.sandbox`: {what}: {reason:#} (the tracker serves nevertheless)"
                );
            }
        }
        // In a root directory of its own, that is what the operator has put there.
        if files.is_ok() && !config.drop_privileges && files::allow_everything(needs) {
            log::warn!(
                "`privileges.sandbox`: a file of the configuration is in the root directory, so \
                 all files can be opened: put it into a folder of its own"
            );
        }
        if files.is_ok() && calls.is_ok() {
            log::info!("in the sandbox");
        }
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (needs, supervisor);
        log::info!("`privileges.sandbox` needs Linux: there is none");
    }
}

/// Root needs them to open files of others.
#[cfg(target_os = "linux")]
fn give_up_capabilities(supervisor: &Supervisor) {
    use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

    if nix::unistd::geteuid().is_root() {
        return;
    }
    supervisor.in_all_threads(|| {
        let none = CapabilitySets {
            effective: CapabilitySet::empty(),
            permitted: CapabilitySet::empty(),
            inheritable: CapabilitySet::empty(),
        };
        // Ambient ones go with them (capabilities(7)).
        if let Err(error) = set_capabilities(None, none) {
            log::warn!("cannot give up capabilities: {error}");
        }
    });
}

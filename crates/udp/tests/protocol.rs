//! Black-box tests: the real binary, real sockets, nothing known but the protocol and the manual.
//!
//! A scenario is written once, as a function of a [`Setup`](aquatic_test_support::Setup): a backend
//! and a topology of workers. [`on_every_setup`](protocol::setup::on_every_setup) runs it on
//! all of them side by side, and most scenarios once for each IP family. What does not depend on
//! them (command line, privileges) is tried once or on a few.
//!
//! | module | what is tested |
//! |---|---|
//! | `requests` | what is read, what is refused in words, what is dropped |
//! | `connection_ids` | who may ask |
//! | `swarms`, `scrapes` | what is answered |
//! | `limits`, `forgetting` | who has to wait, and what is forgotten |
//! | `one_address` | one client that announces very many peers |
//! | `socket_filter` | what the kernel drops before it is queued |
//! | `sockets`, `faults` | addresses, buffers, bad weather; what a kernel can refuse |
//! | `full_disks` | files for which there is no room |
//! | `interfaces` | what is said of interfaces that are missing |
//! | `idling` | what a tracker costs that nobody asks |
//! | `privileges` | where files are written |
//! | `stops` | what is still answered at the end |
//! | `restarts` | nothing is lost between two processes |
//! | `reloads` | settings that change meanwhile |
//! | `prometheus`, `reports` | what a tracker tells about itself |
//! | `keys` | clients that need a key |
//! | `operations` | what all daemons of the family do alike |
//!
//! A test waits for a condition, with a deadline, and never for a time.

mod protocol {
    mod client;
    pub(crate) mod setup;

    mod connection_ids;
    #[cfg(target_os = "linux")]
    mod faults;
    mod forgetting;
    #[cfg(target_os = "linux")]
    mod full_disks;
    #[cfg(target_os = "linux")]
    mod idling;
    #[cfg(target_os = "linux")]
    mod interfaces;
    mod keys;
    mod limits;
    #[cfg(target_os = "linux")]
    mod one_address;
    mod operations;
    mod privileges;
    mod prometheus;
    #[cfg(target_os = "linux")]
    mod reloads;
    mod reports;
    mod requests;
    #[cfg(target_os = "linux")]
    mod restarts;
    mod scrapes;
    #[cfg(target_os = "linux")]
    mod socket_filter;
    mod sockets;
    #[cfg(target_os = "linux")]
    mod stops;
    mod swarms;
}

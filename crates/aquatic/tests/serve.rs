//! Black-box tests of `aquatic`: the real binary, real sockets.
//!
//! What each protocol's tracker does is tested in its own crate, on the same code. Here is what
//! they do together.
//!
//! | module | what is tested |
//! |---|---|
//! | `setup` | the matrix of combinations, and clients of both protocols |
//! | `swarms` | one swarm for UDP and HTTP |
//! | `sharing` | limits, access list, metrics and files that protocols share |
//! | `torrents` | what an operator is told about torrents |
//! | `keys` | keys of clients, which protocols share |
//! | `restarts` | sockets of both outlive the process |
//! | `stops` | which protocol stops when |
//! | `reloads` | settings that change meanwhile |
//! | `endpoint` | the operator's endpoint of all |
//! | `command_line` | subcommands; what is wrong with a configuration |

#![cfg(target_os = "linux")]

mod serve {
    pub(crate) mod setup;

    mod command_line;
    mod endpoint;
    mod keys;
    mod reloads;
    mod restarts;
    mod sharing;
    mod stops;
    mod swarms;
    mod torrents;
}

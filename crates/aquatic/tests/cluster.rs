//! Black-box tests of trackers that share their swarms: real binaries, real sockets, a real
//! `nats-server`.
//!
//! | module | what is tested |
//! |---|---|
//! | `setup` | nodes of each kind, and clients |
//! | `sharing` | what peers of one node have of those of another |
//! | `browsers` | browsers that are connected to different nodes |
//! | `lists` | access lists and keys that are kept in the servers |
//! | `credentials` | nodes that the servers do not let in |
//! | `announces` | announces for a back end |
//! | `interruptions` | servers and nodes that come, go, and come back |
//! | `reloads` | settings that change while a node runs |

#![cfg(all(target_os = "linux", feature = "cluster"))]

mod cluster {
    #[path = "../serve/setup.rs"]
    #[expect(dead_code, reason = "more than is needed here")]
    mod clients;
    mod setup;

    mod announces;
    mod browsers;
    mod credentials;
    mod interruptions;
    mod lists;
    mod reloads;
    mod sharing;
}

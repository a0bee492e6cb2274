//! Several WebTorrent trackers whose swarms are shared, on a virtual clock: all their workers run
//! in one thread, and a simulated bus carries what they have for each other.
//!
//! | module | what it is |
//! |---|---|
//! | `cluster` | the trackers and the bus between them |
//! | `client` | one connection, seen by its client |
//! | `meeting` | clients of different nodes meet |
//! | `order` | what happened when, by the bus and by the log |
//! | `presence` | who is known where, and for how long |
//! | `liars` | a node that says what it must not |
//! | `chaos` | a bus that loses, repeats and mixes up, and nodes that come and go |

mod across_nodes {
    mod chaos;
    mod client;
    mod cluster;
    mod liars;
    mod meeting;
    mod order;
    mod presence;
}

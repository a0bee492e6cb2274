//! What strangers can do to others by sending much: a whole tracker without sockets, in which a
//! test decides who reads and which worker works when.
//!
//! | module | what it is |
//! |---|---|
//! | `town` | the tracker, and its clients |
//! | `memory` | swarms that fill the memory |
//! | `queues` | requests for a worker that does not keep up |
//! | `receivers` | offers and answers for somebody who does not read, or gets too many |
//! | `shares` | what one connection and one address may have of a swarm |
//! | `stops` | requests that are on their way when the tracker is told to stop |
//! | `uploads` | clients that never pause |

mod floods {
    pub(crate) mod town;

    mod memory;
    mod queues;
    mod receivers;
    mod shares;
    mod stops;
    mod uploads;
}

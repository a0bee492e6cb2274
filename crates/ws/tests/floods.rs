//! What strangers can do to others by sending much: a whole tracker without sockets, in which a
//! test decides who reads and which worker works when.
//!
//! | module | what it is |
//! |---|---|
//! | `town` | the tracker, and its clients |
//! | `queues` | requests for a worker that does not keep up |
//! | `receivers` | offers and answers for somebody who does not read, or gets too many |

mod floods {
    pub(crate) mod town;

    mod queues;
    mod receivers;
}

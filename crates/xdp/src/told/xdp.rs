//! What is told to the program for frames, and what becomes of it.

use std::io;

/// What the program does with datagrams that are meant for the tracker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum XdpTask {
    /// Answers connect requests. All else goes on untouched.
    AnswerConnects = 1,
    /// Drops what is no request, too, and what has a wrong connection id.
    Filter = 2,
}

/// Who runs the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachMode {
    /// The driver of the card, before there is anything else.
    Native,
    /// The kernel, a little later, on any interface.
    Generic,
}

/// What the program goes by.
#[derive(Clone, Copy, Debug)]
pub struct XdpLimits {
    /// Connect requests that each processor answers in a second.
    pub answers_per_second: u64,
    /// Wrong connection ids that each processor answers in a second with an error.
    pub errors_per_second: u64,
}

/// How often a client may send, as user space reckons it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rate {
    /// Of the hash by which clients share cells.
    pub key: [u64; 2],
    /// 0: there is no limit.
    pub nanos_per_request: u64,
    /// What the monotonic clock of the kernel says at the zero of the rate's.
    pub zero_nanos: u64,
}

/// Why a program was not attached.
#[derive(Debug)]
pub enum AttachError {
    /// The interface has another one.
    Taken(io::Error),
    /// The interface does not take one in this mode, or not as it is set up now.
    Unfit(io::Error),
    /// The process may not, or something else is missing.
    Failed(io::Error),
}

/// There are more networks than the program has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany {
    /// A new program would not have room for them either.
    pub at_all: bool,
}

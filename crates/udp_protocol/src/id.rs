//! The two ids that tie messages together.

use std::fmt::{self, Debug, Formatter};

/// Shows that a client owns the address it sends from: the tracker makes it, the client repeats it.
///
/// Opaque: only whoever made one knows what its bytes mean.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub [u8; 8]);

/// Ties an answer to its request: the client makes it, the tracker repeats it.
///
/// Opaque: compared, never computed with.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionId(pub [u8; 4]);

impl Debug for ConnectionId {
    /// 16 hexadecimal digits, in wire order.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl Debug for TransactionId {
    /// 8 hexadecimal digits, in wire order.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}

//! Takes fixed-size fields off the front of a packet.

/// The bytes of a packet that have not been read yet.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl Fields<'_> {
    /// The next `N` bytes; `None` (and nothing is taken) if there are fewer.
    #[inline]
    pub(crate) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    /// The next 4 bytes as a number.
    #[inline]
    pub(crate) fn take_u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    /// The next 8 bytes as a number.
    #[inline]
    pub(crate) fn take_u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }
}

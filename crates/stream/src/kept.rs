//! Input that nobody has taken.

/// Bytes that are kept of a connection's input. Nearly always there are none: so they take no more
/// of each connection than a pointer.
#[derive(Debug, Default)]
pub(crate) struct Kept(
    #[allow(
        clippy::box_collection,
        reason = "a third of its size, for each connection"
    )]
    Option<Box<Vec<u8>>>,
);

impl Kept {
    /// All of them.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_deref().map_or(&[], Vec::as_slice)
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.bytes().len()
    }

    /// More have come.
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.0.get_or_insert_default().extend_from_slice(bytes);
        }
    }

    /// Takes all of them out.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.0.take().map_or_else(Vec::new, |bytes| *bytes)
    }

    /// Keeps these, and no others.
    pub(crate) fn replace(&mut self, bytes: Vec<u8>) {
        self.0 = (!bytes.is_empty()).then(|| Box::new(bytes));
    }

    /// Bytes that are allocated for them.
    pub(crate) fn held_bytes(&self) -> usize {
        let held_bytes = |bytes: &Vec<u8>| size_of::<Vec<u8>>() + bytes.capacity();
        self.0.as_deref().map_or(0, held_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_counts_until_it_is_taken() {
        let mut kept = Kept::default();
        kept.extend(&[]);
        kept.replace(Vec::with_capacity(10));
        assert!(kept.is_empty());
        assert_eq!(kept.held_bytes(), 0);
        kept.extend(b"GET ");
        kept.extend(b"/");
        assert_eq!((kept.bytes(), kept.len()), (&b"GET /"[..], 5));
        assert!(kept.held_bytes() >= 24 + 5);
        assert_eq!(kept.take(), b"GET /");
        assert_eq!((kept.held_bytes(), kept.len()), (0, 0));
        kept.replace(b"GET".to_vec());
        assert_eq!(kept.take(), b"GET");
        assert_eq!(kept.take(), b"");
    }
}

//! Allow and deny lists of info hashes, swapped atomically.

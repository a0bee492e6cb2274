//! How an aquatic daemon starts, lives and stops.

//! End-to-end tests: real BitTorrent clients against the real trackers.

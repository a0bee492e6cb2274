//! Load tester for BitTorrent trackers over UDP.

//! BitTorrent tracker over UDP.

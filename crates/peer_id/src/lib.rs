//! BitTorrent client name and version from a peer id (BEP 20).

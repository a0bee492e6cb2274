//! BitTorrent tracker protocol over UDP (BEP 15, 41): bytes to values and back.

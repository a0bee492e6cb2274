//! Who is in which swarm: torrent map, peers, fair peer selection, expiry, counts.

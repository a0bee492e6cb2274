//! A small safe layer over io_uring for datagram sockets.

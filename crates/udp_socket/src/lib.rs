//! Datagram sockets with batched system calls, packet info and reuse-port steering.

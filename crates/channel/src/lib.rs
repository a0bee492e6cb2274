//! The mailbox between socket workers and swarm workers: bounded rings of batches.

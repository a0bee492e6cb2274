//! The hub, driven by bytes and a virtual clock: no sockets, no threads.

mod admission;
mod deadlines;
mod denied;
mod flow;
mod half_close;
mod lines;
mod memory;
mod phases;
mod pki;
mod stops;
mod tls;
mod tls_files;
mod world;

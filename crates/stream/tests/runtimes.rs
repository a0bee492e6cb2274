//! What connections experience, on each event loop alike: real sockets, real threads.

#[path = "runtimes/clients.rs"]
mod clients;
#[path = "runtimes/memory.rs"]
mod memory;
#[path = "runtimes/server.rs"]
mod server;
#[cfg(target_os = "linux")]
#[path = "runtimes/shortages.rs"]
mod shortages;
#[path = "runtimes/traffic.rs"]
mod traffic;

use aquatic_stream::Runtime;

/// Every test is about each of these.
#[cfg(all(target_os = "linux", feature = "glommio"))]
const RUNTIMES: [Runtime; 2] = [Runtime::Mio, Runtime::Glommio];
#[cfg(not(all(target_os = "linux", feature = "glommio")))]
const RUNTIMES: [Runtime; 1] = [Runtime::Mio];

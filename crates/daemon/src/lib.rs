//! How an aquatic daemon starts, lives and stops.
//!
//! Whatever a daemon serves, an operator meets it in the same way: the same flags, the same log,
//! the same signals, the same exit codes. That common part is here; it knows nothing of trackers,
//! and the load testers use what they need of it.
//!
//! ```text
//!  cli::run          flags → configuration, log, exit code
//!   ├─ config.inspect(checks)   --check-config: the files, with the code below, and no sockets
//!   └─ Supervisor::run        catches signals, finds systemd; SIGTERM → Ok, a worker ended → Err
//!       └─ start(config)                                            (the daemon's own function)
//!           ├─ bind every socket, MetricsEndpoint::bind             } while still root and
//!           ├─ privileges::drop_privileges                          } outside a chroot
//!           ├─ access_list::load                                    } as the user who will
//!           ├─ supervisor.spawn(worker) ...                         } reload it later
//!           └─ returns what a reload does: READY=1
//! ```
//!
//! `examples/minimal.rs` is such a daemon in one screen; the tests of this crate start it.
//!
//! | module | contents |
//! |---|---|
//! | [`cli`] | flags, loading the configuration file, the exit code |
//! | [`logging`], `log_queue` | log lines on standard error; panics in the log |
//! | [`bind`] | why an address cannot be bound, in words |
//! | [`privileges`] | chroot, group and user |
//! | [`access_list`] | loading and reloading the file of info hashes |
//! | [`sandbox`] | what a daemon can no longer do when it has started |
//! | [`patient_file`] | files that may be pipes to which nobody writes |
//! | [`replace_file`] | files that are replaced as a whole |
//! | [`supervisor`] | worker threads, signals and the end of the process |
//! | [`heartbeat`], `watchdog` | threads that hang are noticed |
//! | `finishing` | what workers still do when told to stop |
//! | [`signals`], [`systemd`] | what the supervisor waits for and whom it tells |
//! | [`metrics_endpoint`] | Prometheus over HTTP |
//! | [`exposition`], [`process`], [`load_metrics`] | metrics as text; of the process, of files |
//! | [`endpoint`] | a small HTTP server for the operator |
//! | [`per_client`], [`request_rate`] | how many of something each client may have, or send |
//! | [`memory_at_hand`] | how much the process may take |
//! | [`clock`] | the only place where time is read |
//! | [`limit_watch`] | warnings about clients that are turned away |
//! | [`counter`] | numbers for the statistics, one writer each |

#![forbid(unsafe_code)]

pub mod access_list;
pub mod bind;
pub mod cli;
pub mod clock;
pub mod counter;
pub mod endpoint;
pub mod exposition;
mod finishing;
pub mod heartbeat;
pub mod limit_watch;
pub mod load_metrics;
mod log_queue;
pub mod logging;
pub mod memory_at_hand;
pub mod metrics_endpoint;
pub mod patient_file;
pub mod per_client;
pub mod privileges;
pub mod process;
pub mod replace_file;
pub mod request_rate;
pub mod sandbox;
pub mod signals;
pub mod special_file;
pub mod supervisor;
pub mod systemd;
mod watchdog;

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
//!           ├─ AccessListEditor::load                               } as the user who will
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
//! | [`kept_sockets`] | sockets that outlive the process, with the help of systemd |
//! | [`socket_groups`] | sockets for all workers, passed or new |
//! | [`privileges`] | chroot, group and user |
//! | [`access_list`] | loading, reloading and changing the list of info hashes |
//! | [`bucket`] | lists whose entries are kept elsewhere, for several daemons |
//! | [`keys`] | loading and reloading the file of keys |
//! | [`config_file`], [`reload`], [`live`] | settings that change while the daemon runs |
//! | [`reload_report`] | what has come of a reload, for who has asked for it |
//! | [`sandbox`] | what a daemon can no longer do when it has started |
//! | [`patient_file`] | files that may be pipes to which nobody writes |
//! | [`replace_file`] | files that are replaced as a whole |
//! | [`rewritten_file`] | files of an operator's that keep their owner, and others' changes |
//! | [`secret_file`] | files that nobody but their owner can read |
//! | [`supervisor`] | worker threads, signals and the end of the process |
//! | [`heartbeat`], `watchdog` | threads that hang are noticed |
//! | `cpu_clock` | the CPU time of one thread |
//! | `finishing` | what workers still do when told to stop |
//! | [`signals`], [`systemd`] | what the supervisor waits for and whom it tells |
//! | `patience` | asking for more time for a long start or stop |
//! | [`metrics_endpoint`] | Prometheus over HTTP |
//! | [`exposition`], [`process`], [`load_metrics`] | metrics as text; of the process, of files |
//! | [`endpoint`], [`token_file`] | a small HTTP server for the operator, and who that is |
//! | [`health_check`] | `--health`: the same daemon is asked by another process |
//! | [`json`] | writing JSON |
//! | [`kept_gauges`] | gauges that can be read again |
//! | [`per_client`], [`request_rate`] | how many of something each client may have, or send |
//! | [`memory_at_hand`] | how much the process may take |
//! | [`clock`] | the only place where time is read |
//! | [`limit_watch`] | warnings about clients that are turned away |
//! | [`counter`] | numbers for the statistics, one writer each |

#![forbid(unsafe_code)]

pub mod access_list;
pub mod bind;
pub mod bucket;
pub mod cli;
pub mod clock;
pub mod config_file;
pub mod counter;
mod cpu_clock;
pub mod denied_networks;
mod edited_list;
pub mod endpoint;
pub mod exposition;
mod finishing;
pub mod health_check;
pub mod heartbeat;
pub mod json;
pub mod kept_gauges;
pub mod kept_sockets;
pub mod keys;
pub mod limit_watch;
pub mod live;
pub mod load_metrics;
mod log_queue;
pub mod logging;
pub mod memory_at_hand;
pub mod metrics_endpoint;
mod patience;
pub mod patient_file;
pub mod per_client;
pub mod privileges;
pub mod process;
pub mod reload;
pub mod reload_report;
pub mod replace_file;
pub mod request_rate;
pub mod rewritten_file;
pub mod sandbox;
pub mod secret_file;
pub mod signals;
pub mod socket_groups;
pub mod special_file;
pub mod supervisor;
pub mod systemd;
pub mod token_file;
mod watchdog;

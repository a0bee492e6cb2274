//! Documented TOML configuration: printed with comments, read strictly.
//!
//! A daemon describes its configuration once, with [`section!`]: each key with its comment, its
//! type and its default. From that come the struct that the daemon works with, the documented
//! file that `-p` prints ([`to_documented_toml`]) and a strict reader ([`load()`]): a missing key
//! has its default, an unknown key is refused by name, and all mistakes of a file are reported at
//! once, each with its line. Numbers that former versions have run with, and that are too large or
//! too small, are made to fit with a warning ([`Checks::clamp`]).
//!
//! ```
//! use aquatic_config::{Checks, Config, LogLevel, load, section, to_documented_toml};
//!
//! section! {
//!     /// An example.
//!     pub struct ExampleConfig {
//!         /// How much is logged: off, error, warn, info, debug or trace.
//!         pub log_level: LogLevel = LogLevel::default(),
//!         pub network: NetworkConfig,
//!     }
//! }
//!
//! section! {
//!     /// Sockets.
//!     pub struct NetworkConfig {
//!         /// Datagrams that one system call reads at most.
//!         pub batch_size: u16 = 32,
//!     }
//! }
//!
//! impl Config for ExampleConfig {
//!     fn check(&self, checks: &mut Checks) {
//!         let batch_size = self.network.batch_size;
//!         checks.require(batch_size > 0, "network.batch_size", "must be at least 1");
//!     }
//!
//!     fn log_level(&self) -> LogLevel {
//!         self.log_level
//!     }
//! }
//!
//! assert!(to_documented_toml(&ExampleConfig::default()).ends_with(
//!     "# Sockets.\n[network]\n# Datagrams that one system call reads at most.\nbatch_size = 32\n"
//! ));
//!
//! let config = load::<ExampleConfig>("network.batch_size = 8").unwrap().config;
//! assert_eq!(config.network.batch_size, 8);
//!
//! let error = load::<ExampleConfig>("[network]\nbatchsize = 8").unwrap_err();
//! assert_eq!(
//!     error.to_string(),
//!     "line 2, column 1: unknown key `network.batchsize`; did you mean `network.batch_size`?"
//! );
//! ```
//!
//! | module | contents |
//! |---|---|
//! | `section` | the [`section!`] macro and the [`Section`] trait that it implements |
//! | `load`, `read`, `report` | text → configuration: [`load()`], [`inspect()`], [`Reader`] |
//! | `explain`, `syntax` | what to write instead of a mistake |
//! | [`family`] | keys that only some programs have |
//! | `write` | configuration → text: [`to_documented_toml`], [`Writer`] |
//! | [`reloading`], `changes` | what a running program can take over: [`take_over`] |
//! | `old_spellings` | keys of former versions that still load: [`OldSpellings`] |
//! | `error` | what can be wrong with a file: [`ConfigError`], [`Problem`] |
//! | `shared`, `addresses`, `memory_limit`, `one_or_many` | sections and values of several daemons |
//!
//! Reading the file from disk and printing to the terminal are left to the caller, and looking at
//! what the file names on this machine to the configuration ([`Config::inspect`]).

#![forbid(unsafe_code)]

mod addresses;
mod changes;
mod error;
mod explain;
pub mod family;
mod load;
mod memory_limit;
mod nearest;
mod old_spellings;
mod one_or_many;
mod read;
pub mod reloading;
mod report;
mod section;
mod shared;
mod syntax;
mod write;

pub use aquatic_access_list::AccessListMode;
pub use aquatic_keys::KeyMode;

pub use addresses::{Addresses, AddressesError};
pub use changes::{Change, TakeOver, take_over};
pub use error::{ConfigError, Mistake, Position, Problem};
pub use load::{Checks, Config, Inspection, Loaded, inspect, load};
pub use memory_limit::{MemoryLimit, MemoryLimitError};
pub use old_spellings::OldSpellings;
pub use one_or_many::OneOrMany;
pub use read::Reader;
pub use section::Section;
pub use shared::{
    AccessListConfig, KeysConfig, LimitsConfig, LogLevel, PrivilegeConfig, REQUESTS_PER_SECOND_MAX,
};
pub use write::{KeyDescription, SectionDescription, Writer, describe, to_documented_toml, values};

//! Conformance suites and in-memory adapters for the transactional outbox.
//!
//! | module | what it is for |
//! |---|---|
//! | [`storage_suite`] | proves that a [`Storage`](outbox_core::ports::Storage) keeps the contract of its ports |
//! | [`transport_suite`] | the same for a [`Transport`](outbox_core::ports::Transport) |
//! | [`inbox_storage_suite`] | the same for an [`InboxStorage`](outbox_core::inbox::InboxStorage) |
//! | [`source_suite`] | the same for a [`Source`](outbox_core::inbox::Source) |
//! | [`memory`] | the same ports in memory, for tests of programs that use the outbox |
//! | `simulation` | the relay against modelled faults, by seed (feature `simulation`) |
//! | `inbox_simulation` | the same for the inbox |
//!
//! An adapter implements one *fixture* and calls one function; it cannot choose cases. `docs/custom-storage.md` goes
//! through it for a storage of one's own.

mod case;
#[cfg(feature = "simulation")]
pub mod inbox_simulation;
pub mod inbox_storage_suite;
pub mod memory;
#[cfg(feature = "simulation")]
pub mod simulation;
pub mod source_suite;
pub mod storage_suite;
pub mod transport_suite;

/// Any error of a fixture; `?` makes one of every error type.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

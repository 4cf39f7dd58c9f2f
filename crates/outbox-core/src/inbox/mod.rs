//! The inbox's types and ports: what a source of messages and a storage that deduplicates them must do. Their rustdoc is the
//! contract, and `outbox-testkit` checks it. The engine between them is the crate `outbox-inbox`.
//!
//! | port | concern |
//! |---|---|
//! | [`Source`], [`Subscription`] | receiving messages from a broker, and acknowledging them |
//! | [`InboxStorage`] | entry: checks the database, begins transactions, hands out the other storage ports |
//! | [`InboxTransaction`] | one transaction with the dedup rows, the handlers' changes, and what is put aside |
//! | [`HeldQueue`] | messages that the database keeps until they are processed: failed ones, their followers, and all in durable mode |
//! | [`InboxMemory`] | positions that were consumed, and how far back identities are remembered |
//! | [`InboxAdmin`] | dead letters and parked keys, for operators |
//!
//! # The rows
//!
//! What the ports say about rows fits these tables (prefix and schema apply); a storage may lay them out in another way.
//!
//! | table | columns |
//! |---|---|
//! | `inbox_messages` | consumer, source, id (the key); status `processed`, `held` or `dead`; `processed_at` |
//! | `inbox_held` | seq (the key); consumer; source, id; ordering key; stream, partition, position; record key, headers, payload, timestamp; status `received`, `waiting`, `failed` or `processing`; attempts; `due_at`; claim, `claimed_until`; error |
//! | `inbox_parked_keys` | consumer, ordering key (the key); reason `held`, `dead_letter` or `operator`; `parked_at` |
//! | `inbox_dead_letters` | seq (the key, of the same sequence as `inbox_held`); as `inbox_held`; reason, error, `died_at` |
//! | `inbox_positions` | consumer, stream, partition (the key); position |
//! | `inbox_horizons` | consumer (the key); horizon |
//!
//! Every text of an identity, and every key, compares by its bytes: binary collations, no padding.
//!
//! # Locks, in this order
//!
//! Dedup rows (sorted by source, id) → parked keys (sorted) → held rows. Every transaction takes them in this order and takes dedup
//! rows once, so that two deliveries of one message wait for each other and never deadlock.

mod admin;
mod held;
mod identity;
mod incoming;
mod key;
mod memory;
mod source;
mod storage;
mod transaction;

pub use admin::{InboxAdmin, InboxDeadLetter, InboxParkedKey, ParkedBy};
pub use held::{ClaimToken, HeldBacklog, HeldBurial, HeldFailure, HeldMessage, HeldQueue};
pub use identity::{Consumer, Identity, InvalidIdentity, MAX_IDENTITY_BYTES};
pub use incoming::{Incoming, IncomingHeaders, Partition};
pub use key::{MAX_KEY_BYTES, OrderingKey};
pub use memory::{InboxMemory, RememberedPosition};
pub use source::{Acknowledging, Assigned, Source, SourceError, SourceErrorKind, SourceEvent, Subscription};
pub use storage::{InboxProfile, InboxStorage, TransactionLimits};
pub use transaction::{Admission, Aside, Candidate, Committed, Fate, InboxDeadReason, InboxTransaction, Standing};

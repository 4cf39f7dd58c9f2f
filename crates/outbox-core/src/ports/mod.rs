//! The ports: what a storage and a transport must do. Their rustdoc is the contract, and `outbox-testkit` checks it.
//!
//! | port | concern |
//! |---|---|
//! | [`Storage`] | entry: checks the database and hands out the other storage ports |
//! | [`Leases`] | which relay owns which shard |
//! | [`Reader`] | which messages may be published next, in a safe order |
//! | [`Settler`] | what becomes of a message: delivered, failed, dead |
//! | [`Admin`] | dead letters and parked keys, for operators |
//! | [`Notifier`] | optional wake-up by the database |
//! | [`Transport`], [`Session`] | handing messages to a broker |

mod admin;
mod leases;
mod reader;
mod settler;
mod storage;
mod transport;

pub use admin::{Admin, DeadLetter};
pub use leases::{Heartbeat, Lease, Leases, RelayId};
pub use reader::{Batch, HeldHead, ReadLimits, Reader, Refused};
pub use settler::{Backlog, Burial, DeadReason, FailureMark, Fenced, ParkedKey, Settler};
pub use storage::{Notifier, Storage, StorageError, StorageErrorKind, StorageProfile};
pub use transport::{
    LaneOrdering, Outcome, OutcomeSink, Outcomes, Outgoing, Reason, RouteName, Session, Slot, Ticket, Transport,
    TransportError,
};

use uuid::Uuid;

/// A shard: a fixed share of the ordering keys, and the unit of ownership. Numbered from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u16);

/// Where a pending row is. Settle statements match all three fields, never a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// The row's shard.
    pub shard: ShardId,
    /// The row's enqueue number.
    pub seq: i64,
    /// The message's identity.
    pub id: Uuid,
}

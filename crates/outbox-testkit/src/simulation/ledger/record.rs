use outbox_core::ports::ShardId;
use tokio::time::Instant;
use uuid::Uuid;

use crate::simulation::database::Key;

/// One appended message.
#[derive(Debug)]
pub(in crate::simulation) struct Record {
    pub(in crate::simulation) id: Uuid,
    pub(in crate::simulation) shard: ShardId,
    pub(in crate::simulation) seq: i64,
    pub(in crate::simulation) key: Option<Key>,
    pub(in crate::simulation) nature: Nature,
    /// When its append began, in ticks of the ledger.
    pub(in crate::simulation) appended_at: u64,
    /// When its transaction committed; `None`: it did not.
    pub(in crate::simulation) committed_at: Option<u64>,
    /// Left the order of its key on purpose: scheduled, or a dead letter that its followers passed.
    pub(in crate::simulation) out_of_order: bool,
    pub(in crate::simulation) too_large: bool,
    pub(in crate::simulation) published: u32,
    pub(in crate::simulation) first_handed: Option<Instant>,
    pub(in crate::simulation) dead: bool,
    pub(in crate::simulation) discarded: bool,
    /// Times the broker refused it and would take it later.
    pub(in crate::simulation) refusals: u32,
    /// Times the broker returned it.
    pub(in crate::simulation) returns: u32,
    /// Refusals since it was last made pending.
    pub(in crate::simulation) retries: u32,
    /// Whether the broker or the transport refused it for good.
    pub(in crate::simulation) rejected: bool,
}

/// What the broker will make of a message, whoever sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::simulation) enum Nature {
    Healthy,
    /// Refused so many times, then taken.
    RefusedTimes(u32),
    /// Returned so many times because it leads to no queue, then taken.
    ReturnedTimes(u32),
    /// Refused by the broker for good.
    Rejected,
    /// Refused inside the transport's `send`.
    RefusedLocally,
    /// Has no route.
    Unroutable,
    /// Its row cannot be read: the reader refuses it.
    Undecodable,
    /// Fails every batch that it is in, with no message named.
    Poison,
}

impl Record {
    /// For people.
    pub(in crate::simulation) fn label(&self) -> String {
        let key = self.key.as_ref().map_or("-".to_owned(), |(kind, id)| format!("{kind}/{id}"));
        format!("{key}#{} (shard {})", self.seq, self.shard.0)
    }
}

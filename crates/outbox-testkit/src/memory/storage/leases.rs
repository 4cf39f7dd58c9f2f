use std::time::Duration;

use async_trait::async_trait;
use outbox_core::ports::{Heartbeat, Lease, Leases, RelayId, StorageError};
use uuid::Uuid;

use super::MemoryStorage;
use super::tables::{LeaseRow, RelayRow};

#[async_trait]
impl Leases for MemoryStorage {
    async fn heartbeat(&self, relay: &RelayId, lease: Duration, accepting: bool) -> Result<Heartbeat, StorageError> {
        let mut state = self.available()?;
        let now = state.clock.now();
        state.tables.relays.insert(relay.owner, RelayRow { seen_at: now, accepting });
        let alive = state.tables.relays.values().filter(|row| row.accepting && row.seen_at + lease > now);
        let accepting_relays = alive.count();
        let mut held = Vec::new();
        for (&shard, row) in &mut state.tables.leases {
            if row.held.is_some_and(|(owner, expires_at)| owner == relay.owner && expires_at > now) {
                row.held = Some((relay.owner, now + lease));
                held.push(Lease { shard, epoch: row.epoch, control_version: row.control_version });
            }
        }
        Ok(Heartbeat { held, accepting_relays })
    }

    async fn acquire(&self, relay: &RelayId, lease: Duration, limit: usize) -> Result<Vec<Lease>, StorageError> {
        let mut state = self.available()?;
        let now = state.clock.now();
        let is_free = |row: &LeaseRow| row.held.is_none_or(|(_, expires_at)| expires_at <= now);
        let free = state.tables.leases.iter_mut().filter(|(_, row)| is_free(row)).take(limit);
        Ok(free
            .map(|(&shard, row)| {
                row.held = Some((relay.owner, now + lease));
                row.epoch += 1;
                Lease { shard, epoch: row.epoch, control_version: row.control_version }
            })
            .collect())
    }

    async fn release(&self, relay: &RelayId, leases: &[Lease]) -> Result<(), StorageError> {
        let mut state = self.available()?;
        for lease in leases {
            if let Some(row) = state.tables.leases.get_mut(&lease.shard).filter(|row| row.stands(relay.owner, lease)) {
                row.held = None;
            }
        }
        Ok(())
    }

    async fn resign(&self, relay: &RelayId) -> Result<(), StorageError> {
        let mut state = self.available()?;
        state.tables.relays.remove(&relay.owner);
        for row in state.tables.leases.values_mut() {
            if row.held.is_some_and(|(owner, _)| owner == relay.owner) {
                row.held = None;
            }
        }
        Ok(())
    }
}

impl LeaseRow {
    /// Whether a fenced write of this owner may happen.
    pub(super) fn stands(&self, owner: Uuid, lease: &Lease) -> bool {
        self.epoch == lease.epoch && self.held.is_some_and(|(holder, _)| holder == owner)
    }
}

use outbox_core::ports::{Heartbeat, Lease, RelayId, ShardId};
use uuid::Uuid;

use super::{Database, LeaseRow, Micros, RelayRow};

impl Database {
    pub(in crate::simulation) fn heartbeat(
        &mut self,
        relay: &RelayId,
        lease: Micros,
        accepting: bool,
        now: Micros,
    ) -> Heartbeat {
        self.relays.insert(relay.owner, RelayRow { seen_at: now, accepting });
        let mut held = Vec::new();
        for (shard, row) in numbered(&mut self.leases) {
            if row.owner == Some(relay.owner) && row.expires_at > now {
                row.expires_at = now + lease;
                held.push(row.lease(shard));
            }
        }
        let accepting_relays =
            self.relays.values().filter(|relay| relay.accepting && relay.seen_at > now - lease).count();
        Heartbeat { held, accepting_relays }
    }

    pub(in crate::simulation) fn acquire(
        &mut self,
        relay: &RelayId,
        lease: Micros,
        limit: usize,
        now: Micros,
    ) -> Vec<Lease> {
        let free = numbered(&mut self.leases).filter(|(_, row)| row.owner.is_none() || row.expires_at <= now);
        free.take(limit)
            .map(|(shard, row)| {
                row.owner = Some(relay.owner);
                row.epoch += 1;
                row.expires_at = now + lease;
                row.lease(shard)
            })
            .collect()
    }

    pub(in crate::simulation) fn release(&mut self, relay: &RelayId, leases: &[Lease]) {
        for lease in leases {
            if self.owns(relay.owner, lease) {
                self.leases[usize::from(lease.shard.0)].owner = None;
            }
        }
    }

    pub(in crate::simulation) fn resign(&mut self, relay: &RelayId) {
        self.relays.remove(&relay.owner);
        for row in self.leases.iter_mut().filter(|row| row.owner == Some(relay.owner)) {
            row.owner = None;
        }
    }

    /// What a fenced statement checks.
    pub(in crate::simulation) fn owns(&self, owner: Uuid, lease: &Lease) -> bool {
        let row = self.leases.get(usize::from(lease.shard.0));
        row.is_some_and(|row| row.owner == Some(owner) && row.epoch == lease.epoch)
    }
}

impl LeaseRow {
    fn lease(&self, shard: ShardId) -> Lease {
        Lease { shard, epoch: self.epoch, control_version: self.control_version }
    }
}

fn numbered(leases: &mut [LeaseRow]) -> impl Iterator<Item = (ShardId, &mut LeaseRow)> {
    (0u16..).map(ShardId).zip(leases)
}

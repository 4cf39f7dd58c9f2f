use async_trait::async_trait;
use outbox_core::order::Horizon;
use outbox_core::ports::{
    Backlog, Burial, FailureMark, Fenced, Lease, ParkedKey, Position, Settler, ShardId, StorageError, StorageErrorKind,
};
use std::sync::PoisonError;
use uuid::Uuid;

use super::SimStorage;
use crate::simulation::Defect;
use crate::simulation::scenario::{OrderRule, Scenario};
use crate::simulation::world::State;

#[async_trait]
impl Settler for SimStorage {
    async fn settle(&self, delivered: &[Position]) -> Result<(), StorageError> {
        let (world, relay) = (self.client.world.clone(), self.client.relay);
        let (delivered, last_seq) = (delivered.to_vec(), self.shared.last_seq());
        let delete = async move {
            let next_xid = world.step(|state| {
                state.database.begin_removal(&delivered);
                state.database.begin_xid()
            });
            let until_commit = world.roll(|dice| dice.millis(0, 4));
            tokio::time::sleep(until_commit).await;
            world.step(|state| {
                state.database.end_removal(&delivered);
                state.database.end_xid(next_xid);
                if rolls_back(state, &world.scenario) {
                    return Err(StorageError::new(StorageErrorKind::Conflict, "settle: rolled back"));
                }
                let removed = state.database.delete(&delivered);
                state.ledger.settled(&removed);
                state.note(|| {
                    let seqs: Vec<i64> = removed.iter().map(|position| position.seq).collect();
                    format!("relay {relay} settled {seqs:?}")
                });
                Ok(Horizon { last_seq, next_xid })
            })
        };
        let horizon = self.client.call_long("settle", delete).await??;
        self.shared.advance(horizon);
        Ok(())
    }

    async fn retry_later(&self, owner: Uuid, lease: &Lease, mark: &FailureMark) -> Result<Fenced, StorageError> {
        let (lease, mark, relay) = (*lease, mark.clone(), self.client.relay);
        let unfenced = self.client.world.scenario.defect == Some(Defect::FailureMarkWithoutEpoch);
        let write = move |state: &mut State| {
            let owned = state.database.owns(owner, &lease);
            if !owned && !unfenced {
                return Fenced::Lost;
            }
            let now = state.clock();
            if state.database.mark_failed(&mark, now) {
                state.ledger.fenced_write(relay, owned, &mark.position);
                state.ledger.marked(&mark);
                state.note(|| format!("relay {relay} marked {} failed {}×", mark.position.seq, mark.attempts));
            }
            Fenced::Done
        };
        self.client.call("retry_later", write).await
    }

    async fn bury(&self, owner: Uuid, lease: &Lease, burial: &Burial) -> Result<Fenced, StorageError> {
        let (lease, burial, relay) = (*lease, burial.clone(), self.client.relay);
        let max_attempts = self.client.world.scenario.relay.max_attempts;
        let write = move |state: &mut State| {
            let owned = state.database.owns(owner, &lease);
            if !owned {
                return Fenced::Lost;
            }
            let now = state.clock();
            if state.database.bury(&burial, now) {
                state.ledger.fenced_write(relay, owned, &burial.position);
                state.ledger.buried(&burial, max_attempts);
                let (seq, park) = (burial.position.seq, burial.park_key);
                state.note(|| format!("relay {relay} buried {seq} ({}), parks: {park}", burial.reason.as_str()));
            }
            Fenced::Done
        };
        self.client.call("bury", write).await
    }

    async fn parked_keys(&self, shards: &[ShardId]) -> Result<Vec<ParkedKey>, StorageError> {
        let asked = shards.to_vec();
        let keys = self.client.call("parked_keys", move |state| state.database.parked_keys(&asked)).await?;
        self.client.world.step(|state| {
            state.ledger.read_parked(self.client.relay, shards, &keys);
            state.note(|| format!("relay {} read parked keys of {shards:?}: {keys:?}", self.client.relay));
        });
        if self.client.world.scenario.defect == Some(Defect::ParkedKeysReadOnce) {
            return Ok(self.first_answers(shards, &keys));
        }
        Ok(keys)
    }

    async fn backlog(&self) -> Result<Backlog, StorageError> {
        self.client.call("backlog", |state| state.database.backlog(state.clock())).await
    }
}

/// Whether a removal that a dirty read may have seen does not happen after all.
fn rolls_back(state: &mut State, scenario: &Scenario) -> bool {
    let may = scenario.order == OrderRule::DirtyReads && !state.calm;
    let rolls_back = may && state.dice.once_in(scenario.storage_fault_every);
    if rolls_back {
        state.ledger.fault(1);
        state.note(|| "a removal is rolled back".to_owned());
    }
    rolls_back
}

impl SimStorage {
    fn first_answers(&self, shards: &[ShardId], keys: &[ParkedKey]) -> Vec<ParkedKey> {
        let mut first = self.shared.first_parked.lock().unwrap_or_else(PoisonError::into_inner);
        for &shard in shards {
            if !first.iter().any(|(known, _)| *known == shard) {
                first.push((shard, keys.iter().filter(|key| key.shard == shard).copied().collect()));
            }
        }
        first.iter().filter(|(shard, _)| shards.contains(shard)).flat_map(|(_, keys)| keys.iter().copied()).collect()
    }
}

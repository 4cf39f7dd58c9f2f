//! The modelled database is held to the same contract as every adapter: a simulation over a storage that is wrong
//! proves nothing.

use std::sync::Arc;

use async_trait::async_trait;
use outbox_core::message::{Headers, Message, NewMessage};
use outbox_core::ports::{ShardId, Storage};
use time::OffsetDateTime;

use super::database::{Micros, Row, Transaction, timestamp};
use super::scenario::{OrderRule, Scenario};
use super::storage::SimStorage;
use super::world::World;
use crate::BoxError;
use crate::storage_suite::{self, PendingRow, StorageFixture, TestDatabase, TestTransaction};

#[test]
fn the_modelled_database_with_snapshots_passes_the_storage_suite() {
    passes(OrderRule::Snapshots);
}

#[test]
fn the_modelled_database_with_dirty_reads_passes_the_storage_suite() {
    passes(OrderRule::DirtyReads);
}

fn passes(rule: OrderRule) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime without I/O").block_on(storage_suite::run(&Fixture(rule)));
}

struct Fixture(OrderRule);

#[async_trait]
impl StorageFixture for Fixture {
    async fn fresh(&self) -> Result<Box<dyn TestDatabase>, BoxError> {
        let mut scenario = Scenario::of_seed(1, None);
        (scenario.order, scenario.shards, scenario.storage_fault_every) = (self.0, 4, 0);
        let world = World::new(scenario, false);
        let storage = Arc::new(SimStorage::new(world.clone(), 0));
        Ok(Box::new(Modelled { world, storage }))
    }
}

struct Modelled {
    world: Arc<World>,
    storage: Arc<SimStorage>,
}

#[async_trait]
impl TestDatabase for Modelled {
    fn storage(&self) -> Arc<dyn Storage> {
        self.storage.clone()
    }

    async fn begin(&self) -> Result<Box<dyn TestTransaction>, BoxError> {
        Ok(Box::new(Open { world: self.world.clone(), transaction: Some(Transaction::default()) }))
    }

    fn concurrent_writers(&self) -> bool {
        true
    }

    async fn now(&self) -> Result<OffsetDateTime, BoxError> {
        Ok(timestamp(self.world.lock().clock()))
    }

    async fn pending(&self) -> Result<Vec<PendingRow>, BoxError> {
        let state = self.world.lock();
        let pending = state.database.rows().map(|Row { message, .. }| PendingRow {
            shard: message.shard,
            seq: message.seq,
            id: message.id,
            attempts: message.attempts,
        });
        Ok(pending.collect())
    }

    async fn drop_database(self: Box<Self>) -> Result<(), BoxError> {
        Ok(())
    }
}

struct Open {
    world: Arc<World>,
    transaction: Option<Transaction>,
}

impl Open {
    fn take(&mut self) -> Transaction {
        self.transaction.take().unwrap_or_default()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let transaction = self.take();
        self.world.lock().database.roll_back(transaction);
    }
}

#[async_trait]
impl TestTransaction for Open {
    async fn append(&mut self, message: &NewMessage) -> Result<(), BoxError> {
        let Some(transaction) = &mut self.transaction else { return Err("the transaction has ended".into()) };
        let mut state = self.world.lock();
        let row = row(message, timestamp(state.clock()));
        let place = state.database.insert(transaction, row);
        state.database.appear(place);
        Ok(())
    }

    async fn commit(mut self: Box<Self>) -> Result<(), BoxError> {
        let transaction = self.take();
        self.world.lock().database.commit(transaction);
        Ok(())
    }

    async fn rollback(mut self: Box<Self>) -> Result<(), BoxError> {
        let transaction = self.take();
        self.world.lock().database.roll_back(transaction);
        Ok(())
    }
}

fn row(message: &NewMessage, now: OffsetDateTime) -> Row {
    let available_at = message.available_at.map(|at| Micros::try_from(at.unix_timestamp_nanos() / 1000).unwrap_or(0));
    let message = Message {
        id: message.id,
        shard: ShardId(0),
        seq: 0,
        aggregate_type: message.aggregate_type.clone(),
        aggregate_id: message.aggregate_id.clone(),
        event_type: message.event_type.clone(),
        payload: message.payload.clone(),
        content_type: message.content_type.clone(),
        headers: Headers::from_map(&message.headers),
        occurred_at: message.occurred_at.unwrap_or(now).to_offset(time::UtcOffset::UTC),
        attempts: 0,
    };
    Row { message, available_at, retry_at: None, undecodable: false }
}

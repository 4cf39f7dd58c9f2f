use std::sync::Arc;

use async_trait::async_trait;
use outbox_core::message::NewMessage;
use outbox_core::ports::Storage;
use time::OffsetDateTime;

use super::{MemoryStorage, MemoryTransaction};
use crate::BoxError;
use crate::storage_suite::{PendingRow, StorageFixture, TestDatabase, TestTransaction};

impl MemoryStorage {
    /// A fixture of the conformance suite whose databases have this many shards.
    pub fn fixture(shards: u16) -> impl StorageFixture {
        Fixture { shards }
    }
}

struct Fixture {
    shards: u16,
}

#[async_trait]
impl StorageFixture for Fixture {
    async fn fresh(&self) -> Result<Box<dyn TestDatabase>, BoxError> {
        Ok(Box::new(MemoryStorage::new(self.shards)))
    }
}

#[async_trait]
impl TestDatabase for MemoryStorage {
    fn storage(&self) -> Arc<dyn Storage> {
        Arc::new(self.clone())
    }

    async fn begin(&self) -> Result<Box<dyn TestTransaction>, BoxError> {
        Ok(Box::new(MemoryStorage::begin(self)))
    }

    fn concurrent_writers(&self) -> bool {
        true
    }

    async fn now(&self) -> Result<OffsetDateTime, BoxError> {
        Ok(MemoryStorage::now(self))
    }

    async fn pending(&self) -> Result<Vec<PendingRow>, BoxError> {
        let messages = MemoryStorage::pending(self).into_iter();
        Ok(messages
            .map(|message| PendingRow {
                shard: message.shard,
                seq: message.seq,
                id: message.id,
                attempts: message.attempts,
            })
            .collect())
    }

    async fn drop_database(self: Box<Self>) -> Result<(), BoxError> {
        Ok(())
    }
}

#[async_trait]
impl TestTransaction for MemoryTransaction {
    async fn append(&mut self, message: &NewMessage) -> Result<(), BoxError> {
        MemoryTransaction::append(self, message)?;
        Ok(())
    }

    async fn commit(self: Box<Self>) -> Result<(), BoxError> {
        MemoryTransaction::commit(*self);
        Ok(())
    }

    async fn rollback(self: Box<Self>) -> Result<(), BoxError> {
        Ok(())
    }
}

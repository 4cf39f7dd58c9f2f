use std::sync::Arc;

use async_trait::async_trait;
use time::OffsetDateTime;

use super::{MemoryConnection, MemoryInbox};
use crate::BoxError;
use crate::inbox_storage_suite::{InboxDatabase, InboxStorageFixture};

impl MemoryInbox {
    /// A fixture of the conformance suite.
    pub fn fixture() -> impl InboxStorageFixture<Storage = Self> {
        Fixture
    }
}

struct Fixture;

#[async_trait]
impl InboxStorageFixture for Fixture {
    type Storage = MemoryInbox;

    async fn fresh(&self) -> Result<Box<dyn InboxDatabase<MemoryInbox>>, BoxError> {
        Ok(Box::new(MemoryInbox::new()))
    }
}

#[async_trait]
impl InboxDatabase<MemoryInbox> for MemoryInbox {
    fn storage(&self) -> Arc<MemoryInbox> {
        Arc::new(self.clone())
    }

    fn concurrent_transactions(&self) -> bool {
        true
    }

    async fn apply(&self, connection: &mut MemoryConnection, effect: &str) -> Result<(), BoxError> {
        Ok(connection.write(effect).await?)
    }

    async fn touch(&self, connection: &mut MemoryConnection, row: u8) -> Result<(), BoxError> {
        Ok(connection.add(&row.to_string(), 1).await?)
    }

    async fn swallow_an_error(&self, connection: &mut MemoryConnection) {
        connection.ruin();
    }

    async fn effects(&self) -> Result<Vec<String>, BoxError> {
        Ok(MemoryInbox::effects(self))
    }

    async fn age(&self, by: time::Duration) -> Result<(), BoxError> {
        self.state().tables.messages.values_mut().for_each(|row| row.processed_at -= by);
        Ok(())
    }

    async fn now(&self) -> Result<OffsetDateTime, BoxError> {
        Ok(MemoryInbox::now(self))
    }

    async fn drop_database(self: Box<Self>) -> Result<(), BoxError> {
        Ok(())
    }
}

use async_trait::async_trait;
use outbox_core::ports::{Admin, DeadLetter, StorageError};
use uuid::Uuid;

use super::SimStorage;

#[async_trait]
impl Admin for SimStorage {
    async fn dead_letters(&self, after_seq: i64, limit: usize) -> Result<Vec<DeadLetter>, StorageError> {
        self.client.call("dead_letters", move |state| state.database.dead_letters(after_seq, limit)).await
    }

    async fn replay(&self, id: Uuid) -> Result<bool, StorageError> {
        self.client.call("replay", move |state| state.replay(id)).await
    }

    async fn discard(&self, id: Uuid) -> Result<bool, StorageError> {
        self.client.call("discard", move |state| state.discard(id)).await
    }

    async fn park(&self, aggregate_type: &str, aggregate_id: &str) -> Result<bool, StorageError> {
        let key = (aggregate_type.to_owned(), aggregate_id.to_owned());
        self.client.call("park", move |state| state.database.park(key)).await
    }

    async fn unpark(&self, aggregate_type: &str, aggregate_id: &str) -> Result<bool, StorageError> {
        let key = (aggregate_type.to_owned(), aggregate_id.to_owned());
        self.client.call("unpark", move |state| state.unpark(&key)).await
    }
}

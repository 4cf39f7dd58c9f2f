//! The storage passes the conformance suite: this fixture is all that it takes.

use std::sync::Arc;

use async_trait::async_trait;
use example_custom_storage::JsonFileStorage;
use outbox_core::NewMessage;
use outbox_core::ports::{ShardId, Storage};
use outbox_testkit::BoxError;
use outbox_testkit::storage_suite::{self, PendingRow, StorageFixture, TestDatabase, TestTransaction};
use tempfile::TempDir;
use time::OffsetDateTime;

#[tokio::test]
async fn the_json_file_storage_passes_the_conformance_suite() {
    storage_suite::run(&JsonFiles).await;
}

#[tokio::test]
async fn what_was_appended_is_there_when_the_file_is_opened_again() {
    let folder = TempDir::new().expect("a temporary folder");
    let message = NewMessage::new("order", "order.placed", b"{}".to_vec()).aggregate_id("7");
    let storage = JsonFileStorage::open(&folder.path().join("outbox.json")).expect("a new file");
    storage.append(std::slice::from_ref(&message)).expect("append");
    drop(storage);
    let storage = JsonFileStorage::open(&folder.path().join("outbox.json")).expect("the file");
    assert_eq!(storage.pending(), [(1, message.id, 0)]);
}

#[test]
fn a_file_that_holds_something_else_is_refused() {
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().join("outbox.json");
    std::fs::write(&path, "[1, 2, 3]").expect("a file");
    let error = JsonFileStorage::open(&path).expect_err("no outbox");
    assert!(error.to_string().ends_with("outbox.json holds no outbox: name another file"), "{error}");
}

struct JsonFiles;

#[async_trait]
impl StorageFixture for JsonFiles {
    async fn fresh(&self) -> Result<Box<dyn TestDatabase>, BoxError> {
        let folder = TempDir::new()?;
        let storage = JsonFileStorage::open(&folder.path().join("outbox.json"))?;
        Ok(Box::new(JsonFile { storage, folder }))
    }
}

struct JsonFile {
    storage: JsonFileStorage,
    folder: TempDir,
}

#[async_trait]
impl TestDatabase for JsonFile {
    fn storage(&self) -> Arc<dyn Storage> {
        Arc::new(self.storage.clone())
    }

    async fn begin(&self) -> Result<Box<dyn TestTransaction>, BoxError> {
        Ok(Box::new(Transaction { storage: self.storage.clone(), messages: Vec::new() }))
    }

    fn concurrent_writers(&self) -> bool {
        true
    }

    async fn now(&self) -> Result<OffsetDateTime, BoxError> {
        Ok(OffsetDateTime::now_utc())
    }

    async fn pending(&self) -> Result<Vec<PendingRow>, BoxError> {
        let rows = self.storage.pending().into_iter();
        Ok(rows.map(|(seq, id, attempts)| PendingRow { shard: ShardId(0), seq, id, attempts }).collect())
    }

    async fn drop_database(self: Box<Self>) -> Result<(), BoxError> {
        Ok(self.folder.close()?)
    }
}

/// Dropping it forgets the messages, which rolls them back.
struct Transaction {
    storage: JsonFileStorage,
    messages: Vec<NewMessage>,
}

#[async_trait]
impl TestTransaction for Transaction {
    async fn append(&mut self, message: &NewMessage) -> Result<(), BoxError> {
        self.messages.push(message.clone());
        Ok(())
    }

    async fn commit(self: Box<Self>) -> Result<(), BoxError> {
        Ok(self.storage.append(&self.messages)?)
    }

    async fn rollback(self: Box<Self>) -> Result<(), BoxError> {
        Ok(())
    }
}

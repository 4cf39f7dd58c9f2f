//! SQLite databases of their own, in temporary folders.

use diesel::connection::SimpleConnection;
use diesel::{RunQueryDsl, SqliteConnection};
use outbox_core::NewMessage;
use outbox_core::ports::{Batch, Burial, DeadReason, Lease, Position, ReadLimits, Reader, RelayId, ShardId, Storage};
use outbox_diesel::sqlite::{SqliteOutbox, SqliteStorage, establish_sync};
use outbox_diesel::{Tables, migrations};
use outbox_testkit::BoxError;
use tempfile::TempDir;
use uuid::Uuid;

/// A folder with a migrated database.
pub struct Database {
    folder: TempDir,
    pub tables: Tables,
}

impl Database {
    pub fn new() -> Self {
        Self::with_tables(Tables::default())
    }

    pub fn with_tables(tables: Tables) -> Self {
        let database = Self { folder: tempfile::tempdir().unwrap(), tables };
        migrations::sqlite::up_sync(&mut database.connect(), &database.tables, migrations::EXPECTED_VERSION).unwrap();
        database
    }

    pub fn path(&self) -> String {
        self.folder.path().join("orders.db").to_str().unwrap().to_owned()
    }

    pub fn connect(&self) -> SqliteConnection {
        establish_sync(self.path()).unwrap()
    }

    pub async fn storage(&self) -> SqliteStorage {
        SqliteStorage::builder(self.path()).tables(self.tables.clone()).connect().await.unwrap()
    }

    pub fn remove(self) -> Result<(), BoxError> {
        Ok(self.folder.close()?)
    }

    /// Appends a message of key `order`/`key` in a transaction of its own.
    pub fn append(&self, key: &str) -> Uuid {
        let message = NewMessage::new("order", "order.placed", b"{}".to_vec()).aggregate_id(key);
        SqliteOutbox::new(self.tables.clone()).unwrap().append_sync(&mut self.connect(), &message).unwrap()
    }

    pub fn count(&self, sql: &str) -> i64 {
        diesel::sql_query(sql).get_result::<Count>(&mut self.connect()).unwrap().n
    }

    pub fn execute(&self, sql: &str) {
        self.connect().batch_execute(sql).unwrap();
    }
}

#[derive(diesel::QueryableByName)]
struct Count {
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    n: i64,
}

pub const LIMITS: ReadLimits = ReadLimits { rows: 100, bytes: 1 << 20, max_message_bytes: 1 << 20 };

/// A reader with the one shard, at the bottom.
pub async fn reader(storage: &SqliteStorage) -> Box<dyn Reader> {
    let mut reader = storage.reader().await.unwrap();
    reader.assign(&[ShardId(0)]);
    reader
}

/// What a reader at the bottom finds in one read.
pub async fn read_all(storage: &SqliteStorage) -> Batch {
    reader(storage).await.read(&LIMITS).await.unwrap()
}

/// Owns the shard for a minute.
pub async fn own(storage: &SqliteStorage) -> (Uuid, Lease) {
    let relay = RelayId { owner: Uuid::new_v4(), name: "test".to_owned() };
    let leases = storage.leases().acquire(&relay, std::time::Duration::from_secs(60), 1).await.unwrap();
    (relay.owner, leases[0])
}

pub fn burial(position: Position, reason: DeadReason) -> Burial {
    Burial { position, attempts: 1, reason, error: "refused".to_owned(), outcome_unknown: false, park_key: false }
}

//! Up, down and back, beside an outbox in the same file.

use outbox_core::inbox::{Fate, InboxStorage, InboxTransaction};
use outbox_core::ports::StorageErrorKind;
use outbox_diesel::inbox::InboxTables;
use outbox_diesel::inbox::migrations::{EXPECTED_INBOX_VERSION, sqlite};
use outbox_diesel::migrations::{MigrationError, PendingRows};
use outbox_diesel::sqlite::establish;
use outbox_diesel::{Tables, migrations};

use crate::database::{Database, LIMITS, aside, candidate, consumer};

#[tokio::test(flavor = "multi_thread")]
async fn the_inbox_goes_up_and_down_beside_an_outbox() {
    let tables = InboxTables::new(None, "in_").unwrap();
    let database = Database::empty(tables.clone());
    let mut connection = establish(database.path()).await.unwrap();
    let outbox = Tables::new(None, "out_").unwrap();
    migrations::sqlite::up(&mut connection, &outbox, migrations::EXPECTED_VERSION).await.unwrap();

    let missing = database.storage().check().await.unwrap_err();
    assert_eq!(missing.kind(), StorageErrorKind::Refused);
    assert!(missing.to_string().contains("no inbox tables"), "{missing}");
    for _ in 0..2 {
        let up = sqlite::up(&mut connection, &tables, EXPECTED_INBOX_VERSION).await.unwrap();
        assert_eq!(up.len(), 1);
        assert!(sqlite::up(&mut connection, &tables, EXPECTED_INBOX_VERSION).await.unwrap().is_empty());
        let status = sqlite::status(&mut connection, &tables).await.unwrap();
        assert!(status.iter().all(|row| row.applied_at.is_some()), "{status:?}");
        sqlite::verify(&mut connection, &tables).await.unwrap();
        assert!(database.storage().check().await.unwrap().server.starts_with("SQLite 3."));
        sqlite::down(&mut connection, &tables, 0, PendingRows::Keep).await.unwrap();
    }
    assert_eq!(database.number("SELECT count(*) FROM sqlite_master WHERE name LIKE 'in\\_%' ESCAPE '\\'"), 0);
    migrations::sqlite::verify(&mut connection, &outbox).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn going_down_over_a_held_message_is_refused() {
    let database = Database::create();
    let storage = database.storage();
    let mut transaction = storage.begin(&consumer(), &LIMITS).await.unwrap();
    transaction.admit(&[candidate("1")]).await.unwrap();
    transaction.put_aside(&[aside("1", Fate::Received)]).await.unwrap();
    transaction.commit().await.unwrap();
    let mut connection = database.connection();
    let error = sqlite::down_sync(&mut connection, &database.tables, 0, PendingRows::Keep).unwrap_err();
    assert!(matches!(error, MigrationError::NotEmpty { pending: 1, dead_letters: 0 }), "{error}");
    sqlite::down_sync(&mut connection, &database.tables, 0, PendingRows::Delete).unwrap();
}

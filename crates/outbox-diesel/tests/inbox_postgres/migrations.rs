//! Up, down and back, beside an outbox in the same database.

use outbox_core::inbox::{Fate, InboxStorage, InboxTransaction};
use outbox_core::ports::StorageErrorKind;
use outbox_diesel::inbox::InboxTables;
use outbox_diesel::inbox::migrations::{EXPECTED_INBOX_VERSION, postgres};
use outbox_diesel::migrations::{MigrationError, PendingRows};
use outbox_diesel::{Tables, migrations};

use crate::consumers::{aside, candidate};
use crate::database::{Database, LIMITS, consumer};

#[tokio::test]
async fn the_inbox_goes_up_and_down_beside_an_outbox() {
    let tables = InboxTables::new(Some("billing"), "in_").unwrap();
    let database = Database::empty(tables.clone()).await;
    let mut connection = database.connection().await;
    let outbox = Tables::new(Some("billing"), "out_").unwrap();
    migrations::postgres::up(&mut connection, &outbox, migrations::EXPECTED_VERSION).await.unwrap();

    let missing = database.storage().check().await.unwrap_err();
    assert_eq!(missing.kind(), StorageErrorKind::Refused);
    assert!(missing.to_string().contains("no inbox tables"), "{missing}");
    for _ in 0..2 {
        let up = postgres::up(&mut connection, &tables, EXPECTED_INBOX_VERSION).await.unwrap();
        assert_eq!(up.len(), 1);
        assert!(postgres::up(&mut connection, &tables, EXPECTED_INBOX_VERSION).await.unwrap().is_empty());
        let status = postgres::status(&mut connection, &tables).await.unwrap();
        assert!(status.iter().all(|row| row.applied_at.is_some()), "{status:?}");
        assert!(database.storage().check().await.unwrap().server.starts_with("PostgreSQL 1"));
        postgres::down(&mut connection, &tables, 0, PendingRows::Keep).await.unwrap();
    }
    let left = "SELECT count(*) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace \
        WHERE n.nspname = 'billing' AND c.relname LIKE 'in\\_%'";
    assert_eq!(database.number(left).await, 0);
    migrations::postgres::verify(&mut connection, &outbox).await.unwrap();
}

#[tokio::test]
async fn going_down_over_a_held_message_is_refused() {
    let database = Database::create().await;
    let storage = database.storage();
    let mut transaction = storage.begin(&consumer(), &LIMITS).await.unwrap();
    transaction.admit(&[candidate("1")]).await.unwrap();
    transaction.put_aside(&[aside("1", Fate::Received)]).await.unwrap();
    transaction.commit().await.unwrap();
    let mut connection = database.connection().await;
    let error = postgres::down(&mut connection, &database.tables, 0, PendingRows::Keep).await.unwrap_err();
    assert!(matches!(error, MigrationError::NotEmpty { pending: 1, dead_letters: 0 }), "{error}");
    postgres::down(&mut connection, &database.tables, 0, PendingRows::Delete).await.unwrap();
}

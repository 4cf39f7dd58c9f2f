//! Up, down and back, beside an outbox in the same database.

use diesel_async::SimpleAsyncConnection;
use outbox_core::inbox::{Fate, InboxStorage, InboxTransaction};
use outbox_core::ports::StorageErrorKind;
use outbox_diesel::inbox::migrations::{EXPECTED_INBOX_VERSION, mysql, print_down, print_up};
use outbox_diesel::migrations::{Backend, MigrationError, PendingRows};
use outbox_diesel::{Tables, migrations};

use crate::consumers::{aside, candidate};
use crate::database::{Database, LIMITS, consumer, elsewhere};

#[tokio::test]
async fn the_inbox_goes_up_and_down_beside_an_outbox() {
    let tables = elsewhere();
    let database = Database::empty(tables.clone()).await;
    let mut connection = database.connection().await;
    let outbox = Tables::new(tables.schema(), "out_").unwrap();
    migrations::mysql::up(&mut connection, &outbox, migrations::EXPECTED_VERSION).await.unwrap();

    let missing = database.storage().check().await.unwrap_err();
    assert_eq!(missing.kind(), StorageErrorKind::Refused);
    assert!(missing.to_string().contains("no inbox tables"), "{missing}");
    for _ in 0..2 {
        let up = mysql::up(&mut connection, &tables, EXPECTED_INBOX_VERSION).await.unwrap();
        assert_eq!(up.len(), 1);
        assert!(mysql::up(&mut connection, &tables, EXPECTED_INBOX_VERSION).await.unwrap().is_empty());
        let status = mysql::status(&mut connection, &tables).await.unwrap();
        assert!(status.iter().all(|row| row.applied_at.is_some() && row.unfinished.is_none()), "{status:?}");
        let server = database.storage().check().await.unwrap().server;
        assert!(server.starts_with("MariaDB ") || server.starts_with("MySQL "), "{server}");
        mysql::down(&mut connection, &tables, 0, PendingRows::Keep).await.unwrap();
    }
    let left = format!(
        "SELECT count(*) FROM information_schema.tables WHERE table_schema = '{}' AND table_name LIKE 'in\\_%'",
        tables.schema().unwrap()
    );
    assert_eq!(database.number(&left).await, 0);
    migrations::mysql::verify(&mut connection, &outbox).await.unwrap();
}

#[tokio::test]
async fn a_migration_that_stopped_half_way_is_refused_and_goes_on() {
    let database = Database::create().await;
    let mut connection = database.connection().await;
    let stopped = "DROP TABLE inbox_positions; DROP TABLE inbox_horizons; \
        UPDATE inbox_schema SET applied_at = NULL, direction = 'up', step = 3";
    connection.batch_execute(stopped).await.unwrap();
    let refused = database.storage().check().await.unwrap_err();
    assert_eq!(refused.kind(), StorageErrorKind::Refused);
    assert!(refused.to_string().contains("up stopped after 3 of 6 statements"), "{refused}");
    let status = mysql::status(&mut connection, &database.tables).await.unwrap();
    assert_eq!(status[0].unfinished.map(|at| (at.done, at.of)), Some((3, 6)));
    mysql::up(&mut connection, &database.tables, EXPECTED_INBOX_VERSION).await.unwrap();
    database.storage().check().await.unwrap();

    connection
        .batch_execute(
            "DROP TABLE inbox_horizons; UPDATE inbox_schema SET applied_at = NULL, direction = 'down', step = 1",
        )
        .await
        .unwrap();
    let up = mysql::up(&mut connection, &database.tables, EXPECTED_INBOX_VERSION).await.unwrap_err();
    assert!(matches!(up, MigrationError::HalfReverted { version: 1, .. }), "{up}");
    mysql::down(&mut connection, &database.tables, 0, PendingRows::Keep).await.unwrap();
    assert_eq!(database.number("SELECT count(*) FROM information_schema.tables WHERE table_schema = database() AND table_name LIKE 'inbox%'").await, 0);
}

#[tokio::test]
async fn a_table_that_no_migration_made_is_left_alone() {
    let database = Database::empty(Default::default()).await;
    database.batch("CREATE TABLE inbox_held (n int)").await;
    let mut connection = database.connection().await;
    let error = mysql::up(&mut connection, &database.tables, EXPECTED_INBOX_VERSION).await.unwrap_err();
    assert!(matches!(error, MigrationError::TableExists { .. }) && error.to_string().contains("inbox_held"), "{error}");
}

#[tokio::test]
async fn what_is_printed_makes_the_same_schema() {
    let database = Database::empty(Default::default()).await;
    let mut connection = database.connection().await;
    let up = print_up(Backend::Mysql, &database.tables, 0, EXPECTED_INBOX_VERSION).unwrap();
    connection.batch_execute(&up).await.unwrap();
    database.storage().check().await.unwrap();
    let down = print_down(Backend::Mysql, &database.tables, EXPECTED_INBOX_VERSION, 0).unwrap();
    connection.batch_execute(&down).await.unwrap();
    assert_eq!(
        database.number("SELECT count(*) FROM information_schema.tables WHERE table_schema = database()").await,
        0
    );
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
    let error = mysql::down(&mut connection, &database.tables, 0, PendingRows::Keep).await.unwrap_err();
    assert!(matches!(error, MigrationError::NotEmpty { pending: 1, dead_letters: 0 }), "{error}");
    mysql::down(&mut connection, &database.tables, 0, PendingRows::Delete).await.unwrap();
}

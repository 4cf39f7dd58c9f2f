//! What handlers do with their transaction.

use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::sql_query;
use diesel_async::{AsyncConnection, RunQueryDsl, SimpleAsyncConnection};
use outbox_core::NewMessage;
use outbox_core::inbox::{Committed, Fate, InboxStorage, InboxTransaction, Standing};
use outbox_core::ports::StorageErrorKind;
use outbox_diesel::inbox::sqlite::SqliteInbox;
use outbox_diesel::sqlite::SqliteOutbox;
use outbox_diesel::{Tables, migrations};

use crate::database::{Database, LIMITS, apply, aside, candidate, consumer, try_apply};

async fn standing(storage: &SqliteInbox, id: &str) -> Standing {
    let mut look = storage.begin(&consumer(), &LIMITS).await.unwrap();
    let standing = look.admit(&[candidate(id)]).await.unwrap().standings[0];
    look.rollback().await;
    standing
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_a_handler_appends_commit_with_its_message() {
    let database = Database::create();
    let outbox_tables = Tables::default();
    migrations::sqlite::up_sync(&mut database.connection(), &outbox_tables, migrations::EXPECTED_VERSION).unwrap();
    let (storage, outbox) = (database.storage(), SqliteOutbox::default());
    for (id, commits) in [("1", false), ("2", true)] {
        let mut transaction = storage.begin(&consumer(), &LIMITS).await.unwrap();
        transaction.admit(&[candidate(id)]).await.unwrap();
        let event = NewMessage::new("invoice", "invoice.sent", id.as_bytes().to_vec()).aggregate_id(id);
        outbox.append(transaction.connection(), &event).await.unwrap();
        let again = NewMessage::new("invoice", "invoice.sent", id.as_bytes().to_vec()).aggregate_id(id);
        outbox.append_all(transaction.connection(), &[again]).await.unwrap();
        if commits {
            assert_eq!(transaction.commit().await.unwrap(), Committed::Done);
        } else {
            transaction.rollback().await;
        }
    }
    assert_eq!(database.lines("SELECT aggregate_id AS line FROM outbox_messages"), ["2", "2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_cannot_commit() {
    let database = Database::create();
    let storage = database.storage();
    for end in ["COMMIT", "END", "COMMIT; BEGIN", "COMMIT; BEGIN IMMEDIATE"] {
        let mut transaction = storage.begin(&consumer(), &LIMITS).await.unwrap();
        transaction.admit(&[candidate(end)]).await.unwrap();
        apply(transaction.connection(), end).await;
        let refused = transaction.connection().batch_execute(end).await.unwrap_err();
        assert!(refused.to_string().contains("FOREIGN KEY"), "{refused}");
        assert_eq!(database.number("SELECT count(*) FROM effects"), 0, "{end}");
        transaction.rollback().await;
        assert_eq!(standing(&storage, end).await, Standing::New);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_rollback_nothing_commits_by_itself() {
    let database = Database::create();
    database.batch("CREATE UNIQUE INDEX effects_once ON effects (effect)");
    let storage = database.storage();
    for end in
        ["ROLLBACK", "ROLLBACK; BEGIN", "ROLLBACK; BEGIN IMMEDIATE", "INSERT OR ROLLBACK INTO effects VALUES ('first')"]
    {
        let mut transaction = storage.begin(&consumer(), &LIMITS).await.unwrap();
        transaction.admit(&[candidate("1"), candidate("2")]).await.unwrap();
        apply(transaction.connection(), "first").await;
        let _ = transaction.connection().batch_execute(end).await;
        let error = try_apply(transaction.connection(), "after").await.unwrap_err();
        assert!(error.to_string().contains("the inbox's transaction has ended"), "{error}");
        assert!(transaction.connection().batch_execute("DELETE FROM balances").await.is_err());
        let query = sql_query("DELETE FROM balances RETURNING amount").execute(transaction.connection()).await;
        assert!(query.is_err());
        let aside = aside("2", Fate::Received);
        let error = transaction.put_aside(&[aside]).await.unwrap_err();
        assert_eq!(error.kind(), StorageErrorKind::Other, "{error}");
        assert_eq!(transaction.commit().await.expect("commit answers"), Committed::Broken, "{end}");
        assert_eq!(database.number("SELECT count(*) FROM effects"), 0, "{end}");
        assert_eq!(database.number("SELECT count(*) FROM balances"), 2, "{end}");
        assert_eq!(standing(&storage, "1").await, Standing::New);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_ends_the_transaction_and_leaves_nothing() {
    let database = Database::create();
    let full = database.builder().on_connect(|sqlite| sqlite.batch_execute("PRAGMA max_page_count = 1"));
    let full = full.build().unwrap(); // as many pages as the file has now
    let mut transaction = full.begin(&consumer(), &LIMITS).await.unwrap();
    transaction.admit(&[candidate("1")]).await.unwrap();
    let error = try_apply(transaction.connection(), &"x".repeat(1_000_000)).await.unwrap_err();
    assert!(error.to_string().contains("full"), "{error}");
    let after = try_apply(transaction.connection(), "after").await;
    let committed = transaction.commit().await.unwrap();
    if after.is_err() {
        assert_eq!(committed, Committed::Broken);
        assert_eq!(database.number("SELECT count(*) FROM effects"), 0);
    } else {
        // SQLite took back the statement alone: the transaction is whole
        assert_eq!(committed, Committed::Done);
    }
    let mut transaction = full.begin(&consumer(), &LIMITS).await.unwrap();
    transaction.admit(&[candidate("2")]).await.unwrap();
    let mut large = aside("2", Fate::Received);
    large.incoming.payload = Some(vec![0; 1_000_000].into());
    let error = transaction.put_aside(&[large]).await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Exhausted, "{error}");
    drop(transaction);
    assert_eq!(standing(&database.storage(), "2").await, Standing::New);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deferred_constraint_that_fails_at_the_commit_breaks_the_transaction() {
    let database = Database::create();
    database.batch(
        "CREATE TABLE payments (account TEXT NOT NULL REFERENCES balances (account) DEFERRABLE INITIALLY DEFERRED)",
    );
    let storage = database.storage();
    let mut transaction = storage.begin(&consumer(), &LIMITS).await.unwrap();
    transaction.admit(&[candidate("1")]).await.unwrap();
    transaction.connection().batch_execute("INSERT INTO payments VALUES ('nobody')").await.unwrap();
    assert_eq!(transaction.commit().await.expect("commit answers"), Committed::Broken);
    assert_eq!(standing(&storage, "1").await, Standing::New);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_leaves_a_savepoint_open_breaks_the_transaction() {
    let database = Database::create();
    let storage = database.storage();
    let mut transaction = storage.begin(&consumer(), &LIMITS).await.unwrap();
    transaction.admit(&[candidate("1")]).await.unwrap();
    let inner = transaction.connection().transaction(async |connection| {
        apply(connection, "half").await;
        std::future::pending::<Result<(), diesel::result::Error>>().await
    });
    assert!(tokio::time::timeout(Duration::from_millis(300), inner).await.is_err());
    assert_eq!(transaction.commit().await.expect("commit answers"), Committed::Broken);
    assert_eq!(database.number("SELECT count(*) FROM effects"), 0);
    // and savepoints that were closed are no harm
    let mut transaction = storage.begin(&consumer(), &LIMITS).await.unwrap();
    transaction.admit(&[candidate("1")]).await.unwrap();
    for (effect, stays) in [("gone", false), ("whole", true)] {
        let inner = transaction.connection().transaction(async |connection| {
            apply(connection, effect).await;
            if stays { Ok(()) } else { Err(diesel::result::Error::RollbackTransaction) }
        });
        assert_eq!(inner.await.is_ok(), stays);
    }
    assert_eq!(transaction.commit().await.unwrap(), Committed::Done);
    assert_eq!(database.lines("SELECT effect AS line FROM effects"), ["whole"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_removes_dedup_rows_breaks_the_transaction() {
    let database = Database::create();
    let storage = database.storage();
    let mut transaction = storage.begin(&consumer(), &LIMITS).await.unwrap();
    transaction.admit(&[candidate("1")]).await.unwrap();
    apply(transaction.connection(), "1").await;
    transaction.connection().batch_execute("DELETE FROM inbox_messages").await.unwrap();
    assert_eq!(transaction.commit().await.expect("commit answers"), Committed::Broken);
    assert_eq!(database.number("SELECT count(*) FROM effects"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_a_handler_gave_up_is_part_of_the_transaction() {
    let database = Database::create();
    let storage = database.storage();
    let mut transaction = storage.begin(&consumer(), &LIMITS).await.unwrap();
    transaction.admit(&[candidate("1")]).await.unwrap();
    let given_up = sql_query("INSERT INTO effects VALUES ('given up')").execute(transaction.connection());
    drop(given_up);
    apply(transaction.connection(), "after").await;
    assert_eq!(transaction.commit().await.unwrap(), Committed::Done);
    let effects = database.lines("SELECT effect AS line FROM effects ORDER BY effect");
    assert!(effects == ["after"] || effects == ["after", "given up"], "{effects:?}");
}

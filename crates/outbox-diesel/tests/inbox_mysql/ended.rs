//! Handlers that end the transaction, by themselves or through what they run.

use diesel_async::SimpleAsyncConnection;
use outbox_core::inbox::{Committed, InboxStorage, InboxTransaction, Standing};

use crate::consumers::{apply, candidate};
use crate::database::{Database, LIMITS, consumer};

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_commits_by_itself_is_found_out() {
    let database = Database::create().await;
    let storage = database.storage();
    for end in [
        "COMMIT",
        "ROLLBACK",
        "COMMIT; START TRANSACTION",
        "ROLLBACK; START TRANSACTION",
        "SET autocommit = 1",
        "CREATE TABLE by_a_handler (n int)",
    ] {
        let mut transaction = storage.begin(&consumer(), &LIMITS).await.unwrap();
        transaction.admit(&[candidate(end)]).await.unwrap();
        transaction.connection().batch_execute(end).await.unwrap();
        apply(transaction.connection(), end).await;
        assert_eq!(transaction.commit().await.expect("commit answers"), Committed::Broken, "{end}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_handler_set_does_not_spoil_the_next_transaction() {
    let database = Database::create().await;
    let storage = database.builder().pool_size(1).build().unwrap();
    let settings = "SET SESSION sql_select_limit = 1, sql_safe_updates = 1, completion_type = 1, \
        sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT', time_zone = '+05:00'; \
        SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ; SET NAMES latin1";
    let mut spoilt = storage.begin(&consumer(), &LIMITS).await.unwrap();
    spoilt.connection().batch_execute(settings).await.unwrap();
    spoilt.rollback().await;
    let ids = ["1", "2", "é '\"\\"];
    let mut transaction = storage.begin(&consumer(), &LIMITS).await.unwrap();
    let admission = transaction.admit(&ids.map(candidate)).await.unwrap();
    assert_eq!(admission.standings, [Standing::New; 3]);
    apply(transaction.connection(), "1").await;
    assert_eq!(transaction.commit().await.unwrap(), Committed::Done);
    let mut look = database.storage().begin(&consumer(), &LIMITS).await.unwrap();
    assert_eq!(look.admit(&ids.map(candidate)).await.unwrap().standings, [Standing::Processed; 3]);
    look.rollback().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_is_held_too_long_in_a_handler_is_a_conflict_and_rolls_back_whole() {
    use std::time::Duration;
    let database = Database::create().await;
    let storage = database.storage();
    let mut locker = database.connection().await;
    locker.batch_execute("BEGIN; UPDATE balances SET amount = 0 WHERE account = '0'").await.unwrap();
    let limits = outbox_core::inbox::TransactionLimits { lock: Duration::from_secs(1), ..LIMITS };
    let mut transaction = storage.begin(&consumer(), &limits).await.unwrap();
    transaction.admit(&[candidate("1")]).await.unwrap();
    apply(transaction.connection(), "half").await;
    let update = "UPDATE balances SET amount = amount + 1 WHERE account = '0'";
    let error = transaction.connection().batch_execute(update).await.unwrap_err();
    assert!(storage.is_conflict(&error), "{error}");
    transaction.rollback().await;
    locker.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(database.number("SELECT count(*) FROM effects").await, 0);
    assert_eq!(database.number("SELECT count(*) FROM inbox_messages").await, 0);
}

/// MariaDB ends such a transaction (error 1020) from 11.6 on, unless `innodb_snapshot_isolation` is off.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_changes_while_a_handler_s_statement_finds_it_is_locked_as_it_is_then() {
    let database = Database::create().await;
    let storage = database.storage();
    let name = &database.name;
    database.batch("INSERT INTO effects (effect) VALUES ('read first')").await;
    let mut other = database.connection().await;
    other.batch_execute(&format!("DO get_lock('{name}', 20)")).await.unwrap();

    let mut transaction = storage.begin(&consumer(), &LIMITS).await.unwrap();
    transaction.admit(&[candidate("1")]).await.unwrap();
    apply(transaction.connection(), "whole").await;
    let find_and_lock = format!(
        "SELECT b.amount FROM (SELECT get_lock('{name}', 20) AS held FROM effects LIMIT 1) AS f STRAIGHT_JOIN balances AS b \
         ON b.account = '0' AND f.held = 1 FOR UPDATE"
    );
    let changed = async {
        let list = database.processlist().await;
        let waiting = format!("SELECT count(*) FROM {list} WHERE db = '{name}' AND state = 'User lock'");
        database.until(&waiting, 1).await;
        database.batch("UPDATE balances SET amount = 7 WHERE account = '0'").await;
        other.batch_execute(&format!("DO release_lock('{name}')")).await.unwrap();
    };
    let (found, ()) = tokio::join!(transaction.connection().batch_execute(&find_and_lock), changed);
    found.expect("nothing is in the way");
    let add = "UPDATE balances SET amount = amount + 1 WHERE account = '0'";
    transaction.connection().batch_execute(add).await.unwrap();
    assert_eq!(transaction.commit().await.unwrap(), Committed::Done);
    assert_eq!(database.number("SELECT amount FROM balances WHERE account = '0'").await, 8);
    assert_eq!(database.number("SELECT count(*) FROM effects WHERE effect = 'whole'").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_takes_too_long_is_ended_by_the_server() {
    use std::time::{Duration, Instant};
    let database = Database::create().await;
    let storage = database.storage();
    let limits = outbox_core::inbox::TransactionLimits { statement: Duration::from_secs(1), ..LIMITS };
    let mut transaction = storage.begin(&consumer(), &limits).await.unwrap();
    transaction.admit(&[candidate("1")]).await.unwrap();
    let began = Instant::now();
    // on MySQL a sleep that is ended returns 1 and no error
    let slow = "SELECT count(*) FROM information_schema.columns AS a, information_schema.columns AS b, information_schema.columns AS c";
    let error = transaction.connection().batch_execute(slow).await.unwrap_err();
    assert!(!storage.is_conflict(&error), "{error}");
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    transaction.rollback().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_handler_appends_to_an_outbox_commits_with_its_message_or_not_at_all() {
    use outbox_core::NewMessage;
    use outbox_diesel::mysql::MysqlOutbox;
    use outbox_diesel::{Tables, migrations};

    let database = Database::create().await;
    let mut connection = database.connection().await;
    migrations::mysql::up(&mut connection, &Tables::default(), migrations::EXPECTED_VERSION).await.unwrap();
    let (storage, outbox) = (database.storage(), MysqlOutbox::new(Tables::default()));
    for (id, swallows) in [("lost", true), ("kept", false)] {
        let mut transaction = storage.begin(&consumer(), &LIMITS).await.unwrap();
        transaction.admit(&[candidate(id)]).await.unwrap();
        if swallows {
            transaction.connection().batch_execute("ROLLBACK").await.unwrap();
        }
        let event = NewMessage::new("invoice", "invoice.issued", id.as_bytes().to_vec());
        outbox.append(transaction.connection(), &event).await.unwrap();
        let committed = transaction.commit().await.unwrap();
        assert_eq!(committed, if swallows { Committed::Broken } else { Committed::Done });
    }
    let payloads = database.lines("SELECT CAST(payload AS char) AS line FROM outbox_messages").await;
    assert_eq!(payloads, ["kept"]);
}

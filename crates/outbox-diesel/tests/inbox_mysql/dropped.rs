//! Futures that are dropped: all of a transaction is there, or nothing.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use diesel_async::SimpleAsyncConnection;
use outbox_core::inbox::{Committed, Fate, InboxStorage, InboxTransaction, Standing};
use outbox_diesel::inbox::mysql::MysqlInbox;

use crate::consumers::{apply, aside, candidate};
use crate::database::{Database, LIMITS, consumer};

/// Processes one message and puts another one aside.
async fn process(storage: &MysqlInbox, id: &str) {
    let follower = format!("{id}-failed");
    let mut transaction = storage.begin(&consumer(), &LIMITS).await.expect("begin");
    transaction.admit(&[candidate(id), candidate(&follower)]).await.expect("admit");
    apply(transaction.connection(), id).await;
    let fate = Fate::Failed { attempts: 1, delay: Duration::from_secs(600), error: "refused".to_owned() };
    transaction.put_aside(&[aside(&follower, fate)]).await.expect("put_aside");
    assert_eq!(transaction.commit().await.expect("commit"), Committed::Done);
}

/// Drops the work when it has waited this often. Whether it came to its end.
async fn dropped_after(waits: usize, work: impl Future<Output = ()>) -> bool {
    let (mut work, mut left) = (Box::pin(work), waits);
    poll_fn(move |context| match work.as_mut().poll(context) {
        Poll::Ready(()) => Poll::Ready(true),
        Poll::Pending if left == 0 => Poll::Ready(false),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_is_dropped_at_any_await_is_there_as_a_whole_or_not_at_all() {
    let database = Database::create().await;
    let storage = database.storage();
    let (mut waits, mut nothing) = (0, 0);
    loop {
        let id = format!("id-{waits}");
        let finished = dropped_after(waits, process(&storage, &id)).await;
        // waits for the transaction that was dropped, if it is still there
        let mut look = storage.begin(&consumer(), &LIMITS).await.unwrap();
        let standing = look.admit(&[candidate(&id)]).await.unwrap().standings[0];
        look.rollback().await;
        let follower = format!("{id}-failed");
        let counts = database
            .number(&format!(
                "SELECT 1000 * (SELECT count(*) FROM effects WHERE effect = '{id}') \
                 + 100 * (SELECT count(*) FROM inbox_messages WHERE id = '{follower}' AND status = 'held') \
                 + 10 * (SELECT count(*) FROM inbox_held WHERE id = '{follower}') \
                 + (SELECT count(*) FROM inbox_parked_keys WHERE ordering_key = 'order/{follower}')"
            ))
            .await;
        match standing {
            Standing::New => assert_eq!(counts, 0, "dropped after {waits} waits"),
            Standing::Processed => assert_eq!(counts, 1111, "dropped after {waits} waits"),
            other => panic!("{other:?}"),
        }
        nothing += usize::from(standing == Standing::New);
        if finished {
            break;
        }
        waits += 1;
    }
    assert!(nothing > 5, "only {nothing} of {waits} were dropped in time");
    let open = format!(
        "SELECT count(*) FROM information_schema.innodb_trx AS t JOIN {} AS p ON p.id = t.trx_mysql_thread_id \
         WHERE p.db = '{}'",
        database.processlist().await,
        database.name
    );
    database.until(&open, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_hangs_is_dropped_with_its_connection() {
    let database = Database::create().await;
    let storage = database.builder().pool_size(1).build().unwrap();
    let mut transaction = storage.begin(&consumer(), &LIMITS).await.unwrap();
    transaction.admit(&[candidate("1")]).await.unwrap();
    let hanging = transaction.connection().batch_execute("DO sleep(15)");
    assert!(tokio::time::timeout(Duration::from_millis(200), hanging).await.is_err());
    drop(transaction);
    // the pool has one place only, and the next transaction must not wait behind the statement that hangs
    let began = std::time::Instant::now();
    let next = storage.begin(&consumer(), &LIMITS).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    next.rollback().await;
    // and the server has let go of what the transaction had locked
    let mut again = storage.begin(&consumer(), &LIMITS).await.unwrap();
    assert_eq!(again.admit(&[candidate("1")]).await.unwrap().standings, [Standing::New]);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    again.rollback().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_leaves_a_savepoint_open_breaks_the_transaction() {
    use diesel_async::AsyncConnection;
    let database = Database::create().await;
    let storage = database.storage();
    let mut transaction = storage.begin(&consumer(), &LIMITS).await.unwrap();
    transaction.admit(&[candidate("1")]).await.unwrap();
    let inner = transaction.connection().transaction(async |connection| {
        apply(connection, "half").await;
        std::future::pending::<Result<(), diesel::result::Error>>().await
    });
    assert!(tokio::time::timeout(Duration::from_millis(300), inner).await.is_err());
    assert_eq!(transaction.commit().await.expect("commit answers"), Committed::Broken);
    assert_eq!(database.number("SELECT count(*) FROM effects").await, 0);
    // and a savepoint that was closed is no harm
    let mut transaction = storage.begin(&consumer(), &LIMITS).await.unwrap();
    transaction.admit(&[candidate("1")]).await.unwrap();
    let inner = transaction.connection().transaction(async |connection| {
        apply(connection, "whole").await;
        Ok::<_, diesel::result::Error>(())
    });
    inner.await.unwrap();
    assert_eq!(transaction.commit().await.unwrap(), Committed::Done);
    assert_eq!(database.number("SELECT count(*) FROM effects").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_connections_are_replaced() {
    let database = Database::create().await;
    let storage = database.builder().build().unwrap();
    process(&storage, "1").await;
    storage.held().backlog(&consumer()).await.unwrap();
    database.kill_all().await;
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        assert!(std::time::Instant::now() < deadline, "the storage did not recover");
        let begun = storage.begin(&consumer(), &LIMITS).await;
        let counted = storage.held().backlog(&consumer()).await;
        if let (Ok(transaction), Ok(_)) = (begun, counted) {
            transaction.rollback().await;
            break;
        }
    }
    process(&storage, "2").await;
}

//! Consumers that want to write at the same time, in one program and in several.

use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use outbox_core::inbox::{ClaimToken, Committed, InboxStorage, InboxTransaction, Standing, TransactionLimits};
use outbox_core::ports::StorageErrorKind;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::database::{Database, LIMITS, apply, candidate, consumer};

const SHORT: TransactionLimits =
    TransactionLimits { statement: Duration::from_secs(20), lock: Duration::from_millis(200) };

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_four_consumers_get_at_once_are_applied_once() {
    const MESSAGES: usize = 300;
    let database = Database::create();
    let shared = database.storage();
    let mut tasks = JoinSet::new();
    for seed in 0..4 {
        // two of them as in one program, two as in programs of their own
        let storage = if seed < 2 { shared.clone() } else { database.storage() };
        tasks.spawn(async move {
            let mut ids: Vec<String> = (0..MESSAGES).map(|n| n.to_string()).collect();
            ids.shuffle(&mut StdRng::seed_from_u64(seed));
            for batch in ids.chunks(30) {
                let candidates: Vec<_> = batch.iter().map(|id| candidate(id)).collect();
                let mut transaction = storage.begin(&consumer(), &LIMITS).await.expect("begin");
                let standings = transaction.admit(&candidates).await.expect("admit").standings;
                for (id, standing) in batch.iter().zip(standings) {
                    match standing {
                        Standing::New => apply(transaction.connection(), id).await,
                        Standing::Processed => {}
                        other => panic!("{id} is {other:?}"),
                    }
                }
                assert_eq!(transaction.commit().await.expect("commit"), Committed::Done);
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no consumer fails");
    }
    assert_eq!(database.number("SELECT count(*) FROM effects"), MESSAGES as i64);
    assert_eq!(database.number("SELECT count(DISTINCT effect) FROM effects"), MESSAGES as i64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_waits_too_long_for_another_is_a_conflict() {
    let database = Database::create();
    let storage = database.storage();
    let mut first = storage.begin(&consumer(), &LIMITS).await.unwrap();
    first.admit(&[candidate("1")]).await.unwrap();
    for other in [storage.clone(), database.storage()] {
        let began = Instant::now();
        let error = other.begin(&consumer(), &SHORT).await.unwrap_err();
        assert_eq!(error.kind(), StorageErrorKind::Conflict, "{error}");
        assert!(storage.is_conflict(&error));
        assert!(began.elapsed() >= SHORT.lock && began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }
    assert_eq!(first.commit().await.unwrap(), Committed::Done);
    storage.begin(&consumer(), &SHORT).await.unwrap().rollback().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_programs_and_changes_beside_transactions_wait_for_the_lock_too() {
    let database = Database::create();
    let mut writer = database.connection();
    writer.batch_execute("BEGIN IMMEDIATE").unwrap();
    let patient = database.storage();
    let consumer = consumer();
    let begin = patient.begin(&consumer, &LIMITS);
    tokio::pin!(begin);
    assert!(tokio::time::timeout(Duration::from_millis(100), &mut begin).await.is_err(), "it did not wait");
    let hasty = database.builder().lock_timeout(Duration::from_millis(50)).build().unwrap();
    let error = hasty.admin().park(&consumer, &candidate("1").key.unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Conflict, "{error}");
    writer.batch_execute("ROLLBACK").unwrap();
    begin.await.unwrap().rollback().await;
    assert!(hasty.admin().park(&consumer, &candidate("1").key.unwrap()).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_does_not_wait_for_a_transaction() {
    let database = Database::create();
    let storage = database.storage();
    let mut open = storage.begin(&consumer(), &LIMITS).await.unwrap();
    open.admit(&[candidate("1")]).await.unwrap();
    let reads = async {
        storage.memory().now().await.unwrap();
        storage.memory().positions(&consumer()).await.unwrap();
        storage.held().backlog(&consumer()).await.unwrap();
        storage.admin().dead_letters(&consumer(), 0, 10).await.unwrap();
        let claim = ClaimToken(Uuid::new_v4());
        storage.held().claim(&consumer(), claim, Duration::from_secs(60), 10).await.unwrap()
    };
    let claimed = tokio::time::timeout(Duration::from_secs(10), reads).await.expect("nothing waits for the writer");
    assert!(claimed.is_empty());
    assert_eq!(open.commit().await.unwrap(), Committed::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_of_another_program_gets_in_between_the_transactions_of_a_busy_inbox() {
    const WRITES: usize = 40;
    let database = Database::create();
    database.batch("CREATE TABLE orders (id INTEGER PRIMARY KEY)");
    let storage = database.storage();
    let inbox = tokio::spawn(async move {
        for n in 0_u64.. {
            let mut transaction = storage.begin(&consumer(), &LIMITS).await.expect("begin");
            transaction.admit(&[candidate(&n.to_string())]).await.expect("admit");
            tokio::time::sleep(Duration::from_millis(30)).await; // what its handlers take
            assert_eq!(transaction.commit().await.expect("commit"), Committed::Done);
        }
    });
    let mut writer = database.connection();
    let writes = tokio::task::spawn_blocking(move || {
        (0..WRITES).try_for_each(|_| {
            std::thread::sleep(Duration::from_millis(10)); // the inbox has the lock again
            writer.batch_execute("INSERT INTO orders DEFAULT VALUES")
        })
    });
    writes.await.expect("the writer does not panic").expect("it never waits for as long as its busy_timeout, 5 s");
    inbox.abort();
    assert!(inbox.await.expect_err("it was stopped").is_cancelled());
    assert_eq!(database.number("SELECT count(*) FROM orders"), WRITES as i64);
}

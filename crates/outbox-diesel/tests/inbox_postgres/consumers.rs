//! Consumers that get the same messages at the same time.

use std::time::Duration;

use diesel::sql_types::Text;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use outbox_core::inbox::{
    Aside, Candidate, Committed, Fate, Identity, InboxStorage, InboxTransaction, Incoming, IncomingHeaders,
    OrderingKey, Partition, Standing, TransactionLimits,
};
use outbox_core::ports::StorageErrorKind;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use tokio::task::JoinSet;

use crate::database::{Database, LIMITS, consumer};

pub(crate) fn candidate(id: &str) -> Candidate {
    Candidate { identity: Identity::new("/shop", id).unwrap(), key: Some(OrderingKey::of("order", id.as_bytes())) }
}

pub(crate) fn aside(id: &str, fate: Fate) -> Aside {
    let Candidate { identity, key } = candidate(id);
    let incoming = Incoming {
        partition: Partition::new("order", 0),
        position: 1,
        key: None,
        headers: IncomingHeaders::default(),
        payload: None,
        timestamp: None,
        redelivered: false,
    };
    Aside { identity: Some(identity), key, incoming, fate }
}

pub(crate) async fn apply(connection: &mut AsyncPgConnection, effect: &str) {
    let insert = diesel::sql_query("INSERT INTO effects (effect) VALUES ($1)").bind::<Text, _>(effect);
    insert.execute(connection).await.expect("the effect is written");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_four_consumers_get_at_once_are_applied_once_without_a_deadlock() {
    const MESSAGES: usize = 300;
    let database = Database::create().await;
    let mut tasks = JoinSet::new();
    for seed in 0..4 {
        let storage = database.storage(); // a pool of its own, as in another process
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
    assert_eq!(database.number("SELECT count(*) FROM effects").await, MESSAGES as i64);
    assert_eq!(database.number("SELECT count(DISTINCT effect) FROM effects").await, MESSAGES as i64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_another_consumer_holds_too_long_is_a_conflict_by_the_server_s_clock() {
    let database = Database::create().await;
    let storage = database.storage();
    let mut first = storage.begin(&consumer(), &LIMITS).await.unwrap();
    first.admit(&[candidate("1")]).await.unwrap();
    let limits = TransactionLimits { lock: Duration::from_millis(200), ..LIMITS };
    let mut second = storage.begin(&consumer(), &limits).await.unwrap();
    let error = second.admit(&[candidate("1")]).await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Conflict, "{error}");
    assert!(storage.is_conflict(&error));
    second.rollback().await;
    assert_eq!(first.commit().await.unwrap(), Committed::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_ends_the_transaction_of_a_consumer_that_does_nothing() {
    let database = Database::create().await;
    let stopped = database.builder().idle_timeout(Duration::from_secs(1)).build().unwrap();
    let mut zombie = stopped.begin(&consumer(), &LIMITS).await.unwrap();
    assert_eq!(zombie.admit(&[candidate("1")]).await.unwrap().standings, [Standing::New]);

    let storage = database.storage();
    let mut successor = storage.begin(&consumer(), &LIMITS).await.unwrap();
    assert_eq!(successor.admit(&[candidate("1")]).await.unwrap().standings, [Standing::New]);
    apply(successor.connection(), "1").await;
    assert_eq!(successor.commit().await.unwrap(), Committed::Done);

    assert!(!matches!(zombie.commit().await, Ok(Committed::Done)), "the zombie's transaction was ended");
    assert_eq!(database.number("SELECT count(*) FROM effects").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_commits_by_itself_is_found_out() {
    use diesel_async::SimpleAsyncConnection;
    let database = Database::create().await;
    let storage = database.storage();
    for end in ["COMMIT", "ROLLBACK", "COMMIT; BEGIN", "ROLLBACK; BEGIN"] {
        let mut transaction = storage.begin(&consumer(), &LIMITS).await.unwrap();
        transaction.admit(&[candidate(end)]).await.unwrap();
        transaction.connection().batch_execute(end).await.unwrap();
        assert_eq!(transaction.commit().await.expect("commit answers"), Committed::Broken, "{end}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deferred_constraint_that_fails_at_the_commit_breaks_the_transaction() {
    let database = Database::create().await;
    database.batch("ALTER TABLE effects ADD UNIQUE (effect) DEFERRABLE INITIALLY DEFERRED").await;
    let storage = database.storage();
    let mut transaction = storage.begin(&consumer(), &LIMITS).await.unwrap();
    transaction.admit(&[candidate("1")]).await.unwrap();
    apply(transaction.connection(), "same").await;
    apply(transaction.connection(), "same").await;
    assert_eq!(transaction.commit().await.expect("commit answers"), Committed::Broken);
    let mut again = storage.begin(&consumer(), &LIMITS).await.unwrap();
    assert_eq!(again.admit(&[candidate("1")]).await.unwrap().standings, [Standing::New]);
    again.rollback().await;
}

//! Consumers that get the same messages at the same time.

use std::time::Duration;

use diesel::sql_types::Text;
use diesel_async::{AsyncConnection, AsyncMysqlConnection, RunQueryDsl};
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

pub(crate) async fn apply(connection: &mut AsyncMysqlConnection, effect: &str) {
    let insert = diesel::sql_query("INSERT INTO effects (effect) VALUES (?)").bind::<Text, _>(effect);
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
    let limits = TransactionLimits { lock: Duration::from_secs(1), ..LIMITS };
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

/// InnoDB gives all who wait for a row that is rolled back a lock on the gap, and ends all of them but one.
#[tokio::test(flavor = "multi_thread")]
async fn consumers_that_wait_for_a_message_that_is_given_up_do_not_deadlock() {
    let database = Database::create().await;
    let storage = database.storage();
    for round in 0..10 {
        let candidates: Vec<_> = (0..5).map(|n| candidate(&format!("{round}-{n}"))).collect();
        let mut first = storage.begin(&consumer(), &LIMITS).await.unwrap();
        first.admit(&candidates).await.unwrap();
        let mut tasks = JoinSet::new();
        for _ in 0..4 {
            let (storage, candidates) = (storage.clone(), candidates.clone());
            tasks.spawn(async move {
                let mut transaction = storage.begin(&consumer(), &LIMITS).await.expect("begin");
                let standings = transaction.admit(&candidates).await.expect("no deadlock").standings;
                for (candidate, standing) in candidates.iter().zip(&standings) {
                    if *standing == Standing::New {
                        apply(transaction.connection(), candidate.identity.id()).await;
                    }
                }
                assert_eq!(transaction.commit().await.expect("commit"), Committed::Done);
            });
        }
        let waiting = format!(
            "SELECT count(*) FROM {} WHERE db = '{}' AND command <> 'Sleep' AND info LIKE 'INSERT INTO%'",
            database.processlist().await,
            database.name
        );
        database.until(&waiting, 4).await;
        first.rollback().await;
        while let Some(done) = tasks.join_next().await {
            done.expect("no consumer fails");
        }
    }
    assert_eq!(database.number("SELECT count(*) FROM effects").await, 50);
    assert_eq!(database.number("SELECT count(DISTINCT effect) FROM effects").await, 50);
}

/// Shows that two rows which all handlers update in any order cost conflicts and no message.
#[tokio::test(flavor = "multi_thread")]
async fn handlers_that_deadlock_are_conflicts_and_what_is_done_after_one_is_not_committed() {
    let database = Database::create().await;
    let storage = database.storage();
    let mut one = storage.begin(&consumer(), &LIMITS).await.unwrap();
    let mut other = storage.begin(&consumer(), &LIMITS).await.unwrap();
    one.admit(&[candidate("one")]).await.unwrap();
    other.admit(&[candidate("other")]).await.unwrap();
    add(one.connection(), "0").await.unwrap();
    add(other.connection(), "1").await.unwrap();
    let (first, second) = tokio::join!(add(one.connection(), "1"), add(other.connection(), "0"));
    assert!(first.is_ok() != second.is_ok(), "one is the victim: {first:?} {second:?}");
    let (victim, mut winner) = if first.is_err() { (one, other) } else { (other, one) };
    let error = first.and(second).unwrap_err();
    assert!(storage.is_conflict(&error), "{error}");
    // this handler swallows it, and goes on in a transaction that the server has begun by itself
    let mut victim = victim;
    apply(victim.connection(), "ghost").await;
    apply(winner.connection(), "effect").await;
    assert_eq!(victim.commit().await.unwrap(), Committed::Broken);
    assert_eq!(winner.commit().await.unwrap(), Committed::Done);
    assert_eq!(database.lines("SELECT effect AS line FROM effects").await, ["effect"]);
    assert_eq!(database.number("SELECT count(*) FROM inbox_messages").await, 1);
    assert_eq!(database.number("SELECT sum(amount) FROM balances").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadlock_in_a_nested_transaction_of_diesel_is_a_conflict() {
    let database = Database::create().await;
    let storage = database.storage();
    let barrier = tokio::sync::Barrier::new(2);
    let run = async |id: &str, accounts: [&'static str; 2]| {
        let mut transaction = storage.begin(&consumer(), &LIMITS).await.unwrap();
        transaction.admit(&[candidate(id)]).await.unwrap();
        let barrier = &barrier;
        let nested = transaction.connection().transaction(async |connection| {
            add(connection, accounts[0]).await?;
            barrier.wait().await;
            add(connection, accounts[1]).await
        });
        match nested.await {
            Ok(()) => {
                assert_eq!(transaction.commit().await.unwrap(), Committed::Done);
                true
            }
            Err(error) => {
                assert!(storage.is_conflict(&error), "{error}");
                assert_ne!(transaction.commit().await.unwrap(), Committed::Done);
                false
            }
        }
    };
    let (one, other) = tokio::join!(run("one", ["0", "1"]), run("other", ["1", "0"]));
    assert!(one != other, "one is the victim");
    assert_eq!(database.number("SELECT sum(amount) FROM balances").await, 2);
    assert_eq!(database.number("SELECT count(*) FROM inbox_messages").await, 1);
}

async fn add(connection: &mut AsyncMysqlConnection, account: &str) -> Result<(), diesel::result::Error> {
    let update =
        diesel::sql_query("UPDATE balances SET amount = amount + 1 WHERE account = ?").bind::<Text, _>(account);
    update.execute(connection).await.map(drop)
}

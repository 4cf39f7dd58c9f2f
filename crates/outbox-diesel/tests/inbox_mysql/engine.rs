//! The engine on this storage: sums are right, whatever happens meanwhile.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use diesel::sql_types::{BigInt, Text};
use diesel_async::{AsyncMysqlConnection, RunQueryDsl, SimpleAsyncConnection};
use outbox_core::Event;
use outbox_core::inbox::{Acknowledging, IncomingHeaders};
use outbox_diesel::inbox::mysql::MysqlInbox;
use outbox_inbox::{Delivery, Failure, Inbox, InboxConfig, InboxError, InboxReport, Mode};
use outbox_testkit::memory::MemorySource;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::database::{Database, consumer};

const MESSAGES: i64 = 600;
const ACCOUNTS: i64 = 9;

#[derive(serde::Serialize, serde::Deserialize)]
struct Deposited {
    account: String,
    n: i64,
}

impl Event for Deposited {
    const AGGREGATE_TYPE: &'static str = "account";
    const EVENT_TYPE: &'static str = "account.deposited";

    fn aggregate_id(&self) -> Option<String> {
        Some(self.account.clone())
    }
}

/// How often each message was tried, and what goes wrong with it at first.
#[derive(Default)]
struct Whims {
    attempts: Mutex<BTreeMap<i64, usize>>,
    calls: AtomicUsize,
}

impl Whims {
    fn calls(&self) -> usize {
        AtomicUsize::load(&self.calls, Ordering::Relaxed)
    }
}

async fn deposit(
    whims: &Arc<Whims>,
    connection: &mut AsyncMysqlConnection,
    event: Deposited,
    _: &Delivery,
) -> Result<(), Failure> {
    whims.calls.fetch_add(1, Ordering::Relaxed);
    diesel::sql_query("INSERT INTO effects (effect) VALUES (?)")
        .bind::<Text, _>(format!("{}:{}", event.account, event.n))
        .execute(connection)
        .await?;
    // two rows that all handlers share, in an order that makes deadlocks
    let shared = if event.n % 2 == 0 { ["0", "1"] } else { ["1", "0"] };
    for row in shared {
        add(connection, row, 1).await?;
    }
    add(connection, &event.account, event.n).await?;
    let attempt = {
        let mut attempts = whims.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        let attempt = attempts.entry(event.n).or_insert(0);
        *attempt += 1;
        *attempt
    };
    match event.n % 50 {
        7 if attempt <= 2 => Err("the card was refused".into()),
        13 if attempt == 1 => panic!("no such card"),
        21 if attempt == 1 => {
            // a deadlock that is swallowed, and what follows it
            let _ = connection.batch_execute("ROLLBACK").await;
            add(connection, "0", 1_000_000).await?;
            Ok(())
        }
        _ => Ok(()),
    }
}

async fn add(connection: &mut AsyncMysqlConnection, account: &str, amount: i64) -> Result<(), diesel::result::Error> {
    diesel::sql_query("INSERT INTO balances VALUES (?, ?) ON DUPLICATE KEY UPDATE amount = amount + VALUES(amount)")
        .bind::<Text, _>(account)
        .bind::<BigInt, _>(amount)
        .execute(connection)
        .await
        .map(drop)
}

fn publish(source: &MemorySource, n: i64) {
    let account = format!("account-{}", n % ACCOUNTS);
    let mut headers = IncomingHeaders::default();
    headers.push("ce_id", n.to_string());
    headers.push("ce_source", "/bank");
    headers.push("ce_type", Deposited::EVENT_TYPE);
    let payload = serde_json::to_vec(&Deposited { account: account.clone(), n }).unwrap();
    source.publish("account", Some(&account), headers, &payload);
}

struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<InboxReport, InboxError>>,
}

fn start(storage: Arc<MysqlInbox>, source: &MemorySource, whims: &Arc<Whims>, mode: Mode) -> Running {
    let mut config = InboxConfig { mode, batch_size: 25, ..InboxConfig::default() };
    config.retry.initial = Duration::from_millis(20);
    config.polling_interval = Duration::from_millis(50);
    config.claim_lease = Duration::from_secs(5);
    let inbox = Inbox::builder_from(storage, "billing")
        .config(config)
        .on_with(whims.clone(), deposit)
        .source(source.clone())
        .build()
        .unwrap();
    let (stop, stopped) = oneshot::channel();
    Running { stop, task: tokio::spawn(inbox.run(async move { drop(stopped.await) })) }
}

async fn sums_are_right(mode: Mode, seed: u64) {
    let database = Database::create().await;
    let (source, whims) = (MemorySource::new(Acknowledging::Cumulative, 4, &["account"]), Arc::new(Whims::default()));
    let mut rng = StdRng::seed_from_u64(seed);
    let mut running =
        vec![start(database.storage(), &source, &whims, mode), start(database.storage(), &source, &whims, mode)];
    for n in 0..MESSAGES {
        publish(&source, n);
        if rng.random_bool(0.3) {
            publish(&source, rng.random_range(0..=n)); // again
        }
        if n % 100 == 50 {
            let calls = whims.calls();
            let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
            while whims.calls() == calls {
                assert!(tokio::time::Instant::now() < deadline, "no handler is called");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            running.remove(0).task.abort(); // a crash
            running.push(start(database.storage(), &source, &whims, mode));
        }
        if n % 100 == 80 {
            source.take_away(&consumer());
        }
    }
    database.until("SELECT count(*) FROM inbox_messages WHERE status = 'processed'", MESSAGES).await;
    for Running { stop, task } in running {
        stop.send(()).expect("it still runs");
        task.await.expect("no panic").expect("it runs");
    }
    assert_eq!(source.unacknowledged(&consumer()), 0);
    assert_eq!(database.number("SELECT count(*) FROM inbox_held").await, 0);
    assert_eq!(database.number("SELECT count(*) FROM inbox_dead_letters").await, 0);
    assert_eq!(database.number("SELECT count(*) FROM effects").await, MESSAGES);
    for account in 0..ACCOUNTS {
        let expected: i64 = (0..MESSAGES).filter(|n| n % ACCOUNTS == account).sum();
        let sql = format!("SELECT amount FROM balances WHERE account = 'account-{account}'");
        assert_eq!(database.number(&sql).await, expected, "account {account}");
    }
    for row in ["0", "1"] {
        let sql = format!("SELECT amount FROM balances WHERE account = '{row}'");
        assert_eq!(database.number(&sql).await, MESSAGES);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_deposit_counts_once_through_redeliveries_failures_deadlocks_and_crashes() {
    sums_are_right(Mode::Transactional, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_deposit_counts_once_when_messages_are_stored_first() {
    sums_are_right(Mode::Durable, 2).await;
}

use std::time::Duration;

use diesel_async::SimpleAsyncConnection;
use outbox_core::ports::{Burial, DeadReason, Fenced, ReadLimits, RelayId, ShardId, Storage};
use outbox_diesel::Tables;
use outbox_diesel::migrations::{Backend, EXPECTED_VERSION, PendingRows, mysql};
use outbox_diesel::mysql::{MysqlOutbox, MysqlStorage};
use uuid::Uuid;

use super::message;
use super::mysql_schema::{Database, connect, connect_to, url};

const PAGE: &str = include_str!("../../../../docs/roles.md");
const NAMES: [&str; 3] = ["orders_writer", "events_relay", "events_operator"];
const PASSWORD: &str = "change me";

/// Accounts of one test, dropped with this value.
struct Accounts([String; 3]);

impl Accounts {
    /// Runs the SQL of the page for this database, with accounts of this test alone.
    async fn of_the_page(database: &str) -> Self {
        let suffix = &Uuid::new_v4().simple().to_string()[..8];
        let accounts = Self(NAMES.map(|name| format!("{name}_{suffix}")));
        let page = PAGE.split("\n## MySQL and MariaDB\n").nth(1).expect("the page has the section");
        let page = page.split("\n## The inbox\n").next().unwrap();
        let mut sql: String = page.split("```sql\n").skip(1).map(|part| part.split("```").next().unwrap()).collect();
        for (name, own) in NAMES.iter().zip(&accounts.0) {
            sql = sql.replace(name, own);
        }
        let sql = sql.replace("shop.", &format!("{database}."));
        connect().await.batch_execute(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        accounts
    }
}

impl Drop for Accounts {
    fn drop(&mut self) {
        let sql = format!("DROP USER IF EXISTS {}", self.0.join(", "));
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { connect().await.batch_execute(&sql).await })
        });
        let result = dropped.join();
        if !std::thread::panicking() {
            result.expect("a connection").expect("the accounts can be dropped");
        }
    }
}

fn storage_as(account: &str, tables: &Tables) -> MysqlStorage {
    MysqlStorage::builder(url_of(account)).tables(tables.clone()).build().unwrap()
}

/// The URL of the test server with another account.
fn url_of(account: &str) -> String {
    let url = url();
    let (_, host) = url.rsplit_once('@').expect("OUTBOX_TEST_MYSQL_URL has the form mysql://user@host:port");
    format!("mysql://{account}:{}@{host}", PASSWORD.replace(' ', "%20"))
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_of_the_docs() {
    let mut database = Database::unused();
    database.tables = Tables::new(Some(database.name()), "outbox_").unwrap().for_backend(Backend::Mysql);
    let tables = &database.tables;
    mysql::up(&mut connect().await, tables, EXPECTED_VERSION).await.unwrap();
    let accounts = Accounts::of_the_page(database.name()).await;
    let [writer, relay, operator] = &accounts.0;

    let mut conn = connect_to(&url_of(writer)).await;
    let outbox = MysqlOutbox::new(tables.clone());
    outbox.append(&mut conn, &message("1")).await.unwrap();
    outbox.append_all(&mut conn, &[message("1"), message("2")]).await.unwrap();
    for forbidden in [
        "SELECT * FROM {{messages}}",
        "DELETE FROM {{messages}}",
        "INSERT INTO {{messages}} (seq, aggregate_type, event_type, payload) VALUES (1, 'order', 'order.placed', '')",
        "INSERT INTO {{messages}} (shard, aggregate_type, event_type, payload) VALUES (1, 'order', 'order.placed', '')",
    ] {
        let error = conn.batch_execute(&tables.render(forbidden)).await.expect_err(forbidden);
        assert!(error.to_string().contains("command denied"), "{forbidden}: {error}");
    }
    let error = mysql::verify(&mut conn, tables).await.unwrap_err();
    assert!(error.to_string().contains("no outbox tables"), "{error}");

    let storage = storage_as(relay, tables);
    let profile = storage.check().await.unwrap();
    let id = RelayId { owner: Uuid::new_v4(), name: "relay".to_owned() };
    storage.leases().heartbeat(&id, Duration::from_secs(60), true).await.unwrap();
    let leases = storage.leases().acquire(&id, Duration::from_secs(60), profile.shards.into()).await.unwrap();
    let mut reader = storage.reader().await.unwrap();
    reader.assign(&(0..profile.shards).map(ShardId).collect::<Vec<_>>());
    let limits = ReadLimits { rows: 2_000, bytes: 1 << 20, max_message_bytes: 1 << 20 };
    let messages = reader.read(&limits).await.unwrap().messages;
    assert_eq!(messages.len(), 3);
    let lease = |shard| leases.iter().find(|lease| lease.shard == shard).unwrap();
    let dead = messages[0].position();
    let burial = Burial {
        position: dead,
        attempts: 1,
        reason: DeadReason::Rejected,
        error: "refused".to_owned(),
        outcome_unknown: false,
        park_key: true,
    };
    assert_eq!(storage.settler().bury(id.owner, lease(dead.shard), &burial).await.unwrap(), Fenced::Done);
    storage.settler().settle(&[messages[1].position(), messages[2].position()]).await.unwrap();
    assert_eq!(database.messages().await, 0);

    let operators = storage_as(operator, tables);
    let admin = operators.admin();
    assert_eq!(admin.dead_letters(0, 10).await.unwrap().len(), 1);
    assert!(admin.replay(dead.id).await.unwrap());
    assert!(admin.park("order", "9").await.unwrap());
    assert!(admin.unpark("order", "9").await.unwrap());
    assert_eq!(database.messages().await, 1);
    for (account, forbidden) in [
        (relay, "INSERT INTO {{messages}} (aggregate_type, event_type, payload) VALUES ('order', 'order.placed', '')"),
        (relay, "DELETE FROM {{dead_letters}}"),
        (operator, "DELETE FROM {{messages}}"),
        (operator, "UPDATE {{messages}} SET payload = ''"),
    ] {
        let mut conn = connect_to(&url_of(account)).await;
        mysql::verify(&mut conn, tables).await.unwrap();
        let error = conn.batch_execute(&tables.render(forbidden)).await.expect_err(forbidden);
        assert!(error.to_string().contains("command denied"), "{forbidden}: {error}");
    }
}

#[tokio::test]
async fn the_grants_of_the_docs_are_enough_to_migrate() {
    let database = Database::empty().await;
    let account = format!("migrator_{}", &Uuid::new_v4().simple().to_string()[..8]);
    let accounts = Accounts([account.clone(), format!("{account}_b"), format!("{account}_c")]);
    let page = PAGE.split("Migrations want an account with ").nth(1).expect("the page has the sentence");
    let rights = page.split(" on the\ndatabase").next().unwrap().replace('`', "").replace(" and ", ", ");
    let sql = format!(
        "CREATE USER {account} IDENTIFIED BY '{PASSWORD}'; GRANT {rights} ON {}.* TO {account}",
        database.name()
    );
    connect().await.batch_execute(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    let mut conn = connect_to(&url_of(&account)).await;
    mysql::up(&mut conn, &database.tables, EXPECTED_VERSION).await.unwrap();
    mysql::verify(&mut conn, &database.tables).await.unwrap();
    mysql::down(&mut conn, &database.tables, 0, PendingRows::Keep).await.unwrap();
    drop(accounts);
}

//! A file of its own for each test.

use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::sql_types::{BigInt, Text};
use diesel::{QueryableByName, RunQueryDsl, SqliteConnection, sql_query};
use outbox_core::inbox::{
    Aside, Candidate, Consumer, Fate, Identity, Incoming, IncomingHeaders, OrderingKey, Partition, TransactionLimits,
};
use outbox_diesel::inbox::InboxTables;
use outbox_diesel::inbox::migrations::{EXPECTED_INBOX_VERSION, sqlite};
use outbox_diesel::inbox::sqlite::{SqliteInbox, SqliteInboxBuilder, SqliteInboxConnection};
use outbox_diesel::sqlite::establish_sync;
use tempfile::TempDir;

pub(crate) const LIMITS: TransactionLimits =
    TransactionLimits { statement: Duration::from_secs(20), lock: Duration::from_secs(20) };

/// A folder with a migrated database.
pub(crate) struct Database {
    folder: TempDir,
    pub(crate) tables: InboxTables,
}

impl Database {
    pub(crate) fn create() -> Self {
        Self::with_tables(InboxTables::default())
    }

    pub(crate) fn with_tables(tables: InboxTables) -> Self {
        let database = Self::empty(tables);
        sqlite::up_sync(&mut database.connection(), &database.tables, EXPECTED_INBOX_VERSION).expect("migrates");
        database.batch(
            "CREATE TABLE effects (effect TEXT NOT NULL); \
             CREATE TABLE balances (account TEXT PRIMARY KEY, amount INTEGER NOT NULL); \
             INSERT INTO balances VALUES ('0', 0), ('1', 0)",
        );
        database
    }

    pub(crate) fn empty(tables: InboxTables) -> Self {
        Self { folder: tempfile::tempdir().expect("a folder"), tables }
    }

    pub(crate) fn path(&self) -> String {
        self.folder.path().join("shop.db").to_str().expect("a path of UTF-8").to_owned()
    }

    pub(crate) fn connection(&self) -> SqliteConnection {
        establish_sync(self.path()).expect("the file can be opened")
    }

    pub(crate) fn batch(&self, sql: &str) {
        self.connection().batch_execute(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    pub(crate) fn number(&self, sql: &str) -> i64 {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = BigInt)]
            number: i64,
        }
        let row: Row = sql_query(format!("SELECT ({sql}) AS number"))
            .get_result(&mut self.connection())
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
        row.number
    }

    /// The rows of a query with one text column, which must be named `line`.
    pub(crate) fn lines(&self, sql: &str) -> Vec<String> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = Text)]
            line: String,
        }
        let rows: Vec<Row> =
            sql_query(sql).load(&mut self.connection()).unwrap_or_else(|error| panic!("{sql}: {error}"));
        rows.into_iter().map(|row| row.line).collect()
    }

    pub(crate) fn builder(&self) -> SqliteInboxBuilder {
        SqliteInbox::builder(self.path()).tables(self.tables.clone())
    }

    /// A storage with connections of its own, as in another process.
    pub(crate) fn storage(&self) -> Arc<SqliteInbox> {
        Arc::new(self.builder().build().expect("the path is right"))
    }

    /// Waits until the query returns this number.
    pub(crate) async fn until(&self, sql: &str, number: i64) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let found = self.number(sql);
            if found == number {
                return;
            }
            assert!(Instant::now() < deadline, "{sql} is {found} and never became {number}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) fn remove(self) -> std::io::Result<()> {
        self.folder.close()
    }
}

pub(crate) fn consumer() -> Consumer {
    Consumer::new("billing").expect("a valid name")
}

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

/// What a handler does.
pub(crate) async fn try_apply(
    connection: &mut SqliteInboxConnection,
    effect: &str,
) -> Result<(), diesel::result::Error> {
    let insert = sql_query("INSERT INTO effects (effect) VALUES (?)").bind::<Text, _>(effect);
    diesel_async::RunQueryDsl::execute(insert, connection).await.map(drop)
}

pub(crate) async fn apply(connection: &mut SqliteInboxConnection, effect: &str) {
    try_apply(connection, effect).await.expect("the effect is written");
}

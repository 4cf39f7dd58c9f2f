use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use async_trait::async_trait;
use diesel::{SqliteConnection, sql_query};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection, sync_connection_wrapper::SyncConnectionWrapper};
use outbox::{
    Delivery, Failure, Inbox, InboxConfig, SqliteInbox, SqliteOutbox, SqliteStorage, Storage,
    inbox::{self, migrations::EXPECTED_INBOX_VERSION, ports::Source, sqlite::SqliteInboxConnection},
    migrations::{self, EXPECTED_VERSION, PendingRows},
    sqlite::establish,
};
use uuid::Uuid;

use super::{Accounts, Auditor, Names, Shop, Stop, Writer, ended, sql};
use crate::demo::{consuming::AnyInbox, event::OrderChanged, verify::Recorded};

/// How long a writer tries to get its turn.
const TURN_LIMIT: Duration = Duration::from_secs(60);

type Connection = SyncConnectionWrapper<SqliteConnection>;

pub(super) struct SqliteShop {
    path: PathBuf,
    names: Names,
    sql: Arc<sql::Sql>,
}

struct SqliteWriter {
    connection: Connection,
    outbox: SqliteOutbox,
    sql: Arc<sql::Sql>,
}

struct SqliteAuditor {
    connection: Connection,
    sql: Arc<sql::Sql>,
}

impl SqliteShop {
    pub(super) async fn create(path: &Path, names: Names) -> Result<Self> {
        let shop = Self { path: path.to_owned(), sql: Arc::new(sql::Sql::new(&names.prefix, "bigint")), names };
        let mut connection = establish(path).await?;
        migrations::sqlite::up(&mut connection, &shop.names.outbox, EXPECTED_VERSION).await?;
        inbox::migrations::sqlite::up(&mut connection, &shop.names.inbox, EXPECTED_INBOX_VERSION).await?;
        connection.batch_execute(&shop.sql.create()).await.context("cannot make the demo's tables")?;
        Ok(shop)
    }
}

#[async_trait]
impl Shop for SqliteShop {
    async fn storage(&self) -> Result<Arc<dyn Storage>> {
        Ok(Arc::new(SqliteStorage::builder(&self.path).tables(self.names.outbox.clone()).connect().await?))
    }

    async fn writer(&self) -> Result<Box<dyn Writer>> {
        let outbox = SqliteOutbox::new(self.names.outbox.clone())?;
        Ok(Box::new(SqliteWriter { connection: establish(&self.path).await?, outbox, sql: self.sql.clone() }))
    }

    async fn record(&self) -> Result<Vec<Recorded>> {
        sql::recorded(sql_query(self.sql.read_record()).load(&mut establish(&self.path).await?).await?)
    }

    async fn inbox(&self, consumer: &str, config: InboxConfig, source: Arc<dyn Source>) -> Result<AnyInbox> {
        // More workers would only take turns, each with a smaller transaction.
        let config = InboxConfig { workers: 1, ..config };
        let storage = SqliteInbox::builder(&self.path).tables(self.names.inbox.clone()).build()?;
        let inbox =
            Inbox::builder(storage, consumer).config(config).on_with(self.sql.clone(), apply).source_from(source);
        Ok(inbox.build()?.into())
    }

    async fn auditor(&self) -> Result<Box<dyn Auditor>> {
        Ok(Box::new(SqliteAuditor { connection: establish(&self.path).await?, sql: self.sql.clone() }))
    }

    async fn remove(&self) -> Result<()> {
        let mut connection = establish(&self.path).await?;
        connection.batch_execute(&self.sql.remove()).await?;
        migrations::sqlite::down(&mut connection, &self.names.outbox, 0, PendingRows::Delete).await?;
        inbox::migrations::sqlite::down(&mut connection, &self.names.inbox, 0, PendingRows::Delete).await?;
        Ok(())
    }
}

/// The consumer's handler.
async fn apply(
    sql: &Arc<sql::Sql>,
    connection: &mut SqliteInboxConnection,
    event: OrderChanged,
    _: &Delivery,
) -> Result<(), Failure> {
    sql_query(sql.apply(&event)).execute(connection).await?;
    Ok(())
}

#[async_trait]
impl Auditor for SqliteAuditor {
    async fn applied(&mut self) -> Result<u64> {
        let row: sql::Events = sql_query(self.sql.applied()).get_result(&mut self.connection).await?;
        Ok(row.events.try_into()?)
    }

    async fn accounts(&mut self) -> Result<Accounts> {
        let expected = sql_query(self.sql.expected_balances()).load(&mut self.connection).await?;
        let balances = sql_query(self.sql.balances()).load(&mut self.connection).await?;
        Ok(Accounts { expected: sql::accounts(expected), balances: sql::accounts(balances) })
    }
}

#[async_trait]
impl Writer for SqliteWriter {
    async fn change(&mut self, orders: &[i64], roll_back: bool) -> Result<Vec<Uuid>> {
        let begun = Instant::now();
        loop {
            match self.try_change(orders, roll_back).await {
                Err(Stop::Failed(error)) if begun.elapsed() < TURN_LIMIT && is_busy(&error) => {}
                result => return ended(result),
            }
        }
    }
}

impl SqliteWriter {
    async fn try_change(&mut self, orders: &[i64], roll_back: bool) -> Result<Vec<Uuid>, Stop> {
        let (sql, outbox) = (&self.sql, &self.outbox);
        let transaction = self.connection.immediate_transaction(async |conn| {
            let versions: Vec<sql::Version> = sql_query(sql.change(orders)).load(conn).await?;
            let ids = outbox.append_all(conn, &sql::messages(&versions)?).await?;
            sql_query(sql.record(&versions, &ids)).execute(conn).await?;
            if roll_back { Err(Stop::OnPurpose(ids)) } else { Ok(ids) }
        });
        transaction.await
    }
}

/// SQLite has one writer at a time and no queue for the others: on a slow disk one can lose every race until its time-out ends.
/// Diesel has no kind for it.
fn is_busy(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.to_string().contains("database is locked"))
}

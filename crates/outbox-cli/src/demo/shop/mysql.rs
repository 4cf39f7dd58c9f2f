use std::sync::Arc;

use anyhow::{Context, Result};
use async_trait::async_trait;
use diesel::sql_query;
use diesel_async::{AsyncConnection, AsyncMysqlConnection, RunQueryDsl, SimpleAsyncConnection};
use outbox::{
    Delivery, Failure, Inbox, InboxConfig, MysqlInbox, MysqlOutbox, MysqlStorage, Storage,
    inbox::{self, migrations::EXPECTED_INBOX_VERSION, ports::Source},
    migrations::{self, EXPECTED_VERSION, PendingRows},
    mysql::establish,
};
use uuid::Uuid;

use super::{Accounts, Auditor, Names, Shop, Stop, Writer, ended, sql};
use crate::demo::{consuming::AnyInbox, event::OrderChanged, verify::Recorded};

/// How often a transaction is begun again when the server has rolled it back for another's sake.
const DEADLOCK_TRIES: u32 = 20;

pub(super) struct MysqlShop {
    url: String,
    names: Names,
    sql: Arc<sql::Sql>,
}

struct MysqlWriter {
    connection: AsyncMysqlConnection,
    outbox: MysqlOutbox,
    sql: Arc<sql::Sql>,
}

struct MysqlAuditor {
    connection: AsyncMysqlConnection,
    sql: Arc<sql::Sql>,
}

impl MysqlShop {
    pub(super) async fn create(url: &str, names: Names) -> Result<Self> {
        let shop = Self { url: url.to_owned(), sql: Arc::new(sql::Sql::new(&names.prefix, "signed")), names };
        let mut connection = establish(url).await?;
        migrations::mysql::up(&mut connection, &shop.names.outbox, EXPECTED_VERSION).await?;
        inbox::migrations::mysql::up(&mut connection, &shop.names.inbox, EXPECTED_INBOX_VERSION).await?;
        connection.batch_execute(&shop.sql.create()).await.context("cannot make the demo's tables")?;
        Ok(shop)
    }
}

#[async_trait]
impl Shop for MysqlShop {
    async fn storage(&self) -> Result<Arc<dyn Storage>> {
        Ok(Arc::new(MysqlStorage::builder(&self.url).tables(self.names.outbox.clone()).build()?))
    }

    async fn writer(&self) -> Result<Box<dyn Writer>> {
        let mut connection = establish(&self.url).await?;
        // The default, REPEATABLE READ, locks the gaps between orders too: writers of different orders would wait for each other.
        connection.batch_execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED").await?;
        Ok(Box::new(MysqlWriter {
            connection,
            outbox: MysqlOutbox::new(self.names.outbox.clone()),
            sql: self.sql.clone(),
        }))
    }

    async fn record(&self) -> Result<Vec<Recorded>> {
        sql::recorded(sql_query(self.sql.read_record()).load(&mut establish(&self.url).await?).await?)
    }

    async fn inbox(&self, consumer: &str, config: InboxConfig, source: Arc<dyn Source>) -> Result<AnyInbox> {
        let storage = MysqlInbox::builder(&self.url).tables(self.names.inbox.clone()).build()?;
        let inbox =
            Inbox::builder(storage, consumer).config(config).on_with(self.sql.clone(), apply).source_from(source);
        Ok(inbox.build()?.into())
    }

    async fn auditor(&self) -> Result<Box<dyn Auditor>> {
        Ok(Box::new(MysqlAuditor { connection: establish(&self.url).await?, sql: self.sql.clone() }))
    }

    async fn remove(&self) -> Result<()> {
        let mut connection = establish(&self.url).await?;
        connection.batch_execute(&self.sql.remove()).await?;
        migrations::mysql::down(&mut connection, &self.names.outbox, 0, PendingRows::Delete).await?;
        inbox::migrations::mysql::down(&mut connection, &self.names.inbox, 0, PendingRows::Delete).await?;
        Ok(())
    }
}

/// The consumer's handler.
async fn apply(
    sql: &Arc<sql::Sql>,
    connection: &mut AsyncMysqlConnection,
    event: OrderChanged,
    _: &Delivery,
) -> Result<(), Failure> {
    sql_query(sql.apply_on_mysql(&event)).execute(connection).await?;
    Ok(())
}

#[async_trait]
impl Auditor for MysqlAuditor {
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
impl Writer for MysqlWriter {
    async fn change(&mut self, orders: &[i64], roll_back: bool) -> Result<Vec<Uuid>> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.try_change(orders, roll_back).await {
                Err(Stop::Failed(error)) if tries < DEADLOCK_TRIES && is_deadlock(&error) => {}
                result => return ended(result),
            }
        }
    }
}

impl MysqlWriter {
    async fn try_change(&mut self, orders: &[i64], roll_back: bool) -> Result<Vec<Uuid>, Stop> {
        let (sql, outbox) = (&self.sql, &self.outbox);
        let transaction = self.connection.transaction(async |conn| {
            sql_query(sql.change_on_mysql(orders)).execute(conn).await?;
            let versions: Vec<sql::Version> = sql_query(sql.versions(orders)).load(conn).await?;
            let ids = outbox.append_all(conn, &sql::messages(&versions)?).await?;
            sql_query(sql.record(&versions, &ids)).execute(conn).await?;
            if roll_back { Err(Stop::OnPurpose(ids)) } else { Ok(ids) }
        });
        transaction.await
    }
}

/// Two writers that insert the same new order while a third rolls it back can deadlock, however sorted they are: the server ends
/// one of them, and its transaction is begun again. Diesel has no kind for it.
fn is_deadlock(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.to_string().contains("try restarting transaction"))
}

use std::sync::Arc;

use anyhow::{Context, Result};
use async_trait::async_trait;
use diesel::sql_query;
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use outbox::{
    Delivery, Failure, Inbox, InboxConfig, PostgresInbox, PostgresOutbox, PostgresStorage, Storage,
    inbox::{self, migrations::EXPECTED_INBOX_VERSION, ports::Source},
    migrations::{self, EXPECTED_VERSION, PendingRows},
    postgres::establish,
};
use uuid::Uuid;

use super::{Accounts, Auditor, Names, Shop, Stop, Writer, ended, sql};
use crate::demo::{consuming::AnyInbox, event::OrderChanged, verify::Recorded};

pub(super) struct PostgresShop {
    url: String,
    names: Names,
    sql: Arc<sql::Sql>,
}

struct PostgresWriter {
    connection: AsyncPgConnection,
    outbox: PostgresOutbox,
    sql: Arc<sql::Sql>,
}

struct PostgresAuditor {
    connection: AsyncPgConnection,
    sql: Arc<sql::Sql>,
}

impl PostgresShop {
    pub(super) async fn create(url: &str, names: Names) -> Result<Self> {
        let shop = Self { url: url.to_owned(), sql: Arc::new(sql::Sql::new(&names.prefix, "bigint")), names };
        let mut connection = establish(url).await?;
        migrations::postgres::up(&mut connection, &shop.names.outbox, EXPECTED_VERSION).await?;
        inbox::migrations::postgres::up(&mut connection, &shop.names.inbox, EXPECTED_INBOX_VERSION).await?;
        connection.batch_execute(&shop.sql.create()).await.context("cannot make the demo's tables")?;
        Ok(shop)
    }
}

#[async_trait]
impl Shop for PostgresShop {
    async fn storage(&self) -> Result<Arc<dyn Storage>> {
        Ok(Arc::new(PostgresStorage::builder(&self.url).tables(self.names.outbox.clone()).build()?))
    }

    async fn writer(&self) -> Result<Box<dyn Writer>> {
        let outbox = PostgresOutbox::new(self.names.outbox.clone());
        Ok(Box::new(PostgresWriter { connection: establish(&self.url).await?, outbox, sql: self.sql.clone() }))
    }

    async fn record(&self) -> Result<Vec<Recorded>> {
        sql::recorded(sql_query(self.sql.read_record()).load(&mut establish(&self.url).await?).await?)
    }

    async fn inbox(&self, consumer: &str, config: InboxConfig, source: Arc<dyn Source>) -> Result<AnyInbox> {
        let storage = PostgresInbox::builder(&self.url).tables(self.names.inbox.clone()).build()?;
        let inbox =
            Inbox::builder(storage, consumer).config(config).on_with(self.sql.clone(), apply).source_from(source);
        Ok(inbox.build()?.into())
    }

    async fn auditor(&self) -> Result<Box<dyn Auditor>> {
        Ok(Box::new(PostgresAuditor { connection: establish(&self.url).await?, sql: self.sql.clone() }))
    }

    async fn remove(&self) -> Result<()> {
        let mut connection = establish(&self.url).await?;
        connection.batch_execute(&self.sql.remove()).await?;
        migrations::postgres::down(&mut connection, &self.names.outbox, 0, PendingRows::Delete).await?;
        inbox::migrations::postgres::down(&mut connection, &self.names.inbox, 0, PendingRows::Delete).await?;
        Ok(())
    }
}

/// The consumer's handler.
async fn apply(
    sql: &Arc<sql::Sql>,
    connection: &mut AsyncPgConnection,
    event: OrderChanged,
    _: &Delivery,
) -> Result<(), Failure> {
    sql_query(sql.apply(&event)).execute(connection).await?;
    Ok(())
}

#[async_trait]
impl Auditor for PostgresAuditor {
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
impl Writer for PostgresWriter {
    async fn change(&mut self, orders: &[i64], roll_back: bool) -> Result<Vec<Uuid>> {
        let (sql, outbox) = (&self.sql, &self.outbox);
        let result = self.connection.transaction(async |conn| {
            let versions: Vec<sql::Version> = sql_query(sql.change(orders)).load(conn).await?;
            let ids = outbox.append_all(conn, &sql::messages(&versions)?).await?;
            sql_query(sql.record(&versions, &ids)).execute(conn).await?;
            if roll_back { Err(Stop::OnPurpose(ids)) } else { Ok(ids) }
        });
        ended(result.await)
    }
}

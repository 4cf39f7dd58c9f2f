use std::sync::Arc;

use anyhow::{Context, Result};
use async_trait::async_trait;
use diesel::sql_query;
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use outbox::{
    PostgresOutbox, PostgresStorage, Storage, Tables,
    migrations::{self, EXPECTED_VERSION, PendingRows},
    postgres::establish,
};
use uuid::Uuid;

use super::{Shop, Stop, Writer, ended, sql};
use crate::demo::verify::Recorded;

pub(super) struct PostgresShop {
    url: String,
    tables: Tables,
    sql: Arc<sql::Sql>,
}

struct PostgresWriter {
    connection: AsyncPgConnection,
    outbox: PostgresOutbox,
    sql: Arc<sql::Sql>,
}

impl PostgresShop {
    pub(super) async fn create(url: &str, prefix: &str, tables: Tables) -> Result<Self> {
        let shop = Self { url: url.to_owned(), tables, sql: Arc::new(sql::Sql::new(prefix)) };
        let mut connection = establish(url).await?;
        migrations::postgres::up(&mut connection, &shop.tables, EXPECTED_VERSION).await?;
        connection.batch_execute(&shop.sql.create()).await.context("cannot make the demo's tables")?;
        Ok(shop)
    }
}

#[async_trait]
impl Shop for PostgresShop {
    async fn storage(&self) -> Result<Arc<dyn Storage>> {
        Ok(Arc::new(PostgresStorage::builder(&self.url).tables(self.tables.clone()).build()?))
    }

    async fn writer(&self) -> Result<Box<dyn Writer>> {
        let outbox = PostgresOutbox::new(self.tables.clone());
        Ok(Box::new(PostgresWriter { connection: establish(&self.url).await?, outbox, sql: self.sql.clone() }))
    }

    async fn record(&self) -> Result<Vec<Recorded>> {
        sql::recorded(sql_query(self.sql.read_record()).load(&mut establish(&self.url).await?).await?)
    }

    async fn remove(&self) -> Result<()> {
        let mut connection = establish(&self.url).await?;
        connection.batch_execute(&self.sql.remove()).await?;
        migrations::postgres::down(&mut connection, &self.tables, 0, PendingRows::Delete).await?;
        Ok(())
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

use std::{collections::HashMap, fmt::Write as _};

use anyhow::{Context, Result};
use async_trait::async_trait;
use diesel::{
    QueryableByName, sql_query,
    sql_types::{BigInt, Binary, Nullable, SmallInt, Text},
};
use diesel_async::{AsyncConnection, AsyncMysqlConnection, RunQueryDsl, SimpleAsyncConnection};
use outbox::{MysqlOutbox, NewMessage, migrations};
use uuid::Uuid;

use super::{Business, LeaseRow, Tables};
use crate::verify::Committed;

/// Database that holds the outbox and the business tables.
const DATABASE: &str = "outbox_faults";

const BUSINESS: [&str; 2] = [
    "CREATE TABLE counters (name varchar(64) CHARACTER SET ascii PRIMARY KEY, n bigint NOT NULL) ENGINE=InnoDB",
    "CREATE TABLE record (id binary(16) PRIMARY KEY, name varchar(64) CHARACTER SET ascii NOT NULL, n bigint NOT NULL, \
     UNIQUE (name, n)) ENGINE=InnoDB",
];

/// A connection to MySQL or MariaDB.
pub(super) struct Mysql {
    conn: AsyncMysqlConnection,
    outbox: MysqlOutbox,
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

#[derive(QueryableByName)]
struct Id {
    #[diesel(sql_type = Binary)]
    id: Vec<u8>,
}

pub(super) async fn connect(url: &str) -> Result<Mysql> {
    let mut conn = AsyncMysqlConnection::establish(url).await?;
    // as the documents advise writers; at the default, MariaDB 11.6 ends a transaction (1020) that locks a row changed since its snapshot
    conn.batch_execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED").await?;
    Ok(Mysql { conn, outbox: MysqlOutbox::default() })
}

/// Makes the database of the run on a server whose URL names none; the URL that names it.
pub(crate) async fn create_database(server: &str) -> Result<String> {
    let mut conn = AsyncMysqlConnection::establish(server).await?;
    conn.batch_execute(&format!("CREATE DATABASE {DATABASE}")).await?;
    Ok(format!("{}/{DATABASE}", server.trim_end_matches('/')))
}

#[async_trait]
impl Business for Mysql {
    async fn begin(&mut self) -> Result<()> {
        Ok(self.conn.batch_execute("START TRANSACTION").await?)
    }

    async fn count_up(&mut self, key: &str, by: i64) -> Result<i64> {
        sql_query("UPDATE counters SET n = n + ? WHERE name = ?")
            .bind::<BigInt, _>(by)
            .bind::<Text, _>(key)
            .execute(&mut self.conn)
            .await?;
        let counter = sql_query("SELECT n FROM counters WHERE name = ?").bind::<Text, _>(key);
        Ok(counter.get_result::<Number>(&mut self.conn).await?.n)
    }

    async fn append(&mut self, messages: &[NewMessage]) -> Result<Vec<Uuid>> {
        Ok(self.outbox.append_all(&mut self.conn, messages).await?)
    }

    async fn record(&mut self, key: &str, events: &[(Uuid, i64)]) -> Result<()> {
        let mut rows = String::new();
        for (id, n) in events {
            let separator = if rows.is_empty() { "" } else { ", " };
            write!(rows, "{separator}(x'{}', ?, {n})", id.simple())?;
        }
        let mut insert = sql_query(format!("INSERT INTO record (id, name, n) VALUES {rows}")).into_boxed();
        for _ in events {
            insert = insert.bind::<Text, _>(key);
        }
        insert.execute(&mut self.conn).await?;
        Ok(())
    }

    async fn commit(&mut self) -> Result<()> {
        Ok(self.conn.batch_execute("COMMIT").await?)
    }

    async fn roll_back(&mut self) -> Result<()> {
        Ok(self.conn.batch_execute("ROLLBACK").await?)
    }
}

#[async_trait]
impl Tables for Mysql {
    async fn create(&mut self, keys: &[String]) -> Result<()> {
        migrations::mysql::up(&mut self.conn, &outbox::Tables::default(), migrations::EXPECTED_VERSION).await?;
        for table in BUSINESS {
            self.conn.batch_execute(table).await?;
        }
        for key in keys {
            sql_query("INSERT INTO counters VALUES (?, 0)").bind::<Text, _>(key).execute(&mut self.conn).await?;
        }
        Ok(())
    }

    async fn shards(&mut self) -> Result<HashMap<String, i16>> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = Text)]
            name: String,
            #[diesel(sql_type = SmallInt)]
            shard: i16,
        }
        let rows: Vec<Row> =
            sql_query("SELECT aggregate_id AS name, shard FROM outbox_messages").load(&mut self.conn).await?;
        Ok(rows.into_iter().map(|row| (row.name, row.shard)).collect())
    }

    async fn newest(&mut self) -> Result<i64> {
        let newest = "SELECT coalesce(max(seq), 0) AS n FROM outbox_messages";
        Ok(sql_query(newest).get_result::<Number>(&mut self.conn).await?.n)
    }

    async fn pending_up_to(&mut self, seq: i64) -> Result<u64> {
        let rows = sql_query("SELECT count(*) AS n FROM outbox_messages WHERE seq <= ?").bind::<BigInt, _>(seq);
        Ok(u64::try_from(rows.get_result::<Number>(&mut self.conn).await?.n)?)
    }

    async fn pending(&mut self, aggregate_type: &str, event_type: &str) -> Result<u64> {
        let rows = "SELECT count(*) AS n FROM outbox_messages WHERE aggregate_type = ? AND event_type = ?";
        let left: Number = sql_query(rows)
            .bind::<Text, _>(aggregate_type)
            .bind::<Text, _>(event_type)
            .get_result(&mut self.conn)
            .await?;
        Ok(u64::try_from(left.n)?)
    }

    async fn attempted(&mut self) -> Result<u64> {
        let rows = "SELECT count(*) AS n FROM outbox_messages WHERE attempts > 0";
        Ok(u64::try_from(sql_query(rows).get_result::<Number>(&mut self.conn).await?.n)?)
    }

    async fn dead_letters(&mut self) -> Result<Vec<Uuid>> {
        let rows: Vec<Id> = sql_query("SELECT id FROM outbox_dead_letters").load(&mut self.conn).await?;
        rows.iter().map(|row| uuid(&row.id)).collect()
    }

    async fn leases(&mut self) -> Result<Vec<LeaseRow>> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = SmallInt)]
            shard: i16,
            #[diesel(sql_type = Nullable<Binary>)]
            owner: Option<Vec<u8>>,
            #[diesel(sql_type = Nullable<Text>)]
            name: Option<String>,
        }
        let leases = "SELECT l.shard, l.owner, r.name FROM outbox_leases l LEFT JOIN outbox_relays r USING (owner)";
        let rows: Vec<Row> = sql_query(leases).load(&mut self.conn).await?;
        let lease = |row: Row| {
            let owner = row.owner.as_deref().map(uuid).transpose()?;
            Ok(LeaseRow { shard: row.shard, owner, name: row.name })
        };
        rows.into_iter().map(lease).collect()
    }

    async fn committed(&mut self) -> Result<Vec<Committed>> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = Binary)]
            id: Vec<u8>,
            #[diesel(sql_type = Text)]
            name: String,
            #[diesel(sql_type = BigInt)]
            n: i64,
        }
        let rows: Vec<Row> = sql_query("SELECT id, name, n FROM record").load(&mut self.conn).await?;
        rows.into_iter().map(|row| Ok(Committed { id: uuid(&row.id)?, key: row.name, n: row.n })).collect()
    }
}

fn uuid(bytes: &[u8]) -> Result<Uuid> {
    Uuid::from_slice(bytes).context("an id is not of 16 bytes")
}

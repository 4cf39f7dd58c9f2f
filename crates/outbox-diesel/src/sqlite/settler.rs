use std::sync::Arc;

use async_trait::async_trait;
use diesel::result::QueryResult;
use diesel::sql_types::{BigInt, Bool, Text};
use diesel::{RunQueryDsl, SqliteConnection};
use outbox_core::message::LaneKey;
use outbox_core::ports::{
    Backlog, Burial, FailureMark, Fenced, Lease, ParkedKey, Position, Settler, ShardId, StorageError,
};
use uuid::Uuid;

use super::backlog::{self, BacklogStatements};
use super::leases::lease_stands;
use super::sql::{micros_of, render, shortened};
use super::worker::Worker;
use crate::Tables;
use crate::sql::{Sql, bind};

/// What becomes of messages.
pub(super) struct SqliteSettler {
    worker: Worker,
    reads: Worker,
    sql: Arc<Statements>,
    backlog: Arc<BacklogStatements>,
}

struct Statements {
    lease: String,
    delete: String,
    mark: String,
    bury: String,
    park: String,
    remove: String,
    parked: String,
}

impl SqliteSettler {
    pub(super) fn new(worker: Worker, tables: &Tables) -> Self {
        let sql = |text| render(tables, text);
        // A row whose id cannot be read is known to the relay by the nil id.
        const BURIED: &str = "WHERE seq = ?1 AND (id = ?2 OR \
             (?2 = '00000000-0000-0000-0000-000000000000' AND NOT {{is_uuid}}))";
        let statements = Statements {
            lease: sql("SELECT 1 FROM {{leases}} WHERE shard = ?1 AND owner = ?2 AND epoch = ?3"),
            delete: sql("DELETE FROM {{messages}} WHERE seq = ?1 AND id = ?2"),
            mark: sql("UPDATE {{messages}} SET attempts = ?3, retry_at = {{now}} + ?4, last_error = ?5 \
                 WHERE seq = ?1 AND id = ?2"),
            bury: sql(&format!(
                "INSERT INTO {{{{dead_letters}}}} (seq, id, aggregate_type, aggregate_id, event_type, content_type, \
                 headers, occurred_at, available_at, payload, attempts, reason, error, outcome_unknown, died_at) \
                 SELECT seq, CASE WHEN {{{{is_uuid}}}} THEN id ELSE '00000000-0000-0000-0000-000000000000' END, \
                 aggregate_type, aggregate_id, event_type, content_type, headers, occurred_at, available_at, payload, \
                 ?3, ?4, ?5, ?6, {{{{now}}}} FROM {{{{messages}}}} {BURIED}"
            )),
            park: sql(&format!(
                "INSERT INTO {{{{parked_keys}}}} (aggregate_type, aggregate_id, parked_at, dead_letter) \
                 SELECT aggregate_type, aggregate_id, {{{{now}}}}, id FROM {{{{messages}}}} \
                 {BURIED} AND aggregate_id IS NOT NULL ON CONFLICT DO NOTHING"
            )),
            remove: sql(&format!("DELETE FROM {{{{messages}}}} {BURIED}")),
            parked: sql("SELECT aggregate_type, aggregate_id FROM {{parked_keys}}"),
        };
        Self {
            reads: worker.another(),
            worker,
            sql: Arc::new(statements),
            backlog: Arc::new(BacklogStatements::new(tables)),
        }
    }

    /// Runs `write` in one write transaction, if the lease stands in it.
    async fn fenced(
        &self,
        action: &'static str,
        owner: Uuid,
        lease: &Lease,
        write: impl FnOnce(&mut SqliteConnection, &Statements) -> QueryResult<()> + Send + 'static,
    ) -> Result<Fenced, StorageError> {
        let (sql, lease) = (self.sql.clone(), *lease);
        let run = move |conn: &mut SqliteConnection| {
            if !lease_stands(conn, &sql.lease, &owner.to_string(), &lease)? {
                return Ok(Fenced::Lost);
            }
            write(conn, &sql)?;
            Ok(Fenced::Done)
        };
        self.worker.write(action, run).await
    }
}

#[async_trait]
impl Settler for SqliteSettler {
    async fn settle(&self, delivered: &[Position]) -> Result<(), StorageError> {
        let delivered: Vec<_> = delivered.iter().filter(|row| row.shard == ShardId(0)).copied().collect();
        if delivered.is_empty() {
            return Ok(());
        }
        let sql = self.sql.clone();
        let settle = move |conn: &mut SqliteConnection| {
            for row in delivered {
                Sql::<_>::new(&sql.delete, (bind::<BigInt, _>(row.seq), bind::<Text, _>(row.id.to_string())))
                    .execute(conn)?;
            }
            Ok(())
        };
        self.worker.write("delete delivered messages", settle).await
    }

    async fn retry_later(&self, owner: Uuid, lease: &Lease, mark: &FailureMark) -> Result<Fenced, StorageError> {
        let mark = mark.clone();
        let write = move |conn: &mut SqliteConnection, sql: &Statements| {
            Sql::<_>::new(
                &sql.mark,
                (
                    bind::<BigInt, _>(mark.position.seq),
                    bind::<Text, _>(mark.position.id.to_string()),
                    bind::<BigInt, _>(i64::from(mark.attempts)),
                    bind::<BigInt, _>(micros_of(mark.delay)),
                    bind::<Text, _>(shortened(&mark.error)),
                ),
            )
            .execute(conn)
            .map(drop)
        };
        self.fenced("mark a failed attempt", owner, lease, write).await
    }

    async fn bury(&self, owner: Uuid, lease: &Lease, burial: &Burial) -> Result<Fenced, StorageError> {
        let burial = burial.clone();
        let write = move |conn: &mut SqliteConnection, sql: &Statements| {
            let id = burial.position.id.to_string();
            let row = || (bind::<BigInt, _>(burial.position.seq), bind::<Text, _>(id.as_str()));
            let (seq, id) = row();
            Sql::<_>::new(
                &sql.bury,
                (
                    seq,
                    id,
                    bind::<BigInt, _>(i64::from(burial.attempts)),
                    bind::<Text, _>(burial.reason.as_str()),
                    bind::<Text, _>(shortened(&burial.error)),
                    bind::<Bool, _>(burial.outcome_unknown),
                ),
            )
            .execute(conn)?;
            if burial.park_key {
                Sql::<_>::new(&sql.park, row()).execute(conn)?;
            }
            Sql::<_>::new(&sql.remove, row()).execute(conn).map(drop)
        };
        self.fenced("move a message to the dead letters", owner, lease, write).await
    }

    async fn parked_keys(&self, shards: &[ShardId]) -> Result<Vec<ParkedKey>, StorageError> {
        if !shards.contains(&ShardId(0)) {
            return Ok(Vec::new());
        }
        let sql = self.sql.clone();
        let keys = self
            .reads
            .run("read the parked keys", move |conn| {
                Sql::<_, (Text, Text)>::new(&sql.parked, ()).load::<(String, String)>(conn)
            })
            .await?;
        let parked = |(kind, id): (String, String)| ParkedKey { shard: ShardId(0), lane: LaneKey::of(&kind, &id) };
        Ok(keys.into_iter().map(parked).collect())
    }

    async fn backlog(&self) -> Result<Backlog, StorageError> {
        let sql = self.backlog.clone();
        self.reads.read("measure the backlog", move |conn| backlog::measure(conn, &sql)).await
    }
}

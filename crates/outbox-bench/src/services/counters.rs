use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio_postgres::Client;

use super::processes::server_cpu;

/// How long closed connections may take to be gone; their statistics are flushed when they go.
const QUIET_LIMIT: Duration = Duration::from_secs(30);

/// What PostgreSQL has counted up to a moment.
#[derive(Debug, Clone, Copy)]
pub struct Counters {
    wal_bytes: i64,
    transactions: i64,
    rows: RowCounts,
    /// Processor time of all server processes; `None` when the server is not on this machine.
    cpu: Option<Duration>,
}

/// Rows of one table that PostgreSQL has looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowCounts {
    /// Index entries.
    pub by_index: i64,
    /// Rows of sequential scans.
    pub by_scan: i64,
}

impl Counters {
    /// Reads the counters of the client's database and of one table once nobody else is connected: a connection's own
    /// statistics count only when it has ended.
    ///
    /// # Errors
    ///
    /// The database cannot be reached, or other connections do not go.
    pub async fn read(client: &Client, table: &str, others: i64) -> Result<Self> {
        wait_until_quiet(client, others).await?;
        let row = client
            .query_one(
                "SELECT (pg_current_wal_insert_lsn() - '0/0')::int8, \
                 (SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()), \
                 (SELECT coalesce(sum(idx_tup_read), 0)::int8 FROM pg_stat_all_indexes WHERE relid = $1::text::regclass), \
                 (SELECT coalesce(sum(seq_tup_read), 0)::int8 FROM pg_stat_all_tables WHERE relid = $1::text::regclass), \
                 pg_backend_pid()",
                &[&table],
            )
            .await?;
        Ok(Self {
            wal_bytes: row.get(0),
            transactions: row.get(1),
            rows: RowCounts { by_index: row.get(2), by_scan: row.get(3) },
            cpu: server_cpu(row.get(4)),
        })
    }

    /// Bytes of write-ahead log of the whole server since `before`.
    pub fn wal_bytes_since(&self, before: &Self) -> i64 {
        self.wal_bytes - before.wal_bytes
    }

    /// Transactions of the database since `before`, each of them one statement where nobody uses longer ones.
    pub fn transactions_since(&self, before: &Self) -> i64 {
        self.transactions - before.transactions
    }

    /// Rows looked at since `before`, by index or by a scan.
    pub fn rows_examined_since(&self, before: &Self) -> i64 {
        self.rows.by_index - before.rows.by_index + self.rows.by_scan - before.rows.by_scan
    }

    /// Processor time of the server's processes since `before`.
    pub fn cpu_since(&self, before: &Self) -> Option<Duration> {
        self.cpu?.checked_sub(before.cpu?)
    }
}

async fn wait_until_quiet(client: &Client, others: i64) -> Result<()> {
    let deadline = Instant::now() + QUIET_LIMIT;
    loop {
        let row = client
            .query_one(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                 AND backend_type = 'client backend' AND pid <> pg_backend_pid()",
                &[],
            )
            .await?;
        if row.get::<_, i64>(0) <= others {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "connections to the benchmark's database did not end within {QUIET_LIMIT:?}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

//! Whether the database can be used as it is; if not, what to do.

use std::collections::BTreeMap;

use outbox_core::ports::{StorageError, StorageProfile};

use super::connector::Connector;
use super::error::{refused, timed_out, unexpected_reply};
use super::establish::diesel_connection;
use super::grants;
use super::pool::Pool;
use super::row::{big, lossy_text};
use crate::Tables;
use crate::migrations::mysql::verify;

pub(super) const WHAT: &str = "check the database";

/// Checks schema version, grants, server and AUTO_INCREMENT.
pub(super) async fn check(connector: &Connector, pool: &Pool, tables: &Tables) -> Result<StorageProfile, StorageError> {
    let work = async {
        let mut connection = diesel_connection(connector, WHAT).await?;
        verify(&mut connection, tables).await?;
        drop(connection);
        let profile = State::read(pool, tables).await?.judge(tables)?;
        grants::check(pool, tables).await?;
        Ok(profile)
    };
    tokio::time::timeout(pool.timeout(), work).await.unwrap_or_else(|_| Err(timed_out(WHAT, pool.timeout())))
}

/// What was found.
#[derive(Debug, Clone, Default)]
struct State {
    /// Server variables by name.
    variables: BTreeMap<String, String>,
    max_seq: i64,
    shards: i64,
    /// For each table: engine, and the next AUTO_INCREMENT (0: none).
    tables: Vec<(String, String, i64)>,
    /// Text columns with another collation than the migration's: table, column, collation.
    collations: Vec<(String, String, String)>,
}

/// Oldest versions that have what the outbox needs (checks, defaults by expression, `json_table`, SKIP LOCKED).
const OLDEST_MYSQL: [u32; 3] = [8, 0, 17];
const OLDEST_MARIADB: [u32; 3] = [10, 6, 0];

const COLLATION: &str = "utf8mb4_bin";

impl State {
    async fn read(pool: &Pool, tables: &Tables) -> Result<Self, StorageError> {
        let schema = tables.schema().map_or_else(|| "database()".to_owned(), |schema| format!("'{schema}'"));
        let prefix = tables.prefix();
        let names = ["messages", "leases", "relays", "dead_letters", "parked_keys"]
            .map(|name| format!("'{prefix}{name}'"))
            .join(", ");
        let messages = tables.messages();
        // The highest seq is read before the next one, so that an append in between cannot look like a counter set back. It also opens
        // the table, without which MySQL tells a next one that is too low after it was started.
        let text = format!(
            "SHOW VARIABLES WHERE Variable_name IN ('version', 'binlog_format', 'read_only', 'super_read_only', \
             'innodb_read_only', 'transaction_read_only', 'tx_read_only', 'wsrep_on', 'group_replication_single_primary_mode', \
             'innodb_flush_log_at_trx_commit', 'log_bin', 'sync_binlog'); \
             SELECT max(seq) FROM {messages} FORCE INDEX (`{prefix}messages_seq`); \
             SELECT count(*) FROM {}; \
             SELECT t.table_name, t.engine, t.auto_increment FROM information_schema.tables AS t \
             WHERE t.table_schema = {schema} AND t.table_name IN ({names}); \
             SELECT c.table_name, c.column_name, c.collation_name FROM information_schema.columns AS c \
             WHERE c.table_schema = {schema} AND c.table_name IN ({names}) AND c.collation_name <> '{COLLATION}'",
            tables.leases()
        );
        let sets = pool.run(WHAT, &text).await?;
        let [variables, max_seq, shards, found, collations] = &sets[..] else { return Err(unexpected_reply(WHAT)) };
        let text = |row, index| lossy_text(row, index).unwrap_or_default();
        Ok(Self {
            variables: variables.rows.iter().map(|row| (text(row, 0), text(row, 1))).collect(),
            max_seq: max_seq.rows.first().map_or(0, |row| big(row, 0)),
            shards: shards.rows.first().map_or(0, |row| big(row, 0)),
            tables: found.rows.iter().map(|row| (text(row, 0), text(row, 1), big(row, 2))).collect(),
            collations: collations.rows.iter().map(|row| (text(row, 0), text(row, 1), text(row, 2))).collect(),
        })
    }

    fn variable(&self, name: &str) -> &str {
        self.variables.get(name).map_or("", String::as_str)
    }

    fn is_on(&self, name: &str) -> bool {
        let value = self.variable(name);
        !(value.is_empty() || value == "0" || value.eq_ignore_ascii_case("OFF"))
    }

    fn judge(&self, tables: &Tables) -> Result<StorageProfile, StorageError> {
        let server = self.server()?;
        for name in ["read_only", "super_read_only", "innodb_read_only", "transaction_read_only", "tx_read_only"] {
            if self.is_on(name) {
                return Err(refused(format!("the server is read-only ({name} is on): connect to the primary")));
            }
        }
        if self.variable("binlog_format").eq_ignore_ascii_case("STATEMENT") {
            return Err(refused(
                "binlog_format is STATEMENT, which does not work with READ COMMITTED: set binlog_format = ROW or MIXED"
                    .to_owned(),
            ));
        }
        if self.is_on("wsrep_on") {
            return Err(refused(
                "the server is a node of a Galera cluster (wsrep_on), whose nodes draw numbers independently and show no running \
                 transactions of others: use a server with one writable node"
                    .to_owned(),
            ));
        }
        if self.variable("group_replication_single_primary_mode").eq_ignore_ascii_case("OFF") {
            return Err(refused(
                "the server is a member of a replication group with several primaries (group_replication_single_primary_mode = OFF), \
                 which draw numbers independently and show no running transactions of others: use single-primary mode"
                    .to_owned(),
            ));
        }
        self.judge_tables(tables)?;
        for loss in self.losses() {
            tracing::warn!("{loss}");
        }
        match u16::try_from(self.shards) {
            Ok(shards) if shards > 0 => Ok(StorageProfile { shards, server }),
            _ => Err(refused(format!(
                "{} holds {} rows and must hold one for each shard: restore them as the migration made them",
                tables.leases(),
                self.shards
            ))),
        }
    }

    /// Settings under which a machine that fails takes commits with it that the server had confirmed.
    fn losses(&self) -> Vec<String> {
        let mut losses = Vec::new();
        let mut loses = |setting: &str| {
            losses.push(format!(
                "{setting}: when the machine fails, commits of the last moments are gone, and their events may have been published: \
                 set it to 1"
            ));
        };
        let flush = self.variable("innodb_flush_log_at_trx_commit");
        if !matches!(flush, "" | "1" | "3") {
            loses(&format!("innodb_flush_log_at_trx_commit is {flush}"));
        }
        if self.is_on("log_bin") && self.variable("sync_binlog") == "0" {
            loses("sync_binlog is 0");
        }
        losses
    }

    fn judge_tables(&self, tables: &Tables) -> Result<(), StorageError> {
        for (name, engine, next) in &self.tables {
            if !engine.eq_ignore_ascii_case("InnoDB") {
                return Err(refused(format!(
                    "the table {name} has the engine {engine}, which has no transactions: run ALTER TABLE {name} ENGINE = InnoDB"
                )));
            }
            if *name == format!("{}messages", tables.prefix()) && *next > 0 && *next <= self.max_seq {
                let first_free = self.max_seq + 1;
                return Err(refused(format!(
                    "the next AUTO_INCREMENT of {name} is {next} and it holds seq {}, as after a restore: stop the writers and run \
                     ALTER TABLE {name} AUTO_INCREMENT = {first_free}",
                    self.max_seq
                )));
            }
        }
        match self.collations.first() {
            None => Ok(()),
            Some((table, column, collation)) => Err(refused(format!(
                "the column {table}.{column} has the collation {collation}, under which different keys are equal: restore \
                 {COLLATION} as the migration made it (`outbox migrate print`)"
            ))),
        }
    }

    /// Name and version of the server, when it is new enough.
    fn server(&self) -> Result<String, StorageError> {
        let version = self.variable("version");
        let (name, oldest) =
            if version.contains("MariaDB") { ("MariaDB", OLDEST_MARIADB) } else { ("MySQL", OLDEST_MYSQL) };
        let numbers = version.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
        let numbers: Vec<u32> = numbers.take(3).collect();
        if numbers[..] < oldest[..] {
            let oldest = oldest.map(|number| number.to_string()).join(".");
            return Err(refused(format!(
                "the server is {name} {version}, and the outbox needs {name} {oldest} or newer: upgrade the server"
            )));
        }
        let short = version.split('-').next().unwrap_or(version);
        Ok(format!("{name} {short}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        let variables = [("version", "10.11.19-MariaDB-0+deb12u1"), ("binlog_format", "MIXED"), ("read_only", "OFF")];
        State {
            variables: variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            max_seq: 10,
            shards: 64,
            tables: vec![("outbox_messages".to_owned(), "InnoDB".to_owned(), 11)],
            collations: Vec::new(),
        }
    }

    fn with(name: &str, value: &str) -> State {
        let mut state = state();
        state.variables.insert(name.to_owned(), value.to_owned());
        state
    }

    #[test]
    fn a_sound_server_passes() {
        let profile = state().judge(&Tables::default()).unwrap();
        assert_eq!(profile, StorageProfile { shards: 64, server: "MariaDB 10.11.19".to_owned() });
        let mysql = with("version", "8.0.17").judge(&Tables::default()).unwrap();
        assert_eq!(mysql.server, "MySQL 8.0.17");
        assert!(with("version", "9.1.0-commercial").judge(&Tables::default()).is_ok());
    }

    #[test]
    fn everything_that_breaks_the_promise_is_refused_with_the_fix() {
        let table = |engine: &str, next| State {
            tables: vec![("outbox_messages".to_owned(), engine.to_owned(), next)],
            ..state()
        };
        let collations =
            vec![("outbox_messages".to_owned(), "aggregate_id".to_owned(), "latin1_swedish_ci".to_owned())];
        let cases = [
            (with("version", "5.7.44"), "MySQL 8.0.17 or newer"),
            (with("version", "8.0.16"), "MySQL 8.0.17 or newer"),
            (with("version", "10.5.23-MariaDB"), "MariaDB 10.6.0 or newer"),
            (with("read_only", "ON"), "connect to the primary"),
            (with("super_read_only", "1"), "connect to the primary"),
            (with("binlog_format", "STATEMENT"), "binlog_format = ROW"),
            (with("wsrep_on", "ON"), "one writable node"),
            (with("group_replication_single_primary_mode", "OFF"), "single-primary mode"),
            (table("MyISAM", 11), "ENGINE = InnoDB"),
            (table("InnoDB", 10), "AUTO_INCREMENT = 11"),
            (State { collations, ..state() }, "utf8mb4_bin"),
            (State { shards: 0, ..state() }, "one for each shard"),
        ];
        for (state, fix) in cases {
            let error = state.judge(&Tables::default()).unwrap_err().to_string();
            assert!(error.contains(fix), "{error}");
        }
    }

    #[test]
    fn settings_that_lose_confirmed_commits_are_told_and_not_refused() {
        assert!(state().losses().is_empty());
        assert!(with("innodb_flush_log_at_trx_commit", "1").losses().is_empty());
        assert!(with("sync_binlog", "0").losses().is_empty(), "there is no binary log");
        let mut state = with("innodb_flush_log_at_trx_commit", "2");
        state.variables.extend([("log_bin", "ON"), ("sync_binlog", "0")].map(|(k, v)| (k.to_owned(), v.to_owned())));
        let losses = state.losses();
        assert!(losses[0].contains("innodb_flush_log_at_trx_commit is 2") && losses[1].contains("sync_binlog is 0"));
        assert!(state.judge(&Tables::default()).is_ok());
    }
}

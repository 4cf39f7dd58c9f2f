//! Whether the database can be used as it is; if not, what to do.

use std::collections::BTreeMap;

use outbox_core::inbox::InboxProfile;
use outbox_core::ports::StorageError;

use super::grants;
use crate::inbox::InboxTables;
use crate::inbox::migrations::mysql::verify;
use crate::mysql::connector::Connector;
use crate::mysql::error::{refused, timed_out, unexpected_reply};
use crate::mysql::establish::diesel_connection;
use crate::mysql::pool::Pool;
use crate::mysql::row::{big, lossy_text};

pub(super) const WHAT: &str = "check the database";

/// Checks schema version, server, tables and grants.
pub(super) async fn check(
    connector: &Connector,
    pool: &Pool,
    tables: &InboxTables,
) -> Result<InboxProfile, StorageError> {
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

/// Oldest versions that have what the inbox needs (defaults by expression, `json_table`, SKIP LOCKED).
const OLDEST_MYSQL: [u32; 3] = [8, 0, 17];
const OLDEST_MARIADB: [u32; 3] = [10, 6, 0];

/// What was found.
#[derive(Debug, Clone, Default)]
struct State {
    /// Server variables by name.
    variables: BTreeMap<String, String>,
    /// The highest number of a dead letter.
    max_seq: i64,
    /// For each table: engine, and the next AUTO_INCREMENT (0: none).
    tables: Vec<(String, String, i64)>,
    /// Columns that are compared and are not the bytes that the migration made: table, column, type.
    blurred: Vec<(String, String, String)>,
}

impl State {
    async fn read(pool: &Pool, tables: &InboxTables) -> Result<Self, StorageError> {
        let schema = tables.schema().map_or_else(|| "database()".to_owned(), |schema| format!("'{schema}'"));
        let prefix = tables.prefix();
        let names = ["messages", "held", "parked_keys", "dead_letters", "positions", "horizons"]
            .map(|name| format!("'{prefix}{name}'"))
            .join(", ");
        // Of a table that nobody has opened since the server started, MySQL tells no AUTO_INCREMENT or one too low: so it is opened first.
        let text = tables.render(&format!(
            "SHOW VARIABLES WHERE Variable_name IN ('version', 'binlog_format', 'read_only', 'super_read_only', \
             'innodb_read_only', 'transaction_read_only', 'tx_read_only', 'wsrep_on', 'group_replication_single_primary_mode', \
             'innodb_flush_log_at_trx_commit'); \
             SELECT max(seq) FROM {{{{dead_letters}}}} FORCE INDEX ({prefix}dead_letters_seq); \
             SELECT seq FROM {{{{held}}}} LIMIT 0; \
             SELECT t.table_name, t.engine, t.auto_increment FROM information_schema.tables AS t \
             WHERE t.table_schema = {schema} AND t.table_name IN ({names}); \
             SELECT c.table_name, c.column_name, c.data_type FROM information_schema.columns AS c \
             WHERE c.table_schema = {schema} AND c.table_name IN ({names}) \
             AND c.column_name IN ('consumer', 'source', 'id', 'ordering_key', 'stream') AND c.data_type <> 'varbinary'"
        ));
        let sets = pool.run(WHAT, &text).await?;
        let [variables, max_seq, _, found, blurred] = &sets[..] else { return Err(unexpected_reply(WHAT)) };
        let text = |row, index| lossy_text(row, index).unwrap_or_default();
        Ok(Self {
            variables: variables.rows.iter().map(|row| (text(row, 0), text(row, 1))).collect(),
            max_seq: max_seq.rows.first().map_or(0, |row| big(row, 0)),
            tables: found.rows.iter().map(|row| (text(row, 0), text(row, 1), big(row, 2))).collect(),
            blurred: blurred.rows.iter().map(|row| (text(row, 0), text(row, 1), text(row, 2))).collect(),
        })
    }

    fn variable(&self, name: &str) -> &str {
        self.variables.get(name).map_or("", String::as_str)
    }

    fn is_on(&self, name: &str) -> bool {
        let value = self.variable(name);
        !(value.is_empty() || value == "0" || value.eq_ignore_ascii_case("OFF"))
    }

    fn judge(&self, tables: &InboxTables) -> Result<InboxProfile, StorageError> {
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
        let flush = self.variable("innodb_flush_log_at_trx_commit");
        if matches!(flush, "0" | "2") {
            return Err(refused(format!(
                "innodb_flush_log_at_trx_commit is {flush}, so that a crash of the server loses what was acknowledged: set it to 1"
            )));
        }
        if self.is_on("wsrep_on") {
            return Err(refused(
                "the server is a node of a Galera cluster (wsrep_on), whose nodes do not see each other's locks: use a server with one \
                 writable node"
                    .to_owned(),
            ));
        }
        if self.variable("group_replication_single_primary_mode").eq_ignore_ascii_case("OFF") {
            return Err(refused(
                "the server is a member of a replication group with several primaries (group_replication_single_primary_mode = OFF), \
                 which do not see each other's locks: use single-primary mode"
                    .to_owned(),
            ));
        }
        self.judge_tables(tables)?;
        Ok(InboxProfile { server })
    }

    fn judge_tables(&self, tables: &InboxTables) -> Result<(), StorageError> {
        for (name, engine, next) in &self.tables {
            if !engine.eq_ignore_ascii_case("InnoDB") {
                return Err(refused(format!(
                    "the table {name} has the engine {engine}, which has no transactions: run ALTER TABLE {name} ENGINE = InnoDB"
                )));
            }
            if *name == format!("{}held", tables.prefix()) && *next > 0 && *next <= self.max_seq {
                let (found, free) = (self.max_seq, self.max_seq + 1);
                return Err(refused(format!(
                    "the next AUTO_INCREMENT of {name} is {next} and there is a dead letter {found}, as after a restore: stop the \
                     consumers and run ALTER TABLE {name} AUTO_INCREMENT = {free}"
                )));
            }
        }
        match self.blurred.first() {
            None => Ok(()),
            Some((table, column, found)) => Err(refused(format!(
                "the column {table}.{column} has the type {found}, whose collation takes different ids for equal: restore varbinary(255) \
                 as the migration made it"
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
                "the server is {name} {version}, and the inbox needs {name} {oldest} or newer: upgrade the server"
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
        let variables = [
            ("version", "10.11.19-MariaDB-0+deb12u1"),
            ("binlog_format", "MIXED"),
            ("read_only", "OFF"),
            ("innodb_flush_log_at_trx_commit", "1"),
        ];
        State {
            variables: variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            max_seq: 10,
            tables: vec![("inbox_held".to_owned(), "InnoDB".to_owned(), 11)],
            blurred: Vec::new(),
        }
    }

    fn with(name: &str, value: &str) -> State {
        let mut state = state();
        state.variables.insert(name.to_owned(), value.to_owned());
        state
    }

    #[test]
    fn a_sound_server_passes() {
        let profile = state().judge(&InboxTables::default()).unwrap();
        assert_eq!(profile, InboxProfile { server: "MariaDB 10.11.19".to_owned() });
        assert_eq!(with("version", "8.0.17").judge(&InboxTables::default()).unwrap().server, "MySQL 8.0.17");
    }

    #[test]
    fn everything_that_breaks_the_promise_is_refused_with_the_fix() {
        let table =
            |engine: &str, next| State { tables: vec![("inbox_held".to_owned(), engine.to_owned(), next)], ..state() };
        let blurred = vec![("inbox_messages".to_owned(), "id".to_owned(), "varchar".to_owned())];
        let cases = [
            (with("version", "8.0.16"), "MySQL 8.0.17 or newer"),
            (with("version", "10.5.23-MariaDB"), "MariaDB 10.6.0 or newer"),
            (with("read_only", "ON"), "connect to the primary"),
            (with("binlog_format", "STATEMENT"), "binlog_format = ROW"),
            (with("innodb_flush_log_at_trx_commit", "2"), "set it to 1"),
            (with("wsrep_on", "ON"), "one writable node"),
            (with("group_replication_single_primary_mode", "OFF"), "single-primary mode"),
            (table("MyISAM", 11), "ENGINE = InnoDB"),
            (table("InnoDB", 10), "AUTO_INCREMENT = 11"),
            (State { blurred, ..state() }, "varbinary(255)"),
        ];
        for (state, fix) in cases {
            let error = state.judge(&InboxTables::default()).unwrap_err().to_string();
            assert!(error.contains(fix), "{error}");
        }
    }
}

//! Whether the database can be used as it is; if not, what to do.

use diesel::deserialize::{self, QueryableByName};
use diesel::pg::Pg;
use diesel::row::NamedRow;
use diesel::sql_types::{Text, Untyped};
use diesel_async::RunQueryDsl;
use outbox_core::ports::{StorageError, StorageProfile};

use super::error::{statement_error, timed_out};
use super::pool::{Pool, only};
use super::row::{PgRow, big, flag, lossy_text};
use super::url::refused;
use crate::Tables;
use crate::migrations::postgres::verify;
use crate::sql::Sql;

const WHAT: &str = "check the database";

/// Checks schema version, grants, server and sequence.
pub(super) async fn check(pool: &Pool, tables: &Tables) -> Result<StorageProfile, StorageError> {
    let work = async {
        let mut checkout = pool.checkout(WHAT).await?;
        let connection = checkout.connection();
        verify(connection, tables).await?;
        let missing: Vec<(String, String, String)> =
            Sql::<_, (Text, Text, Text)>::new(&tables.render(MISSING_GRANTS), ())
                .load(connection)
                .await
                .map_err(|error| statement_error(WHAT, error))?;
        granted(&missing)?;
        let states = Sql::<_, Untyped>::new(&tables.render(STATE), ())
            .load::<State>(connection)
            .await
            .map_err(|error| statement_error(WHAT, error))?;
        let profile = only(WHAT, states)?.judge(tables)?;
        checkout.give_back();
        Ok(profile)
    };
    tokio::time::timeout(pool.timeout(), work).await.unwrap_or_else(|_| Err(timed_out(WHAT, pool.timeout())))
}

/// What a relay needs beyond reading the version table.
const MISSING_GRANTS: &str = "SELECT current_user::text, g.relation, string_agg(g.privilege, ', ') FROM (VALUES \
    ('{{messages}}', 'SELECT'), ('{{messages}}', 'UPDATE'), ('{{messages}}', 'DELETE'), \
    ('{{seq}}', 'SELECT'), \
    ('{{leases}}', 'SELECT'), ('{{leases}}', 'UPDATE'), \
    ('{{relays}}', 'SELECT'), ('{{relays}}', 'INSERT'), ('{{relays}}', 'UPDATE'), ('{{relays}}', 'DELETE'), \
    ('{{dead_letters}}', 'SELECT'), ('{{dead_letters}}', 'INSERT'), \
    ('{{parked_keys}}', 'SELECT'), ('{{parked_keys}}', 'INSERT')) AS g(relation, privilege) \
    WHERE NOT has_table_privilege(g.relation, g.privilege) GROUP BY g.relation ORDER BY g.relation";

const STATE: &str = "SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'on', \
    current_setting('server_version'), s.seqcache, s.seqincrement, \
    (SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM {{seq}}), \
    (SELECT coalesce(max(m.seq), 0) FROM {{leases}} AS l CROSS JOIN LATERAL (SELECT o.seq FROM {{messages}} AS o \
    WHERE o.shard = l.shard ORDER BY o.seq DESC LIMIT 1) AS m), \
    (SELECT count(*) FROM {{leases}}), \
    (SELECT coalesce(bool_or(pg_get_expr(d.adbin, d.adrelid) LIKE '%pg_current_xact_id%'), false) FROM pg_attrdef AS d \
    JOIN pg_attribute AS a ON a.attrelid = d.adrelid AND a.attnum = d.adnum \
    WHERE d.adrelid = '{{messages}}'::regclass AND a.attname = 'seq') \
    FROM pg_sequence AS s WHERE s.seqrelid = '{{seq}}'::regclass";

fn granted(missing: &[(String, String, String)]) -> Result<(), StorageError> {
    let Some((role, ..)) = missing.first() else { return Ok(()) };
    let grants: Vec<_> = missing
        .iter()
        .map(|(_, relation, privileges)| {
            let kind = if relation.ends_with("_seq\"") { "SEQUENCE " } else { "" };
            format!("GRANT {privileges} ON {kind}{relation} TO \"{role}\"")
        })
        .collect();
    Err(refused(format!("the role {role:?} lacks grants: run {}", grants.join("; "))))
}

struct State {
    in_recovery: bool,
    read_only: bool,
    server: String,
    cache: i64,
    increment: i64,
    last_value: i64,
    max_seq: i64,
    shards: i64,
    id_before_seq: bool,
}

impl QueryableByName<Pg> for State {
    fn build<'a>(row: &impl NamedRow<'a, Pg>) -> deserialize::Result<Self> {
        let row = &PgRow(row);
        Ok(Self {
            in_recovery: flag(row, 0),
            read_only: flag(row, 1),
            server: lossy_text(row, 2).unwrap_or_default(),
            cache: big(row, 3),
            increment: big(row, 4),
            last_value: big(row, 5),
            max_seq: big(row, 6),
            shards: big(row, 7),
            id_before_seq: flag(row, 8),
        })
    }
}

impl State {
    fn judge(self, tables: &Tables) -> Result<StorageProfile, StorageError> {
        let (seq, messages, leases) = (tables.seq(), tables.messages(), tables.leases());
        if self.in_recovery {
            return Err(refused("the server is a standby (in recovery): connect to the primary".to_owned()));
        }
        if self.read_only {
            return Err(refused(
                "the server is read-only: connect to the primary, or reset default_transaction_read_only".to_owned(),
            ));
        }
        if self.cache != 1 {
            let cache = self.cache;
            return Err(refused(format!(
                "the sequence {seq} has CACHE {cache}, which breaks the order of messages: run ALTER SEQUENCE {seq} CACHE 1 \
                 and reconnect every writer"
            )));
        }
        if self.increment != 1 {
            return Err(refused(format!(
                "the sequence {seq} has INCREMENT {}: run ALTER SEQUENCE {seq} INCREMENT 1",
                self.increment
            )));
        }
        if self.last_value < self.max_seq {
            return Err(refused(format!(
                "the sequence {seq} is at {} and {messages} holds seq {}, as after a restore or logical replication: \
                 stop the writers and run SELECT setval('{seq}', (SELECT max(seq) FROM {messages}))",
                self.last_value, self.max_seq
            )));
        }
        if !self.id_before_seq {
            return Err(refused(format!(
                "the default of {messages}.seq does not take the transaction's id before the number: restore the default \
                 of the migration (`outbox migrate print`)"
            )));
        }
        match u16::try_from(self.shards) {
            Ok(shards) if shards > 0 => Ok(StorageProfile { shards, server: format!("PostgreSQL {}", self.server) }),
            _ => Err(refused(format!(
                "{leases} holds {} rows and must hold one for each shard: restore them as the migration made them",
                self.shards
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State {
            in_recovery: false,
            read_only: false,
            server: "15.0".to_owned(),
            cache: 1,
            increment: 1,
            last_value: 10,
            max_seq: 10,
            shards: 64,
            id_before_seq: true,
        }
    }

    #[test]
    fn a_sound_server_passes() {
        let profile = state().judge(&Tables::default()).unwrap();
        assert_eq!(profile, StorageProfile { shards: 64, server: "PostgreSQL 15.0".to_owned() });
    }

    #[test]
    fn everything_that_breaks_the_promise_is_refused_with_the_fix() {
        let cases = [
            (State { in_recovery: true, ..state() }, "connect to the primary"),
            (State { read_only: true, ..state() }, "default_transaction_read_only"),
            (State { cache: 20, ..state() }, "ALTER SEQUENCE \"outbox_messages_seq\" CACHE 1"),
            (State { increment: 2, ..state() }, "INCREMENT 1"),
            (State { last_value: 9, ..state() }, "setval"),
            (State { id_before_seq: false, ..state() }, "restore the default"),
            (State { shards: 0, ..state() }, "one for each shard"),
        ];
        for (state, fix) in cases {
            let error = state.judge(&Tables::default()).unwrap_err().to_string();
            assert!(error.contains(fix), "{error}");
        }
    }

    #[test]
    fn a_missing_grant_is_named_with_its_command() {
        let missing = [("relay".to_owned(), "\"outbox_messages\"".to_owned(), "DELETE, UPDATE".to_owned())];
        let error = granted(&missing).unwrap_err().to_string();
        assert!(error.contains("GRANT DELETE, UPDATE ON \"outbox_messages\" TO \"relay\""), "{error}");
    }
}

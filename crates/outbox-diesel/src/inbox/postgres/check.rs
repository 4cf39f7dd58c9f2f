//! Whether the database can be used as it is; if not, what to do.

use diesel::sql_types::{Bool, Nullable, Text};
use outbox_core::inbox::InboxProfile;
use outbox_core::ports::StorageError;

use crate::inbox::InboxTables;
use crate::inbox::migrations::postgres::verify;
use crate::postgres::error::{statement_error, timed_out};
use crate::postgres::pool::{Pool, only, rows_of};
use crate::postgres::url::refused;
use crate::sql::Sql;

const WHAT: &str = "check the database";

/// Checks schema version, grants, server and collations.
pub(super) async fn check(pool: &Pool, tables: &InboxTables) -> Result<InboxProfile, StorageError> {
    let work = async {
        let mut checkout = pool.checkout(WHAT).await?;
        let connection = checkout.connection();
        verify(connection, tables).await?;
        let text = tables.render(MISSING_GRANTS);
        let missing: Vec<(String, String, String)> = rows_of(connection, Sql::<_, (Text, Text, Text)>::new(&text, ()))
            .await
            .map_err(|error| statement_error(WHAT, error))?;
        granted(&missing)?;
        let text = tables.render(STATE);
        let states: Vec<StateRow> = rows_of(connection, Sql::<_, StateColumns>::new(&text, ()))
            .await
            .map_err(|error| statement_error(WHAT, error))?;
        let profile = judge(only(WHAT, states)?.into())?;
        checkout.give_back();
        Ok(profile)
    };
    tokio::time::timeout(pool.timeout(), work).await.unwrap_or_else(|_| Err(timed_out(WHAT, pool.timeout())))
}

const MISSING_GRANTS: &str = "SELECT current_user::text, g.relation, string_agg(g.privilege, ', ') FROM (VALUES \
    ('{{messages}}', 'SELECT'), ('{{messages}}', 'INSERT'), ('{{messages}}', 'UPDATE'), ('{{messages}}', 'DELETE'), \
    ('{{held}}', 'SELECT'), ('{{held}}', 'INSERT'), ('{{held}}', 'UPDATE'), ('{{held}}', 'DELETE'), \
    ('{{held_seq}}', 'USAGE'), \
    ('{{parked_keys}}', 'SELECT'), ('{{parked_keys}}', 'INSERT'), ('{{parked_keys}}', 'UPDATE'), ('{{parked_keys}}', 'DELETE'), \
    ('{{dead_letters}}', 'SELECT'), ('{{dead_letters}}', 'INSERT'), ('{{dead_letters}}', 'DELETE'), \
    ('{{positions}}', 'SELECT'), ('{{positions}}', 'INSERT'), ('{{positions}}', 'UPDATE'), ('{{positions}}', 'DELETE'), \
    ('{{horizons}}', 'SELECT'), ('{{horizons}}', 'INSERT'), ('{{horizons}}', 'UPDATE')) AS g(relation, privilege) \
    WHERE NOT CASE g.privilege WHEN 'USAGE' THEN has_sequence_privilege(g.relation, g.privilege) \
    ELSE has_table_privilege(g.relation, g.privilege) END GROUP BY g.relation ORDER BY g.relation";

const STATE: &str = "SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'on', \
    current_setting('synchronous_commit') = 'off', current_setting('server_encoding'), current_setting('server_version'), \
    (SELECT min(a.attname::text) FROM pg_attribute AS a JOIN pg_collation AS c ON c.oid = a.attcollation \
    WHERE a.attrelid IN ('{{messages}}'::regclass, '{{positions}}'::regclass) AND a.attnum > 0 AND NOT c.collisdeterministic)";

type StateColumns = (Bool, Bool, Bool, Text, Text, Nullable<Text>);
type StateRow = (bool, bool, bool, String, String, Option<String>);

struct State {
    in_recovery: bool,
    read_only: bool,
    loses_commits: bool,
    encoding: String,
    server: String,
    /// A column that takes different ids for equal.
    blurred: Option<String>,
}

impl From<StateRow> for State {
    fn from((in_recovery, read_only, loses_commits, encoding, server, blurred): StateRow) -> Self {
        Self { in_recovery, read_only, loses_commits, encoding, server, blurred }
    }
}

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

fn judge(state: State) -> Result<InboxProfile, StorageError> {
    let State { in_recovery, read_only, loses_commits, encoding, server, blurred } = state;
    let problem = if in_recovery {
        "the server is a standby (in recovery): connect to the primary".to_owned()
    } else if read_only {
        "the server is read-only: connect to the primary, or reset default_transaction_read_only".to_owned()
    } else if loses_commits {
        "synchronous_commit is off, so that a crash of the server loses what was acknowledged: set it to on for this role".to_owned()
    } else if encoding != "UTF8" {
        format!("the database has the encoding {encoding}, which cannot hold every id: use a database of encoding UTF8")
    } else if let Some(column) = blurred {
        format!("the column {column} has a collation that takes different ids for equal: give it COLLATE \"C\"")
    } else {
        return Ok(InboxProfile { server: format!("PostgreSQL {server}") });
    };
    Err(refused(problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        (false, false, false, "UTF8".to_owned(), "15.0".to_owned(), None).into()
    }

    #[test]
    fn a_sound_server_passes() {
        assert_eq!(judge(state()).unwrap(), InboxProfile { server: "PostgreSQL 15.0".to_owned() });
    }

    #[test]
    fn everything_that_breaks_the_promise_is_refused_with_the_fix() {
        let cases = [
            (State { in_recovery: true, ..state() }, "connect to the primary"),
            (State { read_only: true, ..state() }, "default_transaction_read_only"),
            (State { loses_commits: true, ..state() }, "set it to on"),
            (State { encoding: "LATIN1".to_owned(), ..state() }, "encoding UTF8"),
            (State { blurred: Some("id".to_owned()), ..state() }, "COLLATE \"C\""),
        ];
        for (state, fix) in cases {
            let error = judge(state).unwrap_err().to_string();
            assert!(error.contains(fix), "{error}");
        }
    }

    #[test]
    fn a_missing_grant_is_named_with_its_command() {
        let missing = [("billing".to_owned(), "\"inbox_held_seq\"".to_owned(), "USAGE".to_owned())];
        let error = granted(&missing).unwrap_err().to_string();
        assert!(error.contains("GRANT USAGE ON SEQUENCE \"inbox_held_seq\" TO \"billing\""), "{error}");
    }
}

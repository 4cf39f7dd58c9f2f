//! Whether the account may do what an inbox does.

use outbox_core::ports::{StorageError, StorageErrorKind};

use super::check::WHAT;
use crate::inbox::InboxTables;
use crate::mysql::error::refused;
use crate::mysql::pool::Pool;
use crate::mysql::row::lossy_text;

/// What an inbox does to each table, beyond reading the version table: its columns to probe with, and privileges.
const NEEDED: &[(&str, &str, &[&str])] = &[
    ("messages", "consumer, source, id", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    (
        "held",
        "consumer, stream, `partition`, position, headers, redelivered, status",
        &["SELECT", "INSERT", "UPDATE", "DELETE"],
    ),
    ("parked_keys", "consumer, ordering_key, reason", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    (
        "dead_letters",
        "seq, consumer, stream, `partition`, position, headers, redelivered, attempts, reason, error, parks_key",
        &["SELECT", "INSERT", "DELETE"],
    ),
    ("positions", "consumer, stream, `partition`, position", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("horizons", "consumer, horizon", &["SELECT", "INSERT", "UPDATE"]),
];

/// Tries each kind of statement on rows that cannot exist, those of the consumer without a name: the server says what is missing, whether it is
/// granted to the account, a role or on a single table.
pub(super) async fn check(pool: &Pool, tables: &InboxTables) -> Result<(), StorageError> {
    let mut missing = Vec::new();
    for (name, columns, privileges) in NEEDED {
        let table = tables.render(&format!("{{{{{name}}}}}"));
        for privilege in *privileges {
            match pool.run(WHAT, &probe(privilege, &table, columns)).await {
                Ok(_) => {}
                Err(error) if error.kind() == StorageErrorKind::Refused => {
                    missing.push((privilege, table.clone(), error))
                }
                Err(error) => return Err(error),
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let sets = pool.run(WHAT, "SELECT current_user()").await?;
    let account = sets.first().and_then(|set| set.rows.first()).and_then(|row| lossy_text(row, 0)).unwrap_or_default();
    let (user, host) = account.rsplit_once('@').unwrap_or((account.as_str(), "%"));
    let grants: Vec<_> = missing
        .iter()
        .map(|(privilege, table, _)| format!("GRANT {privilege} ON {table} TO '{user}'@'{host}'"))
        .collect();
    let error = refused(format!("the account {account:?} lacks grants: run {}", grants.join("; ")));
    Err(match missing.into_iter().next() {
        Some((.., cause)) => error.with_source(cause),
        None => error,
    })
}

fn probe(privilege: &str, table: &str, columns: &str) -> String {
    match privilege {
        "SELECT" => format!("SELECT consumer FROM {table} WHERE consumer = ''"),
        "INSERT" => format!("INSERT INTO {table} ({columns}) SELECT {columns} FROM {table} WHERE consumer = ''"),
        "UPDATE" => format!("UPDATE {table} SET consumer = consumer WHERE consumer = ''"),
        _ => format!("DELETE FROM {table} WHERE consumer = ''"),
    }
}

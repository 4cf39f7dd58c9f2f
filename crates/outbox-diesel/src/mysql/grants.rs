//! Whether the account may do what a relay does.

use outbox_core::ports::{StorageError, StorageErrorKind};

use super::check::WHAT;
use super::error::refused;
use super::pool::Pool;
use super::row::lossy_text;
use crate::Tables;

/// The columns of a dead letter that its message has too.
pub(super) const MESSAGE_COLUMNS: [&str; 11] = [
    "shard",
    "seq",
    "id",
    "aggregate_type",
    "aggregate_id",
    "event_type",
    "payload",
    "content_type",
    "headers",
    "occurred_at",
    "available_at",
];

/// Tries each kind of statement on rows that cannot exist: the server says what is missing, whether it is granted to the account,
/// a role or on a single table.
pub(super) async fn check(pool: &Pool, tables: &Tables) -> Result<(), StorageError> {
    let mut missing = Vec::new();
    for (privilege, table, probe) in probes(tables) {
        match pool.run(WHAT, &probe).await {
            Ok(_) => {}
            Err(error) if error.kind() == StorageErrorKind::Refused => missing.push((privilege, table, error)),
            Err(error) => return Err(error),
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

/// What a relay does beyond reading the version table: privilege, table, and a statement that needs it and changes nothing.
fn probes(tables: &Tables) -> Vec<(&'static str, String, String)> {
    let (messages, leases, relays) = (tables.messages(), tables.leases(), tables.relays());
    let (dead_letters, parked_keys) = (tables.dead_letters(), tables.parked_keys());
    let nobody = "owner = x'00000000000000000000000000000000'";
    let moved = MESSAGE_COLUMNS.join(", ");
    let probe = |privilege, table: &str, statement: String| (privilege, table.to_owned(), statement);
    vec![
        probe("SELECT", messages, format!("SELECT seq FROM {messages} WHERE shard = -1 AND seq = -1")),
        probe("UPDATE", messages, format!("UPDATE {messages} SET attempts = attempts WHERE shard = -1 AND seq = -1")),
        probe("DELETE", messages, format!("DELETE FROM {messages} WHERE shard = -1 AND seq = -1")),
        probe("SELECT", leases, format!("SELECT epoch FROM {leases} WHERE shard = -1")),
        probe("UPDATE", leases, format!("UPDATE {leases} SET epoch = epoch WHERE shard = -1")),
        probe("SELECT", relays, format!("SELECT name FROM {relays} WHERE {nobody}")),
        probe(
            "INSERT",
            relays,
            format!(
                "INSERT INTO {relays} (owner, name, seen_at, accepting) SELECT owner, name, seen_at, accepting FROM {relays} \
                 WHERE {nobody}"
            ),
        ),
        probe("UPDATE", relays, format!("UPDATE {relays} SET name = name WHERE {nobody}")),
        probe("DELETE", relays, format!("DELETE FROM {relays} WHERE {nobody}")),
        probe("SELECT", dead_letters, format!("SELECT id FROM {dead_letters} WHERE seq = -1")),
        probe(
            "INSERT",
            dead_letters,
            format!(
                "INSERT INTO {dead_letters} ({moved}, attempts, reason, error, outcome_unknown) \
                 SELECT {moved}, 0, '', '', 0 FROM {messages} WHERE shard = -1 AND seq = -1"
            ),
        ),
        probe("SELECT", parked_keys, format!("SELECT parked_at FROM {parked_keys} WHERE shard = -1")),
        probe(
            "INSERT",
            parked_keys,
            format!(
                "INSERT INTO {parked_keys} (shard, aggregate_type, aggregate_id) SELECT shard, aggregate_type, aggregate_id \
                 FROM {parked_keys} WHERE shard = -1"
            ),
        ),
    ]
}

//! What the statements of SQLite have in common.

use std::time::Duration;

use crate::Tables;

/// The database's clock: microseconds since 1970-01-01 UTC, in steps of a millisecond, which is what every SQLite since 3.35 has.
pub(crate) const NOW: &str = "(CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000)";

/// Whether a row's id is one that the check of the messages table lets through.
const IS_UUID: &str = "(typeof(id) = 'text' AND length(id) = 36 AND id NOT GLOB '*[^0-9a-f-]*' \
     AND id GLOB '????????-????-????-????-????????????' AND length(replace(id, '-', '')) = 32)";

/// The longest wait that is added to a clock; keeps the sum an integer.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// The statement with the names of the tables, `{{now}}` and `{{is_uuid}}`.
pub(super) fn render(tables: &Tables, sql: &str) -> String {
    tables.render(&sql.replace("{{now}}", NOW).replace("{{is_uuid}}", IS_UUID))
}

/// A duration in microseconds, at most 100 years.
pub(super) fn micros_of(duration: Duration) -> i64 {
    i64::try_from(duration.min(LONGEST).as_micros()).unwrap_or(i64::MAX)
}

/// At most 2,000 characters of a text for people.
pub(super) fn shortened(text: &str) -> String {
    text.chars().take(2_000).collect()
}

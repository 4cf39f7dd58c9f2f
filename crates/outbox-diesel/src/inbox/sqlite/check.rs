//! Whether the database can be used as it is; if not, what to do.

use diesel::sql_types::{BigInt, Integer, Nullable, Text};
use diesel::{RunQueryDsl, SqliteConnection};
use outbox_core::inbox::InboxProfile;
use outbox_core::ports::{StorageError, StorageErrorKind};

use super::writer::Writer;
use crate::inbox::InboxTables;
use crate::inbox::migrations::sqlite::verify_sync;
use crate::sql::{Sql, bind};

const WHAT: &str = "check the database";

/// Checks schema version, settings, collations, the numbers of messages, and that the file can be written.
pub(super) async fn check(writer: &Writer, tables: &InboxTables) -> Result<InboxProfile, StorageError> {
    let (own, for_version) = (tables.clone(), tables.clone());
    writer.read(WHAT, move |sqlite| Ok(verify_sync(sqlite, &for_version))).await??;
    let found = writer.read(WHAT, move |sqlite| found(sqlite, &own)).await?;
    let profile = judge(found, tables)?;
    // SQLite opens a file that cannot be written for reading, and says so at the first statement that would write.
    let touch = tables.render("UPDATE {{held_seq}} SET last = last WHERE one < 0");
    writer.write(WHAT, move |sqlite| Sql::<_>::new(&touch, ()).execute(sqlite)).await?;
    Ok(profile)
}

struct Found {
    version: String,
    journal_mode: String,
    synchronous: i32,
    /// A column that takes different ids for equal.
    blurred: Option<String>,
    last: i64,
    highest: i64,
}

fn found(sqlite: &mut SqliteConnection, tables: &InboxTables) -> diesel::QueryResult<Found> {
    let state = "SELECT sqlite_version(), (SELECT journal_mode FROM pragma_journal_mode), \
        (SELECT synchronous FROM pragma_synchronous)";
    let (version, journal_mode, synchronous) =
        Sql::<_, (Text, Text, Integer)>::new(state, ()).get_result::<(String, String, i32)>(sqlite)?;
    let numbers = tables.render(
        "SELECT coalesce((SELECT last FROM {{held_seq}}), 0), max(coalesce((SELECT max(seq) FROM {{held}}), 0), \
         coalesce((SELECT max(seq) FROM {{dead_letters}}), 0)), \
         (SELECT min(x.name) FROM (SELECT ?1 AS owner UNION ALL SELECT ?2) AS t JOIN pragma_index_list(t.owner) AS l \
         JOIN pragma_index_xinfo(l.name) AS x WHERE x.key AND x.coll <> 'BINARY')",
    );
    let owner = |name: &str| bind::<Text, _>(format!("{}{name}", tables.prefix()));
    let binds = (owner("messages"), owner("positions"));
    let (last, highest, blurred) =
        Sql::<_, (BigInt, BigInt, Nullable<Text>)>::new(&numbers, binds)
            .get_result::<(i64, i64, Option<String>)>(sqlite)?;
    Ok(Found { version, journal_mode, synchronous, blurred, last, highest })
}

fn judge(found: Found, tables: &InboxTables) -> Result<InboxProfile, StorageError> {
    const FULL: i32 = 2;
    let Found { version, journal_mode, synchronous, blurred, last, highest } = found;
    let problem = if !journal_mode.eq_ignore_ascii_case("wal") {
        format!(
            "the journal mode is {journal_mode}, and readers and the writer would stop each other: put the file on a file system \
             that takes a write-ahead log, and leave journal_mode to the inbox"
        )
    } else if synchronous < FULL {
        "synchronous is below FULL, so that a power cut loses what was acknowledged: do not set it in on_connect"
            .to_owned()
    } else if let Some(column) = blurred {
        format!("the column {column} has a collation that takes different ids for equal: give it COLLATE BINARY")
    } else if last < highest {
        let seq = tables.render("{{held_seq}}");
        format!("{seq} is at {last}, behind the highest message {highest}: run `UPDATE {seq} SET last = {highest}`")
    } else {
        return Ok(InboxProfile { server: format!("SQLite {version}") });
    };
    Err(StorageError::new(StorageErrorKind::Refused, problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound() -> Found {
        let (version, journal_mode) = ("3.51.3".to_owned(), "wal".to_owned());
        Found { version, journal_mode, synchronous: 2, blurred: None, last: 7, highest: 7 }
    }

    #[test]
    fn a_sound_file_passes() {
        let profile = judge(sound(), &InboxTables::default()).unwrap();
        assert_eq!(profile, InboxProfile { server: "SQLite 3.51.3".to_owned() });
    }

    #[test]
    fn everything_that_breaks_the_promise_is_refused_with_the_fix() {
        let cases = [
            (Found { journal_mode: "delete".to_owned(), ..sound() }, "write-ahead log"),
            (Found { synchronous: 1, ..sound() }, "on_connect"),
            (Found { blurred: Some("id".to_owned()), ..sound() }, "COLLATE BINARY"),
            (Found { last: 6, ..sound() }, "UPDATE \"inbox_held_seq\" SET last = 7"),
        ];
        for (found, fix) in cases {
            let error = judge(found, &InboxTables::default()).unwrap_err();
            assert_eq!(error.kind(), StorageErrorKind::Refused);
            assert!(error.to_string().contains(fix), "{error}");
        }
    }
}

//! The statements of the reader find their rows by an index, whatever is in the table.

use diesel::connection::SimpleConnection;
use diesel::sql_types::Text;
use diesel::{QueryableByName, RunQueryDsl, SqliteConnection, sql_query};

use super::{SqliteReader, Statements};
use crate::sqlite::establish_sync;
use crate::sqlite::worker::{Opener, Worker};
use crate::{Tables, migrations};

#[derive(QueryableByName)]
struct Step {
    #[diesel(sql_type = Text)]
    detail: String,
}

fn plan(conn: &mut SqliteConnection, statement: &str) -> String {
    let steps: Vec<Step> = sql_query(format!("EXPLAIN QUERY PLAN {statement}")).load(conn).unwrap();
    steps.into_iter().map(|step| step.detail).collect::<Vec<_>>().join("\n")
}

fn with_statements(test: impl Fn(&mut SqliteConnection, &Statements)) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.db").to_str().unwrap().to_owned();
    let mut conn = establish_sync(&file).unwrap();
    let tables = Tables::default();
    migrations::sqlite::up_sync(&mut conn, &tables, migrations::EXPECTED_VERSION).unwrap();
    let worker = Worker::new(Opener { file, on_connect: None, migrate: String::new() }.into());
    let reader = SqliteReader::new(worker, &tables);
    test(&mut conn, &reader.sql);
    // Statistics of a table full of waiting rows must not change the plans.
    conn.batch_execute(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) \
         INSERT INTO outbox_messages (aggregate_type, aggregate_id, event_type, payload, available_at) \
         SELECT 'order', i, 'order.placed', '{}', i FROM n; ANALYZE;",
    )
    .unwrap();
    test(&mut conn, &reader.sql);
}

#[test]
fn rows_past_the_floor_are_found_by_their_number_and_not_sorted() {
    with_statements(|conn, sql| {
        for statement in [&sql.hot, &sql.sweep, &sql.one] {
            let plan = plan(conn, statement);
            assert!(plan.contains("SEARCH m USING INTEGER PRIMARY KEY"), "{plan}");
            assert!(!plan.contains("TEMP B-TREE"), "{plan}");
        }
    });
}

#[test]
fn due_rows_are_found_by_the_partial_index_in_its_order() {
    with_statements(|conn, sql| {
        let plan = plan(conn, &sql.due);
        assert!(plan.contains("USING INDEX outbox_messages_wake_at"), "{plan}");
        assert!(!plan.contains("TEMP B-TREE"), "{plan}");
    });
}

#[test]
fn the_next_due_time_and_the_highest_number_are_single_look_ups() {
    with_statements(|conn, sql| {
        let plan = plan(conn, &sql.meta);
        assert!(plan.contains("SEARCH outbox_messages USING INDEX outbox_messages_wake_at"), "{plan}");
        assert!(!plan.contains("SCAN outbox_messages"), "{plan}");
    });
}

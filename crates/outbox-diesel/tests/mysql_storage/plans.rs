//! Plans: the statement that settles looks rows up one by one, whatever the statistics say.

use diesel::QueryableByName;
use diesel::sql_types::Text;
use diesel_async::{AsyncMysqlConnection, RunQueryDsl, SimpleAsyncConnection};

use crate::database::Database;

/// Rows that statements of this session read in the given way since the last call.
async fn handler(connection: &mut AsyncMysqlConnection, name: &str) -> i64 {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        #[diesel(column_name = "Value")]
        value: String,
    }
    let row: Row =
        diesel::sql_query(format!("SHOW SESSION STATUS LIKE '{name}'")).get_result(connection).await.unwrap();
    row.value.parse().unwrap()
}

/// Statistics made while the table was empty or full, and wrong since.
#[tokio::test]
async fn a_settle_reads_only_its_own_rows_with_stale_statistics() {
    let database = Database::create().await;
    let mut connection = database.connection().await;
    connection.batch_execute("ANALYZE TABLE outbox_messages").await.unwrap();
    database.insert(20_000, 1_000).await;
    connection.batch_execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED").await.unwrap();
    let keys: Vec<Key> = diesel::sql_query(
        "SELECT concat('[', shard, ',', seq, ',\"', lower(hex(id)), '\"]') AS line FROM outbox_messages ORDER BY shard, seq LIMIT 500",
    )
    .load(&mut connection)
    .await
    .unwrap();
    let keys: Vec<_> = keys.into_iter().map(|key| key.line).collect();
    connection.batch_execute("FLUSH STATUS").await.unwrap();
    let before = database.number("SELECT count(*) FROM outbox_messages").await;
    // The statement of the settler.
    connection
        .batch_execute(&format!(
            "DELETE m FROM json_table('[{}]', '$[*]' COLUMNS (shard smallint PATH '$[0]', seq bigint PATH '$[1]', \
             id char(32) PATH '$[2]')) AS v STRAIGHT_JOIN outbox_messages AS m FORCE INDEX (PRIMARY) \
             ON m.shard = v.shard AND m.seq = v.seq AND m.id = unhex(v.id)",
            keys.join(",")
        ))
        .await
        .unwrap();
    assert_eq!(database.number("SELECT count(*) FROM outbox_messages").await, before - 500);
    // MySQL counts what it reads of its own dictionary too, some rows each time it opens a table; a scan would read 20,000.
    let next = handler(&mut connection, "Handler_read_next").await;
    assert!(next <= 500, "{next} rows were read in the order of an index, and no range of one may be");
    let scanned = handler(&mut connection, "Handler_read_rnd_next").await;
    assert!(scanned <= 2_000, "{scanned} rows were read in order, and only the list of keys may be");
}

#[derive(QueryableByName)]
struct Key {
    #[diesel(sql_type = Text)]
    line: String,
}

//! Plans: the hot statements use the primary key whatever the statistics say.

use diesel_async::SimpleAsyncConnection;
use outbox_core::ports::Storage;

use crate::database::{Database, LIMITS, lines, reader};

/// Rows that statements of the storage fetched by a sequential scan.
const SEQ_ROWS: &str =
    "SELECT coalesce(seq_tup_read, 0) FROM pg_stat_all_tables WHERE relid = 'outbox_messages'::regclass";

const INDEX_ROWS: &str = "SELECT idx_tup_fetch FROM pg_stat_all_tables WHERE relid = 'outbox_messages'::regclass";

/// Statistics made while the table was empty or full, and wrong since.
#[tokio::test]
async fn reads_and_settles_never_scan_the_table_with_stale_statistics() {
    let database = Database::create().await;
    database.execute("ALTER TABLE outbox_messages SET (autovacuum_enabled = false); ANALYZE outbox_messages").await;
    database.insert(50_000, 1_000).await;
    let before = database.number(SEQ_ROWS).await;
    let storage = database.storage();
    let mut reader = reader(&storage).await;
    let mut settled = 0;
    while settled < 50_000 {
        let batch = reader.read(&LIMITS).await.unwrap();
        let positions: Vec<_> = batch.messages.iter().map(|message| message.position()).collect();
        storage.settler().settle(&positions).await.unwrap();
        settled += positions.len();
        if settled == 20_000 {
            database.execute("ANALYZE outbox_messages").await;
        }
    }
    storage.check().await.unwrap();
    drop((reader, storage));
    database.others_are_gone().await;
    let scanned = database.number(SEQ_ROWS).await - before;
    assert_eq!(scanned, 0, "rows were read by sequential scans");
    assert!(database.number(INDEX_ROWS).await >= 100_000);
}

#[tokio::test]
async fn the_session_of_the_storage_keeps_to_the_primary_key_in_explain_too() {
    let database = Database::create().await;
    let mut connection = database.connection().await;
    connection
        .batch_execute(
            "SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off; SET enable_hashjoin = off; \
             SET enable_mergejoin = off; SET plan_cache_mode = force_generic_plan",
        )
        .await
        .unwrap();
    connection
        .batch_execute(
            "PREPARE settle(int2[], int8[], uuid[]) AS DELETE FROM outbox_messages AS m USING unnest($1, $2, $3) \
             AS d(shard, seq, id) WHERE m.shard = d.shard AND m.seq = d.seq AND m.id = d.id",
        )
        .await
        .unwrap();
    let plan = explained(&mut connection, "EXECUTE settle('{1}', '{2}', '{}')").await;
    assert!(plan.contains("outbox_messages_pkey") && !plan.contains("Seq Scan"), "{plan}");
}

async fn explained(connection: &mut diesel_async::AsyncPgConnection, statement: &str) -> String {
    connection
        .batch_execute(&format!(
            "CREATE OR REPLACE FUNCTION pg_temp.explained() RETURNS SETOF text LANGUAGE plpgsql AS \
             $$ BEGIN RETURN QUERY EXECUTE 'EXPLAIN ' || {}; END $$",
            quoted(statement)
        ))
        .await
        .unwrap();
    lines(connection, "SELECT line FROM pg_temp.explained() AS line").await
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

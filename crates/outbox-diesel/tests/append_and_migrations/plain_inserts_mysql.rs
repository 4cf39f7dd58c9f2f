//! Inserts by hand on MySQL: any client, any session, and what the table refuses.

use diesel_async::{AsyncMysqlConnection, SimpleAsyncConnection};
use outbox_diesel::mysql::MysqlOutbox;

use super::message;
use super::mysql_schema::{Database, connect};

const INSERT: &str = "INSERT INTO {{messages}} (aggregate_type, aggregate_id, event_type, payload) VALUES ";

/// The shard of a message, computed without the database: CRC-32 (IEEE 802.3) over the key's bytes.
fn shard(bytes: &[u8]) -> i64 {
    let crc = bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
    });
    i64::from(!crc & 63)
}

async fn session(set: &str) -> AsyncMysqlConnection {
    let mut conn = connect().await;
    conn.batch_execute(set).await.unwrap_or_else(|error| panic!("{set}: {error}"));
    conn
}

#[tokio::test]
async fn shards_come_from_the_bytes_of_the_key() {
    assert_eq!(shard(b"123456789"), 0xcbf4_3926 & 63);
    let database = Database::migrated().await;
    let outbox = MysqlOutbox::new(database.tables.clone());
    let mut conn = connect().await;
    let keys = ["7", "A1", "a1", "abc", "abc ", "ключ", "🦀", "\u{1f}", "e\u{301}", "é", "ß", "ss"];
    for key in keys {
        outbox.append(&mut conn, &message(key)).await.unwrap();
        let bytes = format!("order\u{1f}{key}");
        let sql = format!(
            "SELECT shard AS n FROM {{{{messages}}}} WHERE cast(aggregate_id AS binary) = x'{}'",
            key.bytes().map(|byte| format!("{byte:02x}")).collect::<String>()
        );
        assert_eq!(database.count(&sql).await, shard(bytes.as_bytes()), "{key:?}");
    }
    // Known for good: the shard of a key may never change.
    assert_eq!((shard(b"order\x1f7"), shard("order\u{1f}ключ".as_bytes())), (43, 44));
    let keyless = outbox_core::NewMessage::new("order", "order.placed", Vec::new());
    outbox.append(&mut conn, &keyless).await.unwrap();
    let found = database.count("SELECT shard AS n FROM {{messages}} WHERE aggregate_id IS NULL").await;
    assert_eq!(found, shard(keyless.id.as_bytes()));
}

#[tokio::test]
async fn messages_without_a_key_are_spread_and_have_ids_of_their_own_also_in_one_statement() {
    let database = Database::migrated().await;
    let rows = vec!["('order', NULL, 'order.placed', '')"; 500].join(", ");
    connect().await.batch_execute(&database.tables.render(&format!("{INSERT}{rows}"))).await.unwrap();
    assert_eq!(database.count("SELECT count(DISTINCT id) AS n FROM {{messages}}").await, 500);
    assert!(database.count("SELECT count(DISTINCT shard) AS n FROM {{messages}}").await > 50);
}

#[tokio::test]
async fn any_session_inserts_the_same_row() {
    let database = Database::migrated().await;
    for set in [
        "SET NAMES latin1",
        "SET NAMES utf8mb4",
        "SET sql_mode = ''",
        "SET sql_mode = 'ANSI_QUOTES'",
        "SET sql_mode = 'NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT,ANSI,NO_ZERO_DATE,NO_ZERO_IN_DATE,NO_AUTO_VALUE_ON_ZERO'",
        "SET time_zone = '-11:00'",
        "SET collation_connection = 'utf8mb4_unicode_ci'",
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    ] {
        // An é in the character set of the client: the key is the same text whatever its bytes on the way were.
        let latin1 = set == "SET NAMES latin1";
        let key = if latin1 { "convert(x'e9' USING latin1)" } else { "convert(x'c3a9' USING utf8mb4)" };
        let sql = database.tables.render(&format!("{INSERT}('order', {key}, 'order.placed', x'00ff7b')"));
        session(set).await.batch_execute(&sql).await.unwrap_or_else(|error| panic!("{set}: {error}"));
    }
    let same = format!(
        "SELECT count(*) AS n FROM {{{{messages}}}} WHERE shard = {} AND hex(aggregate_id) = 'C3A9' AND hex(payload) = '00FF7B' \
         AND content_type = 'application/json' AND json_length(headers) = 0 AND wake_at IS NULL AND attempts = 0 \
         AND abs(timestampdiff(SECOND, occurred_at, utc_timestamp(6))) < 300 AND length(id) = 16",
        shard("order\u{1f}é".as_bytes())
    );
    assert_eq!(database.count(&same).await, 8);
}

#[tokio::test]
async fn the_table_refuses_what_no_relay_could_deliver_in_strict_mode_and_without() {
    let database = Database::migrated().await;
    let long = "x".repeat(256);
    // The right shard of the key is 43.
    let columns = [
        ("shard", "42", "messages_shard"),
        ("id", "x'01'", "messages_id"),
        ("id", "'0190a8c1-7c5e-7b7c-8a5e-0123456789ab'", "messages_id"),
        ("aggregate_type", "''", "messages_aggregate_type"),
        ("aggregate_type", &format!("'{long}'"), "messages_aggregate_type"),
        ("aggregate_id", "''", "messages_aggregate_id"),
        ("aggregate_id", &format!("'{long}y'"), "messages_aggregate_id"),
        ("event_type", "''", "messages_event_type"),
        ("event_type", &format!("'{long}yz'"), "messages_event_type"),
        ("content_type", "''", "messages_content_type"),
        ("headers", "'[]'", "messages_headers"),
        ("headers", "'{'", "headers"),
        ("occurred_at", "'0000-00-00'", "occurred_at"),
        ("available_at", "'0000-00-00'", "available_at"),
        ("attempts", "-1", "messages_attempts"),
    ];
    for mode in ["STRICT_ALL_TABLES", ""] {
        let mut conn = session(&format!("SET sql_mode = '{mode}'")).await;
        for (column, value, constraint) in &columns {
            let mut fields = vec![
                ("aggregate_type", "'order'"),
                ("aggregate_id", "'7'"),
                ("event_type", "'order.placed'"),
                ("payload", "'{}'"),
            ];
            fields.retain(|(name, _)| name != column);
            fields.push((column, value));
            let (names, values): (Vec<_>, Vec<_>) = fields.into_iter().unzip();
            let sql = database.tables.render(&format!(
                "INSERT INTO {{{{messages}}}} ({}) VALUES ({})",
                names.join(", "),
                values.join(", ")
            ));
            let error = conn.batch_execute(&sql).await.expect_err(&sql).to_string();
            assert!(!mode.is_empty() || error.contains(constraint), "{column} = {value}: {error}");
        }
    }
    assert_eq!(database.messages().await, 0);
}

#[tokio::test]
async fn the_right_shard_given_by_hand_is_taken() {
    let database = Database::migrated().await;
    let sql = "INSERT INTO {{messages}} (shard, aggregate_type, aggregate_id, event_type, payload) \
               VALUES (43, 'order', '7', 'order.placed', '{}')";
    connect().await.batch_execute(&database.tables.render(sql)).await.unwrap();
    assert_eq!(database.messages().await, 1);
}

#[tokio::test]
async fn parked_keys_that_differ_in_case_accent_or_trailing_space_are_different() {
    let database = Database::migrated().await;
    let mut conn = connect().await;
    for key in ["abc", "abc ", "ABC", "äbc", "abc\u{301}"] {
        let sql = format!(
            "INSERT INTO {{{{parked_keys}}}} (shard, aggregate_type, aggregate_id) VALUES (1, 'order', '{key}')"
        );
        conn.batch_execute(&database.tables.render(&sql)).await.unwrap();
    }
    let found = "SELECT count(*) AS n FROM {{parked_keys}} WHERE shard = 1 AND aggregate_type = 'order' AND aggregate_id = 'abc'";
    assert_eq!(database.count(found).await, 1);
    let long = "🦀".repeat(255);
    let sql =
        format!("INSERT INTO {{{{parked_keys}}}} (shard, aggregate_type, aggregate_id) VALUES (1, '{long}', '{long}')");
    conn.batch_execute(&database.tables.render(&sql)).await.unwrap();
}

#[tokio::test]
async fn a_scheduled_message_wakes_when_it_says_or_when_it_is_tried_again() {
    let database = Database::migrated().await;
    let mut conn = session("SET time_zone = '+09:00'").await;
    let sql = "INSERT INTO {{messages}} (aggregate_type, aggregate_id, event_type, payload, available_at) \
               VALUES ('order', '7', 'order.placed', '{}', '2030-01-02 03:04:05.678901')";
    conn.batch_execute(&database.tables.render(sql)).await.unwrap();
    let wake_at = "SELECT date_format(wake_at, '%Y-%m-%d %T.%f') AS line FROM {{messages}}";
    assert_eq!(database.lines(wake_at).await, ["2030-01-02 03:04:05.678901"]);
    let retry = "UPDATE {{messages}} SET retry_at = '2031-01-01 00:00:00.5' WHERE seq > 0";
    conn.batch_execute(&database.tables.render(retry)).await.unwrap();
    assert_eq!(database.lines(wake_at).await, ["2031-01-01 00:00:00.500000"]);
}

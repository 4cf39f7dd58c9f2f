use diesel::QueryableByName;
use diesel::sql_types::{Binary, Nullable, Text};
use diesel_async::{AsyncConnection, AsyncMysqlConnection, RunQueryDsl};
use outbox_core::NewMessage;
use outbox_diesel::mysql::MysqlOutbox;
use time::macros::datetime;

use super::message;
use super::mysql_schema::{Database, connect, count};
use super::statements::Statements;

#[derive(QueryableByName)]
struct Stored {
    #[diesel(sql_type = Binary)]
    id: Vec<u8>,
    #[diesel(sql_type = Nullable<Text>)]
    aggregate_id: Option<String>,
}

/// Statements that this session prepared and executed so far: each is a round trip.
async fn requests(conn: &mut AsyncMysqlConnection) -> (i64, i64) {
    #[derive(QueryableByName)]
    struct Status {
        #[diesel(sql_type = Text, column_name = "Value")]
        value: String,
    }
    let mut status = async |name| {
        let sql = format!("SHOW SESSION STATUS LIKE '{name}'");
        diesel::sql_query(sql).get_result::<Status>(conn).await.unwrap().value.parse::<i64>().unwrap()
    };
    (status("Com_stmt_prepare").await, status("Com_stmt_execute").await)
}

#[tokio::test]
async fn five_thousand_messages_keep_their_order_in_statements_of_a_hundred() {
    let database = Database::migrated().await;
    let outbox = MysqlOutbox::new(database.tables.clone());
    let messages: Vec<_> = (0..5_000)
        .map(|n| match n % 3 {
            0 => NewMessage::new("order", "order.placed", Vec::new()),
            1 => message(&n.to_string()).header("n", n.to_string()),
            _ => message("1").occurred_at(datetime!(2000-01-01 0:00 UTC)),
        })
        .collect();
    let mut conn = connect().await;
    let statements = Statements::default();
    conn.set_instrumentation(statements.watch());
    let ids = outbox.append_all(&mut conn, &messages).await.unwrap();
    outbox.append_all(&mut conn, &[]).await.unwrap();
    assert_eq!((statements.inserts().len(), statements.prepared()), (50, 1));

    let sql = database.tables.render("SELECT id, aggregate_id FROM {{messages}} ORDER BY seq");
    let rows: Vec<Stored> = diesel::sql_query(sql).load(&mut conn).await.unwrap();
    assert!(rows.iter().zip(&ids).all(|(row, id)| row.id == id.as_bytes()));
    assert!(rows.iter().zip(&messages).all(|(row, message)| row.aggregate_id == message.aggregate_id));
    let sql = database.tables.render("SELECT max(seq) - min(seq) + 1 AS n FROM {{messages}}");
    assert_eq!((rows.len(), count(&mut conn, &sql).await), (5_000, 5_000));
    assert_eq!(database.count("SELECT count(*) AS n FROM {{messages}} WHERE json_length(headers) = 1").await, 1_667);
    assert_eq!(database.count("SELECT count(*) AS n FROM {{messages}} WHERE occurred_at = '2000-01-01'").await, 1_666);
    assert_eq!(database.count("SELECT count(*) AS n FROM {{messages}} WHERE length(payload) = 0").await, 1_667);
}

#[tokio::test]
async fn append_is_one_request_prepared_once_and_shows_no_payload() {
    let database = Database::migrated().await;
    let outbox = MysqlOutbox::new(database.tables.clone());
    let mut conn = connect().await;
    let statements = Statements::default();
    conn.set_instrumentation(statements.watch());
    let (first, idle) = (requests(&mut conn).await, requests(&mut conn).await);
    for _ in 0..3 {
        outbox.append(&mut conn, &message("1")).await.unwrap();
        outbox.append_all(&mut conn, &vec![message("1"); 7]).await.unwrap();
    }
    let busy = requests(&mut conn).await;
    // Asking is a request as well.
    let (asked_prepare, asked_execute) = (idle.0 - first.0, idle.1 - first.1);
    assert_eq!((busy.0 - idle.0 - asked_prepare, busy.1 - idle.1 - asked_execute), (2, 6));
    assert_eq!((statements.inserts().len(), statements.prepared()), (6, 2));
    for text in statements.inserts() {
        assert!(!text.contains("pa55word") && !text.contains("112, 97, 53"), "{text}");
    }
}

#[tokio::test]
async fn bulks_of_many_sizes_do_not_pile_up_statements_on_the_connection() {
    let database = Database::migrated().await;
    let outbox = MysqlOutbox::new(database.tables.clone());
    let mut conn = connect().await;
    let statements = Statements::default();
    conn.set_instrumentation(statements.watch());
    let mut appended = 0;
    for rows in (1..=40).chain([99, 100, 101]) {
        outbox.append_all(&mut conn, &vec![message("1"); rows]).await.unwrap();
        appended += i64::try_from(rows).unwrap();
    }
    assert_eq!(database.messages().await, appended);
    assert_eq!((statements.inserts().len(), statements.prepared()), (44, 17));
}

#[tokio::test]
async fn large_payloads_go_in_statements_of_their_own() {
    let database = Database::migrated().await;
    let outbox = MysqlOutbox::new(database.tables.clone());
    let mut conn = connect().await;
    let messages: Vec<_> = (0..12).map(|n: u8| NewMessage::new("order", "order.placed", vec![n; 1_000_000])).collect();
    let statements = Statements::default();
    conn.set_instrumentation(statements.watch());
    outbox.append_all(&mut conn, &messages).await.unwrap();
    assert_eq!((statements.inserts().len(), statements.prepared()), (12, 1));
    assert_eq!(database.count("SELECT count(*) AS n FROM {{messages}} WHERE length(payload) = 1000000").await, 12);
}

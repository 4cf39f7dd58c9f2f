use diesel::QueryableByName;
use diesel::sql_types::{Nullable, Text, Uuid as SqlUuid};
use diesel_async::{AsyncConnection, RunQueryDsl};
use outbox_core::NewMessage;
use outbox_diesel::postgres::PostgresOutbox;
use time::macros::datetime;
use uuid::Uuid;

use super::message;
use super::postgres_schema::{Schema, connect};
use super::statements::Statements;

#[derive(QueryableByName)]
struct Stored {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Nullable<Text>)]
    aggregate_id: Option<String>,
}

#[tokio::test]
async fn five_thousand_messages_keep_their_order_in_one_statement() {
    let schema = Schema::migrated().await;
    let outbox = PostgresOutbox::new(schema.tables.clone());
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
    assert_eq!(statements.inserts().len(), 1);

    let sql = schema.tables.render("SELECT id, aggregate_id::text FROM {{messages}} ORDER BY seq");
    let rows: Vec<Stored> = diesel::sql_query(sql).load(&mut conn).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.id).collect::<Vec<_>>(), ids);
    assert!(rows.iter().zip(&messages).all(|(row, message)| row.aggregate_id == message.aggregate_id));
    assert_eq!(schema.count("SELECT count(*) AS n FROM {{messages}} WHERE headers <> '{}'").await, 1_667);
    assert_eq!(schema.count("SELECT count(*) AS n FROM {{messages}} WHERE occurred_at = '2000-01-01Z'").await, 1_666);
    assert_eq!(schema.count("SELECT count(*) AS n FROM {{messages}} WHERE payload = ''").await, 1_667);
}

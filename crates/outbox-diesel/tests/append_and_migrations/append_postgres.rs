use std::collections::BTreeMap;

use diesel::QueryableByName;
use diesel::result::Error;
use diesel::sql_types::{Binary, Bool, Nullable, Text, Uuid as SqlUuid};
use diesel_async::async_connection_wrapper::AsyncConnectionWrapper;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::deadpool::Pool;
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use outbox_core::{Event, NewMessage};
use outbox_diesel::AppendError;
use outbox_diesel::postgres::PostgresOutbox;
use time::macros::datetime;
use uuid::Uuid;

use super::postgres_schema::{Schema, connect, count, url};
use super::statements::Statements;
use super::{invalid_messages, message};

#[derive(serde::Serialize)]
struct OrderPlaced {
    order_id: u64,
}

impl Event for OrderPlaced {
    const AGGREGATE_TYPE: &'static str = "order";
    const EVENT_TYPE: &'static str = "order.placed";
    fn aggregate_id(&self) -> Option<String> {
        Some(self.order_id.to_string())
    }
}

#[derive(QueryableByName)]
struct Stored {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Nullable<Text>)]
    aggregate_id: Option<String>,
    #[diesel(sql_type = Binary)]
    payload: Vec<u8>,
    #[diesel(sql_type = Text)]
    content_type: String,
    #[diesel(sql_type = Text)]
    headers: String,
    #[diesel(sql_type = Text)]
    occurred_at: String,
    #[diesel(sql_type = Bool)]
    scheduled: bool,
}

async fn stored(schema: &Schema) -> Vec<Stored> {
    let sql = schema.tables.render(
        "SELECT id, aggregate_id::text, payload, content_type::text, headers::text, \
         to_char(occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') AS occurred_at, \
         available_at IS NOT NULL AS scheduled FROM {{messages}} ORDER BY seq",
    );
    diesel::sql_query(sql).load(&mut connect().await).await.unwrap()
}

#[tokio::test]
async fn every_field_of_a_message_is_stored() {
    let schema = Schema::migrated().await;
    let outbox = PostgresOutbox::new(schema.tables.clone());
    let full = NewMessage::new("order", "order.placed", vec![0, 0xff, b'{'])
        .aggregate_id("ключ \u{1f}'")
        .content_type("application/octet-stream")
        .header("correlation-id", "\"c\" \\ 1")
        .occurred_at(datetime!(1999-12-31 23:59:59.999_999 UTC))
        .available_at(datetime!(9999-12-31 23:59:59 UTC));
    let mut conn = connect().await;
    assert_eq!(outbox.append(&mut conn, &full).await.unwrap(), full.id);
    outbox.append(&mut conn, &OrderPlaced { order_id: 7 }).await.unwrap();

    let rows = stored(&schema).await;
    assert_eq!(rows[0].id, full.id);
    assert_eq!(rows[0].aggregate_id.as_deref(), Some("ключ \u{1f}'"));
    assert_eq!(rows[0].payload, [0, 0xff, b'{']);
    assert_eq!(rows[0].content_type, "application/octet-stream");
    assert_eq!(outbox_core::Headers::from_json(rows[0].headers.as_str()).to_map(), full.headers);
    assert_eq!(rows[0].occurred_at, "1999-12-31 23:59:59.999999");
    assert!(rows[0].scheduled);
    assert_eq!((rows[1].aggregate_id.as_deref(), rows[1].payload.as_slice()), (Some("7"), &b"{\"order_id\":7}"[..]));
    assert_eq!(outbox_core::Headers::from_json(rows[1].headers.as_str()).to_map(), BTreeMap::new());
}

#[tokio::test]
async fn a_message_lives_and_dies_with_the_callers_transaction() {
    let schema = Schema::migrated().await;
    let outbox = PostgresOutbox::new(schema.tables.clone());
    let mut conn = connect().await;
    let rolled_back = conn
        .transaction::<(), AppendError, _>(async |conn| {
            outbox.append(conn, &message("1")).await?;
            Err(AppendError::Database(Error::RollbackTransaction))
        })
        .await;
    assert!(rolled_back.is_err());
    assert_eq!(schema.messages().await, 0);
    conn.transaction::<_, AppendError, _>(async |conn| {
        outbox.append(conn, &message("1")).await?;
        assert_eq!(schema.messages().await, 0, "append committed by itself");
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(schema.messages().await, 1);
}

#[tokio::test]
async fn a_pooled_connection_will_do() {
    let schema = Schema::migrated().await;
    let outbox = PostgresOutbox::new(schema.tables.clone());
    let pool: Pool<AsyncPgConnection> = Pool::builder(AsyncDieselConnectionManager::new(url())).build().unwrap();
    let mut pooled = pool.get().await.unwrap();
    outbox.append(&mut pooled, &message("1")).await.unwrap();
    pooled
        .transaction::<_, AppendError, _>(async |conn| outbox.append_all(conn, &[message("1"), message("2")]).await)
        .await
        .unwrap();
    assert_eq!(schema.messages().await, 3);
}

#[tokio::test]
async fn append_goes_together_with_the_business_statement_when_both_are_polled() {
    let schema = Schema::migrated().await;
    let outbox = PostgresOutbox::new(schema.tables.clone());
    let conn = connect().await;
    let (slept, appended) =
        futures_util::future::join(diesel::sql_query("SELECT pg_sleep(0.2)").execute(&mut &conn), async {
            outbox.append(&mut &conn, &message("1")).await
        })
        .await;
    slept.unwrap();
    appended.unwrap();
    assert_eq!(schema.messages().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_synchronous_connection_appends_too() {
    let schema = Schema::migrated().await;
    let outbox = PostgresOutbox::new(schema.tables.clone());
    tokio::task::spawn_blocking(move || {
        use diesel::Connection;
        let mut conn = <AsyncConnectionWrapper<AsyncPgConnection> as Connection>::establish(&url()).unwrap();
        Connection::transaction::<_, AppendError, _>(&mut conn, |conn| {
            outbox.append_sync(conn, &message("1"))?;
            outbox.append_all_sync(conn, &[message("2"), message("3")])
        })
        .unwrap();
        let dropped = Connection::transaction::<Uuid, AppendError, _>(&mut conn, |conn| {
            outbox.append_sync(conn, &message("4"))?;
            Err(AppendError::Database(Error::RollbackTransaction))
        });
        assert!(dropped.is_err());
    })
    .await
    .unwrap();
    assert_eq!(schema.messages().await, 3);
}

#[tokio::test]
async fn an_invalid_message_is_refused_before_anything_is_sent() {
    let schema = Schema::migrated().await;
    let outbox = PostgresOutbox::new(schema.tables.clone());
    let mut conn = connect().await;
    let statements = Statements::default();
    conn.set_instrumentation(statements.watch());
    conn.transaction::<_, AppendError, _>(async |conn| {
        for (invalid, says) in invalid_messages() {
            let error = outbox.append(conn, &invalid).await.unwrap_err();
            assert!(matches!(error, AppendError::Invalid(_)), "{error}");
            assert!(error.to_string().contains(says), "{error}");
            let error = outbox.append_all(conn, &[message("1"), invalid]).await.unwrap_err();
            assert!(error.to_string().contains(says), "{error}");
        }
        assert!(statements.inserts().is_empty());
        outbox.append(conn, &message("1")).await.map(drop)
    })
    .await
    .unwrap();
    assert_eq!(schema.messages().await, 1);
}

#[tokio::test]
async fn append_is_one_statement_prepared_once_and_shows_no_payload() {
    let schema = Schema::migrated().await;
    let outbox = PostgresOutbox::new(schema.tables.clone());
    let mut conn = connect().await;
    let statements = Statements::default();
    conn.set_instrumentation(statements.watch());
    for _ in 0..3 {
        outbox.append(&mut conn, &message("1")).await.unwrap();
    }
    assert_eq!((statements.inserts().len(), statements.prepared()), (3, 1));
    for text in statements.inserts() {
        assert!(!text.contains("pa55word") && !text.contains("112, 97, 53"), "{text}");
    }
}

#[tokio::test]
async fn notify_wakes_a_listener_at_the_commit_only_when_asked_for() {
    use futures_util::StreamExt;

    let schema = Schema::migrated().await;
    let mut listener = connect().await;
    listener.batch_execute(&format!("LISTEN \"{}\"", schema.tables.channel())).await.unwrap();
    let mut conn = connect().await;
    let silent = PostgresOutbox::new(schema.tables.clone());
    silent.append(&mut conn, &message("1")).await.unwrap();
    let notifying = PostgresOutbox::new(schema.tables.clone()).with_notify();
    notifying.append(&mut conn, &message("1")).await.unwrap();
    notifying.append_all(&mut conn, &[message("1"), message("1")]).await.unwrap();
    let own = count(&mut conn, "SELECT pg_backend_pid()::bigint AS n").await;
    let mut woken = 0;
    let mut notifications = std::pin::pin!(listener.notifications_stream());
    while woken < 2 {
        let next = tokio::time::timeout(std::time::Duration::from_secs(10), notifications.next()).await;
        let notification = next.expect("a notification within 10 s").expect("the stream goes on").unwrap();
        // Other tests append with the same prefix.
        woken += i32::from(i64::from(notification.process_id) == own);
    }
    let more = tokio::time::timeout(std::time::Duration::from_millis(50), async {
        while let Some(Ok(notification)) = notifications.next().await {
            assert_ne!(i64::from(notification.process_id), own, "an append without NOTIFY woke the listener");
        }
    });
    assert!(more.await.is_err());
    assert_eq!(schema.messages().await, 4);
}

use std::collections::BTreeMap;

use diesel::QueryableByName;
use diesel::result::Error;
use diesel::sql_types::{Binary, Bool, Nullable, Text};
use diesel_async::async_connection_wrapper::AsyncConnectionWrapper;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::deadpool::Pool;
use diesel_async::{AsyncConnection, AsyncMysqlConnection, RunQueryDsl, SimpleAsyncConnection};
use outbox_core::{Event, NewMessage};
use outbox_diesel::AppendError;
use outbox_diesel::mysql::MysqlOutbox;
use time::macros::datetime;
use uuid::Uuid;

use super::mysql_schema::{Database, connect, url};
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
    #[diesel(sql_type = Binary)]
    id: Vec<u8>,
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

async fn stored(database: &Database) -> Vec<Stored> {
    let sql = database.tables.render(
        "SELECT id, aggregate_id, payload, content_type, cast(headers AS char) AS headers, \
         date_format(occurred_at, '%Y-%m-%d %H:%i:%s.%f') AS occurred_at, available_at IS NOT NULL AS scheduled \
         FROM {{messages}} ORDER BY seq",
    );
    diesel::sql_query(sql).load(&mut connect().await).await.unwrap()
}

#[tokio::test]
async fn every_field_of_a_message_is_stored() {
    let database = Database::migrated().await;
    let outbox = MysqlOutbox::new(database.tables.clone());
    let full = NewMessage::new("order", "order.placed", vec![0, 0xff, b'{', b'\\', b'\''])
        .aggregate_id("ключ \u{1f} 🦀\\' ")
        .content_type("application/octet-stream")
        .header("correlation-id", "\"c\" \\ 1 🦀")
        .occurred_at(datetime!(1999-12-31 23:59:59.999_999_9 -02:30))
        .available_at(datetime!(9999-12-31 23:59:59 UTC));
    let mut conn = connect().await;
    // What a session may be set to without harm.
    conn.batch_execute("SET time_zone = '+05:00', sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'").await.unwrap();
    assert_eq!(outbox.append(&mut conn, &full).await.unwrap(), full.id);
    outbox.append(&mut conn, &OrderPlaced { order_id: 7 }).await.unwrap();

    let rows = stored(&database).await;
    assert_eq!(rows[0].id, full.id.as_bytes());
    assert_eq!(rows[0].aggregate_id.as_deref(), Some("ключ \u{1f} 🦀\\' "));
    assert_eq!(rows[0].payload, [0, 0xff, b'{', b'\\', b'\'']);
    assert_eq!(rows[0].content_type, "application/octet-stream");
    assert_eq!(outbox_core::Headers::from_json(rows[0].headers.as_str()).to_map(), full.headers);
    assert_eq!(rows[0].occurred_at, "2000-01-01 02:29:59.999999");
    assert!(rows[0].scheduled);
    assert_eq!((rows[1].aggregate_id.as_deref(), rows[1].payload.as_slice()), (Some("7"), &b"{\"order_id\":7}"[..]));
    assert_eq!(outbox_core::Headers::from_json(rows[1].headers.as_str()).to_map(), BTreeMap::new());
    let age = "SELECT abs(timestampdiff(SECOND, occurred_at, utc_timestamp(6))) AS n FROM {{messages}} WHERE aggregate_id = '7'";
    assert!(database.count(age).await < 300);
}

#[tokio::test]
async fn a_message_lives_and_dies_with_the_callers_transaction() {
    let database = Database::migrated().await;
    let outbox = MysqlOutbox::new(database.tables.clone());
    let mut conn = connect().await;
    let rolled_back = conn
        .transaction::<(), AppendError, _>(async |conn| {
            outbox.append(conn, &message("1")).await?;
            outbox.append_all(conn, &vec![message("1"); 300]).await?;
            Err(AppendError::Database(Error::RollbackTransaction))
        })
        .await;
    assert!(rolled_back.is_err());
    assert_eq!(database.messages().await, 0);
    conn.transaction::<_, AppendError, _>(async |conn| {
        outbox.append(conn, &message("1")).await?;
        assert_eq!(database.messages().await, 0, "append committed by itself");
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(database.messages().await, 1);
}

#[tokio::test]
async fn a_pooled_connection_will_do() {
    let database = Database::migrated().await;
    let outbox = MysqlOutbox::new(database.tables.clone());
    let pool: Pool<AsyncMysqlConnection> = Pool::builder(AsyncDieselConnectionManager::new(url())).build().unwrap();
    let mut pooled = pool.get().await.unwrap();
    outbox.append(&mut pooled, &message("1")).await.unwrap();
    pooled
        .transaction::<_, AppendError, _>(async |conn| outbox.append_all(conn, &[message("1"), message("2")]).await)
        .await
        .unwrap();
    assert_eq!(database.messages().await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_synchronous_connection_appends_too() {
    let database = Database::migrated().await;
    let outbox = MysqlOutbox::new(database.tables.clone());
    tokio::task::spawn_blocking(move || {
        use diesel::Connection;
        let mut conn = <AsyncConnectionWrapper<AsyncMysqlConnection> as Connection>::establish(&url()).unwrap();
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
    assert_eq!(database.messages().await, 3);
}

#[tokio::test]
async fn an_invalid_message_is_refused_before_anything_is_sent() {
    let database = Database::migrated().await;
    let outbox = MysqlOutbox::new(database.tables.clone());
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
    assert_eq!(database.messages().await, 1);
}

#[tokio::test]
async fn an_id_that_is_there_already_stays_once_only_if_the_writer_makes_it_so() {
    let database = Database::migrated().await;
    let outbox = MysqlOutbox::new(database.tables.clone());
    let mut conn = connect().await;
    let one = message("1");
    outbox.append(&mut conn, &one).await.unwrap();
    outbox.append(&mut conn, &one).await.unwrap();
    assert_eq!(database.messages().await, 2, "as on the other databases, the id is no key of the table");
}

use diesel::connection::SimpleConnection;
use diesel::result::Error;
use diesel::sql_types::{BigInt, Text};
use diesel::{Connection, QueryableByName, RunQueryDsl, SqliteConnection};
use diesel_async::AsyncConnection;
use outbox_core::NewMessage;
use outbox_diesel::sqlite::{SqliteOutbox, establish, establish_sync};
use outbox_diesel::{AppendError, Tables, migrations};
use tempfile::TempDir;

use super::statements::Statements;
use super::{invalid_messages, message};

struct File {
    folder: TempDir,
    tables: Tables,
}

#[derive(QueryableByName)]
struct Stored {
    #[diesel(sql_type = Text)]
    id: String,
    #[diesel(sql_type = BigInt)]
    bytes: i64,
}

impl File {
    fn migrated() -> Self {
        let file = Self { folder: tempfile::tempdir().unwrap(), tables: Tables::new(None, "evt_").unwrap() };
        migrations::sqlite::up_sync(&mut file.connect(), &file.tables, migrations::EXPECTED_VERSION).unwrap();
        file
    }

    fn connect(&self) -> SqliteConnection {
        establish_sync(self.folder.path().join("a.db")).unwrap()
    }

    fn outbox(&self) -> SqliteOutbox {
        SqliteOutbox::new(self.tables.clone()).unwrap()
    }

    fn stored(&self) -> Vec<Stored> {
        let sql = self.tables.render("SELECT id, length(payload) AS bytes FROM {{messages}} ORDER BY seq");
        diesel::sql_query(sql).load(&mut self.connect()).unwrap()
    }
}

#[test]
fn a_message_lives_and_dies_with_the_callers_synchronous_transaction() {
    let file = File::migrated();
    let (outbox, mut conn) = (file.outbox(), file.connect());
    let rolled_back = conn.immediate_transaction::<(), AppendError, _>(|conn| {
        outbox.append_sync(conn, &message("1"))?;
        Err(AppendError::Database(Error::RollbackTransaction))
    });
    assert!(rolled_back.is_err());
    conn.immediate_transaction::<_, AppendError, _>(|conn| {
        outbox.append_sync(conn, &message("1"))?;
        assert!(file.stored().is_empty(), "append committed by itself");
        Ok(())
    })
    .unwrap();
    assert_eq!(file.stored().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_asynchronous_connection_appends_too() {
    let file = File::migrated();
    let outbox = file.outbox();
    let mut conn = establish(file.folder.path().join("a.db")).await.unwrap();
    conn.immediate_transaction::<_, AppendError, _>(async |conn| {
        outbox.append(conn, &message("1")).await?;
        outbox.append_all(conn, &[message("2"), message("3")]).await
    })
    .await
    .unwrap();
    let rolled_back = conn
        .transaction::<(), AppendError, _>(async |conn| {
            outbox.append(conn, &message("4")).await?;
            Err(AppendError::Database(Error::RollbackTransaction))
        })
        .await;
    assert!(rolled_back.is_err());
    assert_eq!(file.stored().len(), 3);
}

#[test]
fn ten_thousand_messages_keep_their_order_in_one_statement() {
    let file = File::migrated();
    let mut conn = file.connect();
    let statements = Statements::default();
    conn.set_instrumentation(statements.watch());
    let messages: Vec<_> = (0..10_000_usize)
        .map(|n| NewMessage::new("order \"é\"", "order.placed", vec![b'x'; n % 7]).header("n", "\"\\\n"))
        .collect();
    let ids = file.outbox().append_all_sync(&mut conn, &messages).unwrap();
    assert_eq!(statements.inserts().len(), 1);
    let stored = file.stored();
    assert_eq!(
        stored.iter().map(|row| row.id.clone()).collect::<Vec<_>>(),
        ids.iter().map(ToString::to_string).collect::<Vec<_>>()
    );
    assert!(stored.iter().zip(0..).all(|(row, n)| row.bytes == n % 7));
}

#[test]
fn a_bulk_of_empty_payloads_is_stored() {
    let file = File::migrated();
    let empty = || NewMessage::new("order", "order.placed", Vec::new());
    file.outbox().append_all_sync(&mut file.connect(), &[empty(), empty()]).unwrap();
    file.outbox().append_sync(&mut file.connect(), &empty()).unwrap();
    assert_eq!(file.stored().iter().map(|row| row.bytes).collect::<Vec<_>>(), [0, 0, 0]);
}

#[test]
fn an_invalid_message_is_refused_before_anything_is_written() {
    let file = File::migrated();
    let (outbox, mut conn) = (file.outbox(), file.connect());
    conn.batch_execute("BEGIN IMMEDIATE").unwrap();
    for (invalid, says) in invalid_messages() {
        let error = outbox.append_sync(&mut conn, &invalid).unwrap_err();
        assert!(matches!(error, AppendError::Invalid(_)), "{error}");
        assert!(error.to_string().contains(says), "{error}");
        outbox.append_all_sync(&mut conn, &[message("1"), invalid]).unwrap_err();
    }
    outbox.append_sync(&mut conn, &message("1")).unwrap();
    conn.batch_execute("COMMIT").unwrap();
    assert_eq!(file.stored().len(), 1);
}

#[test]
fn append_is_prepared_once_and_shows_no_payload() {
    let file = File::migrated();
    let mut conn = file.connect();
    let statements = Statements::default();
    conn.set_instrumentation(statements.watch());
    for _ in 0..3 {
        file.outbox().append_sync(&mut conn, &message("1")).unwrap();
    }
    file.outbox().append_all_sync(&mut conn, &[message("1")]).unwrap();
    assert_eq!((statements.inserts().len(), statements.prepared()), (4, 2));
    for text in statements.inserts() {
        assert!(!text.contains("pa55word") && !text.contains("112, 97, 53"), "{text}");
    }
}

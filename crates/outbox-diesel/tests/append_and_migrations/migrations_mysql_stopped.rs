//! A migration on MySQL that dies before any of its statements goes on when it is run again.

use std::panic::AssertUnwindSafe;

use diesel::connection::InstrumentationEvent;
use diesel_async::{AsyncConnection, AsyncMysqlConnection};
use futures_util::FutureExt;
use outbox_core::ports::StorageErrorKind;
use outbox_diesel::Tables;
use outbox_diesel::migrations::{Direction, EXPECTED_VERSION, MigrationError, PendingRows, mysql};
use outbox_diesel::mysql::MysqlOutbox;

use super::message;
use super::mysql_schema::{Database, connect};

/// Runs a migration that dies before its statement `last` (from 0) is sent, with its connection. Whether it died.
async fn dies_before(
    last: usize,
    migrate: impl AsyncFnOnce(&mut AsyncMysqlConnection) -> Result<usize, MigrationError>,
) -> bool {
    let mut conn = connect().await;
    let mut sent = 0;
    conn.set_instrumentation(move |event: InstrumentationEvent<'_>| {
        if let InstrumentationEvent::StartQuery { .. } = event {
            if sent == last {
                std::panic::resume_unwind(Box::new("killed"));
            }
            sent += 1;
        }
    });
    let ended = AssertUnwindSafe(migrate(&mut conn)).catch_unwind().await;
    if let Ok(done) = &ended {
        done.as_ref().unwrap();
    }
    ended.is_err()
}

async fn up(conn: &mut AsyncMysqlConnection, tables: &Tables) -> Result<usize, MigrationError> {
    mysql::up(conn, tables, EXPECTED_VERSION).await.map(|done| done.len())
}

async fn down(conn: &mut AsyncMysqlConnection, tables: &Tables, rows: PendingRows) -> Result<usize, MigrationError> {
    mysql::down(conn, tables, 0, rows).await.map(|done| done.len())
}

/// What `status` says of the migration: unfinished, and how many statements are done.
async fn unfinished(tables: &Tables) -> Option<(Direction, usize)> {
    let status = mysql::status(&mut connect().await, tables).await.unwrap();
    let at = status[0].unfinished?;
    assert_eq!(status[0].applied_at, None);
    assert!(at.done <= at.of, "{at}");
    Some((at.direction, at.done))
}

#[tokio::test]
async fn up_goes_on_after_it_died_before_any_of_its_statements() {
    let whole = Database::migrated().await.definitions().await;
    let (mut places, mut statement) = (Vec::new(), 0);
    loop {
        let database = Database::unused();
        let tables = &database.tables;
        if !dies_before(statement, async |conn| up(conn, tables).await).await {
            break;
        }
        if let Some((direction, done)) = unfinished(tables).await {
            assert_eq!(direction, Direction::Up);
            places.push(done);
            let error = mysql::verify(&mut connect().await, tables).await.unwrap_err();
            assert_eq!(error.kind(), StorageErrorKind::Refused);
            let says = format!("is not finished (up stopped after {done} of 6 statements): run `outbox migrate up");
            assert!(error.to_string().contains(&says), "{error}");
        }
        up(&mut connect().await, tables).await.unwrap();
        mysql::verify(&mut connect().await, tables).await.unwrap();
        assert_eq!(database.definitions().await, whole, "after it died before statement {statement}");
        assert_eq!(database.count("SELECT count(*) AS n FROM {{leases}}").await, 64);
        statement += 1;
    }
    places.dedup();
    assert_eq!(places, [0, 1, 2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn down_goes_on_after_it_died_before_any_of_its_statements() {
    for rows in [PendingRows::Keep, PendingRows::Delete] {
        let (mut places, mut statement) = (Vec::new(), 0);
        loop {
            let database = Database::migrated().await;
            let tables = &database.tables;
            if !dies_before(statement, async |conn| down(conn, tables, rows).await).await {
                break;
            }
            if let Some((direction, done)) = unfinished(tables).await {
                assert_eq!(direction, Direction::Down);
                places.push(done);
                let error = up(&mut connect().await, tables).await.unwrap_err();
                assert!(matches!(error, MigrationError::HalfReverted { version: 1, .. }), "{error}");
            }
            down(&mut connect().await, tables, rows).await.unwrap();
            assert_eq!(database.definitions().await, [""; 0], "after it died before statement {statement}");
            statement += 1;
        }
        places.dedup();
        assert_eq!(places, [0, 1, 2, 3, 4, 5]);
    }
}

#[tokio::test]
async fn what_was_half_applied_can_be_reverted_and_still_keeps_its_messages() {
    let mut statement = 0;
    loop {
        let database = Database::unused();
        let tables = &database.tables;
        if !dies_before(statement, async |conn| up(conn, tables).await).await {
            break;
        }
        let mut conn = connect().await;
        if MysqlOutbox::new(tables.clone()).append(&mut conn, &message("1")).await.is_ok() {
            let error = down(&mut conn, tables, PendingRows::Keep).await.unwrap_err();
            assert!(matches!(error, MigrationError::NotEmpty { pending: 1, dead_letters: 0 }), "{error}");
        }
        down(&mut conn, tables, PendingRows::Delete).await.unwrap();
        assert_eq!(database.definitions().await, [""; 0], "after it died before statement {statement}");
        statement += 1;
    }
    assert!(statement > 12);
}

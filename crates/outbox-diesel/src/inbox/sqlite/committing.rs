//! Reading back, and committing.

use diesel::result::QueryResult;
use diesel::sql_types::{BigInt, Binary, Bool, Text};
use diesel::{RunQueryDsl, SqliteConnection};
use outbox_core::inbox::{Committed, Consumer};
use outbox_core::ports::{StorageError, StorageErrorKind};

use super::SqliteInboxTransaction;
use super::connection::GuardedConnection;
use super::error::{is_refusal, statement_error};
use super::expected::Expected;
use super::session::Rest;
use super::sql::render;
use crate::inbox::InboxTables;
use crate::sql::{Sql, bind};

const WHAT: &str = "commit a transaction";

pub(super) struct Statements {
    message: String,
    held: String,
    dead: String,
    parked: String,
}

impl Statements {
    pub(super) fn new(tables: &InboxTables) -> Self {
        let sql = |text| render(tables, text);
        Self {
            message: sql("SELECT EXISTS (SELECT 1 FROM {{messages}} WHERE consumer = ?1 AND source = ?2 AND id = ?3 \
                 AND status = ?4)"),
            held: sql("SELECT EXISTS (SELECT 1 FROM {{held}} WHERE seq = ?1)"),
            dead: sql("SELECT EXISTS (SELECT 1 FROM {{dead_letters}} WHERE seq = ?1)"),
            parked: sql("SELECT EXISTS (SELECT 1 FROM {{parked_keys}} WHERE consumer = ?1 AND ordering_key = ?2)"),
        }
    }
}

/// A handler may have ended the transaction, or swallowed an error on which SQLite did.
pub(super) async fn commit(transaction: SqliteInboxTransaction) -> Result<Committed, StorageError> {
    let SqliteInboxTransaction { session, statements, consumer, expected } = transaction;
    let work = move |connection: &mut GuardedConnection| {
        let failed = |error| statement_error(WHAT, error);
        if !connection.is_at_its_top().map_err(failed)? {
            return Ok((Committed::Broken, Rest::Lost));
        }
        match is_whole(connection.sqlite(), &statements.committing, &consumer, &expected).map_err(failed) {
            Ok(true) => {}
            Ok(false) => return Ok((Committed::Broken, rolled_back(connection))),
            Err(error) if is_of_the_transaction(&error) => return Ok((Committed::Broken, rolled_back(connection))),
            Err(error) => return Err(error),
        }
        match connection.commit() {
            Ok(()) => Ok((Committed::Done, Rest::Idle)),
            Err(error) if is_refusal(&error) => Ok((Committed::Broken, Rest::Lost)),
            Err(error) => Err(failed(error)),
        }
    };
    session.end(WHAT, work).await
}

/// The connection is closed when that cannot be done in a clean way.
pub(super) async fn roll_back(transaction: SqliteInboxTransaction) {
    let work = |connection: &mut GuardedConnection| {
        let at_top = connection.is_at_its_top().unwrap_or(false);
        Ok(((), if at_top { rolled_back(connection) } else { Rest::Lost }))
    };
    // an error says that the call did not end: then the connection is closed
    let _ = transaction.session.end("roll a transaction back", work).await;
}

fn rolled_back(connection: &mut GuardedConnection) -> Rest {
    if connection.roll_back().is_ok() { Rest::Idle } else { Rest::Lost }
}

/// Whether SQLite answered that this transaction can do nothing more.
fn is_of_the_transaction(error: &StorageError) -> bool {
    matches!(error.kind(), StorageErrorKind::Other | StorageErrorKind::Refused)
}

fn is_whole(
    sqlite: &mut SqliteConnection,
    statements: &Statements,
    consumer: &Consumer,
    expected: &Expected,
) -> QueryResult<bool> {
    let name = || bind::<Text, _>(consumer.as_str());
    for (identity, status) in &expected.messages {
        let (source, id) = (bind::<Text, _>(identity.source()), bind::<Text, _>(identity.id()));
        let binds = (name(), source, id, bind::<Text, _>(status.as_str()));
        if !Sql::<_, Bool>::new(&statements.message, binds).get_result::<bool>(sqlite)? {
            return Ok(false);
        }
    }
    let groups = [
        (&statements.held, &expected.held, true),
        (&statements.dead, &expected.dead, true),
        (&statements.held, &expected.completed, false),
    ];
    for (text, seqs, must_be) in groups {
        for &seq in seqs {
            let look = Sql::<_, Bool>::new(text, (bind::<BigInt, _>(seq),));
            if look.get_result::<bool>(sqlite)? != must_be {
                return Ok(false);
            }
        }
    }
    for key in &expected.parked {
        let look = Sql::<_, Bool>::new(&statements.parked, (name(), bind::<Binary, _>(key.as_bytes())));
        if !look.get_result::<bool>(sqlite)? {
            return Ok(false);
        }
    }
    Ok(true)
}

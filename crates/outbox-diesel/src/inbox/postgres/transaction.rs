use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use diesel_async::AsyncPgConnection;
use outbox_core::inbox::{
    Admission, Aside, Candidate, ClaimToken, Committed, Consumer, InboxTransaction, OrderingKey, TransactionLimits,
};
use outbox_core::ports::{Fenced, StorageError};

use super::expected::Expected;
use super::session::{BEGIN, Session};
use super::{admitting, asides, committing, completing, parking};
use crate::inbox::InboxTables;
use crate::postgres::pool::{GRACE, Pool};

/// A transaction of a [`PostgresInbox`](super::PostgresInbox). Handlers get its connection, which holds it open: Diesel's `transaction` on
/// it makes savepoints.
pub struct PostgresInboxTransaction {
    pub(super) session: Session,
    pub(super) statements: Arc<Statements>,
    pub(super) consumer: Consumer,
    /// Keys whose rows this transaction has locked.
    pub(super) locked: BTreeSet<OrderingKey>,
    pub(super) expected: Expected,
}

/// The texts of a transaction's statements, rendered once.
pub(super) struct Statements {
    pub(super) admitting: admitting::Statements,
    pub(super) parking: parking::Statements,
    pub(super) asides: asides::Statements,
    pub(super) completing: completing::Statements,
    pub(super) committing: committing::Statements,
}

impl Statements {
    pub(super) fn new(tables: &InboxTables) -> Self {
        Self {
            admitting: admitting::Statements::new(tables),
            parking: parking::Statements::new(tables),
            asides: asides::Statements::new(tables),
            completing: completing::Statements::new(tables),
            committing: committing::Statements::new(tables),
        }
    }
}

impl PostgresInboxTransaction {
    pub(super) async fn begin(
        pool: &Pool,
        statements: Arc<Statements>,
        consumer: &Consumer,
        limits: &TransactionLimits,
        idle_ms: u128,
    ) -> Result<Self, StorageError> {
        let begin = format!(
            "{BEGIN}; SET LOCAL statement_timeout = {}; SET LOCAL lock_timeout = {}; \
             SET LOCAL idle_in_transaction_session_timeout = {idle_ms}",
            limits.statement.as_millis().max(1),
            limits.lock.as_millis().max(1),
        );
        let session = Session::begin(pool, "begin a transaction", limits.statement + GRACE, &begin).await?;
        let (locked, expected) = (BTreeSet::new(), Expected::default());
        Ok(Self { session, statements, consumer: consumer.clone(), locked, expected })
    }
}

#[async_trait]
impl InboxTransaction for PostgresInboxTransaction {
    type Connection = AsyncPgConnection;

    fn connection(&mut self) -> &mut AsyncPgConnection {
        self.session.connection()
    }

    async fn admit(&mut self, candidates: &[Candidate]) -> Result<Admission, StorageError> {
        admitting::admit(self, candidates).await
    }

    async fn put_aside(&mut self, messages: &[Aside]) -> Result<(), StorageError> {
        asides::put_aside(self, messages).await
    }

    async fn complete(&mut self, claim: ClaimToken, seqs: &[i64]) -> Result<Fenced, StorageError> {
        completing::complete(self, claim, seqs).await
    }

    async fn commit(self) -> Result<Committed, StorageError> {
        committing::commit(self).await
    }

    async fn answers(&mut self) -> bool {
        self.session.answers().await
    }

    async fn rollback(self) {
        self.session.roll_back().await;
    }
}

impl std::fmt::Debug for PostgresInboxTransaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresInboxTransaction").field("consumer", &self.consumer).finish_non_exhaustive()
    }
}

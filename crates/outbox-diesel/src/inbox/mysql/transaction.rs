use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use diesel_async::AsyncMysqlConnection;
use outbox_core::inbox::{
    Admission, Aside, Candidate, ClaimToken, Committed, Consumer, InboxTransaction, OrderingKey, TransactionLimits,
};
use outbox_core::ports::{Fenced, StorageError};

use super::expected::Expected;
use super::pool::Pool;
use super::session::Session;
use super::{admitting, asides, committing, completing, parking};
use crate::inbox::InboxTables;

/// A transaction of a [`MysqlInbox`](super::MysqlInbox). Handlers get its connection, which holds it open: Diesel's `transaction` on
/// it makes savepoints. They must not end it, also not by a statement that commits by itself (DDL): such a transaction is never
/// committed by the inbox, but what the server has committed of it stays.
pub struct MysqlInboxTransaction {
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

impl MysqlInboxTransaction {
    pub(super) async fn begin(
        pool: &Pool,
        statements: Arc<Statements>,
        consumer: &Consumer,
        limits: &TransactionLimits,
        idle: Duration,
    ) -> Result<Self, StorageError> {
        let session = Session::begin(pool, "begin a transaction", limits, idle).await?;
        let (locked, expected) = (BTreeSet::new(), Expected::default());
        Ok(Self { session, statements, consumer: consumer.clone(), locked, expected })
    }
}

#[async_trait]
impl InboxTransaction for MysqlInboxTransaction {
    type Connection = AsyncMysqlConnection;

    fn connection(&mut self) -> &mut AsyncMysqlConnection {
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

impl std::fmt::Debug for MysqlInboxTransaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MysqlInboxTransaction").field("consumer", &self.consumer).finish_non_exhaustive()
    }
}

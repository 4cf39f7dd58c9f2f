use std::sync::Arc;

use async_trait::async_trait;
use outbox_core::inbox::{
    Admission, Aside, Candidate, ClaimToken, Committed, Consumer, InboxTransaction, TransactionLimits,
};
use outbox_core::ports::{Fenced, StorageError};

use super::connection::SqliteInboxConnection;
use super::expected::Expected;
use super::session::{Session, Sessions};
use super::sql::Common;
use super::{admitting, asides, committing, completing};
use crate::inbox::InboxTables;

/// A transaction of a [`SqliteInbox`](super::SqliteInbox). Handlers get its connection, which holds it open: Diesel's `transaction` on it
/// makes savepoints.
pub struct SqliteInboxTransaction {
    pub(super) session: Session,
    pub(super) statements: Arc<Statements>,
    pub(super) consumer: Consumer,
    pub(super) expected: Expected,
}

/// The texts of a transaction's statements, rendered once.
pub(super) struct Statements {
    pub(super) common: Common,
    pub(super) admitting: admitting::Statements,
    pub(super) asides: asides::Statements,
    pub(super) completing: completing::Statements,
    pub(super) committing: committing::Statements,
}

impl Statements {
    pub(super) fn new(tables: &InboxTables) -> Self {
        Self {
            common: Common::new(tables),
            admitting: admitting::Statements::new(tables),
            asides: asides::Statements::new(tables),
            completing: completing::Statements::new(tables),
            committing: committing::Statements::new(tables),
        }
    }
}

impl SqliteInboxTransaction {
    pub(super) async fn begin(
        sessions: &Sessions,
        statements: Arc<Statements>,
        consumer: &Consumer,
        limits: &TransactionLimits,
    ) -> Result<Self, StorageError> {
        let session = sessions.begin("begin a transaction", limits.lock).await?;
        Ok(Self { session, statements, consumer: consumer.clone(), expected: Expected::default() })
    }
}

#[async_trait]
impl InboxTransaction for SqliteInboxTransaction {
    type Connection = SqliteInboxConnection;

    fn connection(&mut self) -> &mut SqliteInboxConnection {
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

    /// There is no connection that could be lost. A disk that is full or broken also fails the transaction that puts the message aside, and with it no
    /// attempt is counted.
    async fn answers(&mut self) -> bool {
        true
    }

    async fn rollback(self) {
        committing::roll_back(self).await;
    }
}

impl std::fmt::Debug for SqliteInboxTransaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteInboxTransaction").field("consumer", &self.consumer).finish_non_exhaustive()
    }
}

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use outbox_core::inbox::{
    Admission, Aside, Candidate, ClaimToken, Committed, Consumer, HeldBacklog, HeldBurial, HeldFailure, HeldMessage,
    HeldQueue, InboxAdmin, InboxMemory, InboxProfile, InboxStorage, InboxTransaction, OrderingKey, TransactionLimits,
};
use outbox_core::ports::{Fenced, StorageError, StorageErrorKind};
use tokio::time::sleep;

use super::Defect;
use super::world::World;
use crate::memory::{MemoryConnection, MemoryInbox, MemoryInboxTransaction};

/// One process's way to the database: calls take time, fail, lose their replies, and meet a crash before or after.
#[derive(Clone)]
pub(super) struct SimInbox {
    world: Arc<World>,
    process: usize,
    database: MemoryInbox,
}

/// What becomes of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Served,
    /// Fails and changes nothing.
    Refused(StorageErrorKind),
    /// Takes effect; the reply is lost.
    ReplyLost,
    CrashBefore,
    CrashAfter,
}

impl SimInbox {
    pub(super) fn new(world: Arc<World>, process: usize) -> Self {
        let database = match world.scenario.defect {
            Some(Defect::CommitAfterDeadlock) => world.database.that_commits_unverified(),
            _ => world.database.clone(),
        };
        Self { world, process, database }
    }

    async fn call<T>(&self, call: impl Future<Output = Result<T, StorageError>>) -> Result<T, StorageError> {
        let (fate, there, back) = self.course();
        wait(there).await;
        match fate {
            Fate::Refused(kind) => return Err(StorageError::new(kind, "simulated fault")),
            Fate::CrashBefore => self.crash().await,
            Fate::Served | Fate::ReplyLost | Fate::CrashAfter => {}
        }
        let value = call.await?;
        if fate == Fate::CrashAfter {
            self.crash().await;
        }
        wait(back).await;
        if fate == Fate::ReplyLost {
            return Err(StorageError::new(StorageErrorKind::Unavailable, "simulated loss of a reply"));
        }
        Ok(value)
    }

    async fn crash(&self) {
        self.world.crash(self.process);
        std::future::pending().await
    }

    fn course(&self) -> (Fate, Duration, Duration) {
        let mut state = self.world.lock();
        let (mut there, mut back) = (state.dice.millis(0, 4), state.dice.millis(0, 4));
        if state.calm || !state.dice.once_in(self.world.scenario.storage_fault_every) {
            return (Fate::Served, there, back);
        }
        state.summary.faults += 1;
        let fate = match state.dice.between(0, 8) {
            0 => Fate::Refused(StorageErrorKind::Unavailable),
            1 => Fate::Refused(StorageErrorKind::Conflict),
            2 | 3 => Fate::ReplyLost,
            4 => Fate::CrashBefore,
            5 => Fate::CrashAfter,
            6 => {
                there = state.dice.millis(50, 4_000);
                Fate::Served
            }
            _ => {
                back = state.dice.millis(50, 4_000);
                Fate::Served
            }
        };
        (fate, there, back)
    }
}

async fn wait(time: Duration) {
    if !time.is_zero() {
        sleep(time).await;
    }
}

#[async_trait]
impl InboxStorage for SimInbox {
    type Connection = MemoryConnection;
    type Transaction = SimTransaction;

    async fn check(&self) -> Result<InboxProfile, StorageError> {
        self.call(self.database.check()).await
    }

    async fn begin(&self, consumer: &Consumer, limits: &TransactionLimits) -> Result<SimTransaction, StorageError> {
        let transaction = self.call(self.database.begin(consumer, limits)).await?;
        Ok(SimTransaction { transaction, way: self.clone() })
    }

    fn is_conflict(&self, error: &(dyn std::error::Error + 'static)) -> bool {
        self.database.is_conflict(error)
    }

    fn held(&self) -> &dyn HeldQueue {
        self
    }

    fn memory(&self) -> &dyn InboxMemory {
        self.database.memory()
    }

    fn admin(&self) -> &dyn InboxAdmin {
        self.database.admin()
    }
}

pub(super) struct SimTransaction {
    transaction: MemoryInboxTransaction,
    way: SimInbox,
}

#[async_trait]
impl InboxTransaction for SimTransaction {
    type Connection = MemoryConnection;

    fn connection(&mut self) -> &mut MemoryConnection {
        self.transaction.connection()
    }

    async fn admit(&mut self, candidates: &[Candidate]) -> Result<Admission, StorageError> {
        self.way.call(self.transaction.admit(candidates)).await
    }

    async fn put_aside(&mut self, messages: &[Aside]) -> Result<(), StorageError> {
        self.way.call(self.transaction.put_aside(messages)).await
    }

    async fn complete(&mut self, claim: ClaimToken, seqs: &[i64]) -> Result<Fenced, StorageError> {
        self.way.call(self.transaction.complete(claim, seqs)).await
    }

    async fn commit(self) -> Result<Committed, StorageError> {
        let Self { transaction, way } = self;
        way.call(transaction.commit()).await
    }

    async fn answers(&mut self) -> bool {
        let asked = async { Ok(self.transaction.answers().await) };
        self.way.call(asked).await.unwrap_or(false)
    }

    async fn rollback(self) {
        let Self { transaction, way } = self;
        let rollback = async {
            transaction.rollback().await;
            Ok(())
        };
        drop(way.call(rollback).await);
    }
}

#[async_trait]
impl HeldQueue for SimInbox {
    async fn claim(
        &self,
        consumer: &Consumer,
        claim: ClaimToken,
        lease: Duration,
        limit: usize,
    ) -> Result<Vec<HeldMessage>, StorageError> {
        self.call(self.database.claim(consumer, claim, lease, limit)).await
    }

    async fn fail(
        &self,
        consumer: &Consumer,
        claim: ClaimToken,
        failure: &HeldFailure,
    ) -> Result<Fenced, StorageError> {
        self.call(self.database.fail(consumer, claim, failure)).await
    }

    async fn bury(&self, consumer: &Consumer, claim: ClaimToken, burial: &HeldBurial) -> Result<Fenced, StorageError> {
        self.call(self.database.bury(consumer, claim, burial)).await
    }

    async fn release(&self, consumer: &Consumer, claim: ClaimToken, keys: &[OrderingKey]) -> Result<(), StorageError> {
        self.call(self.database.release(consumer, claim, keys)).await
    }

    async fn backlog(&self, consumer: &Consumer) -> Result<HeldBacklog, StorageError> {
        self.call(self.database.backlog(consumer)).await
    }
}

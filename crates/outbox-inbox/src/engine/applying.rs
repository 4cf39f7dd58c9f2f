//! Calls of handlers inside a transaction.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;
use outbox_core::inbox::{InboxStorage, InboxTransaction};
use outbox_core::ports::StorageError;

use super::Context;
use crate::handler::{Called, Failure};
use crate::{Delivery, UnknownTypes};

/// Conflicts that one message may meet alone before they count as a failure: a handler that always deadlocks must not spin for ever.
pub(super) const MAX_CONFLICTS: u32 = 20;

/// What became of a delivery in a transaction.
pub(super) enum Applied {
    Done,
    /// No handler, and by choice that is no failure.
    Skipped,
    /// No handler, and by choice it is a dead letter.
    Unknown(String),
    /// Its payload is not the event's; no handler was called.
    Undecodable(String),
    Failed(Trouble),
}

/// Why a transaction cannot go on.
pub(super) enum Trouble {
    /// The handler returned an error: the transaction can be rolled back in order.
    Failed(Failure),
    /// The handler panicked: its connection serves no one else.
    Panicked(String),
    /// The handler did not end: its connection is in the middle of something.
    Hung(String),
}

impl Trouble {
    /// For the database: what operators see.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Failed(error) => {
                let causes = std::iter::successors(error.source(), |cause| cause.source());
                causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
            }
            Self::Panicked(text) | Self::Hung(text) => text.clone(),
        }
    }
}

/// Calls the handler of a delivery.
pub(super) async fn apply<S: InboxStorage>(
    context: &Context<S>,
    transaction: &mut S::Transaction,
    delivery: &Delivery,
) -> Applied {
    let Some(handler) = context.handlers.get(&delivery.event_type) else {
        let text = format!("no handler is registered for the type {:?}", delivery.event_type);
        return match context.config.unknown_types {
            UnknownTypes::Skip => Applied::Skipped,
            UnknownTypes::DeadLetter => Applied::Unknown(text),
            UnknownTypes::Fail => Applied::Failed(Trouble::Failed(text.into())),
        };
    };
    let limit = context.config.handler_timeout;
    // the call itself may panic too, before there is a future
    let called = AssertUnwindSafe(async { handler.call(transaction.connection(), delivery).await }).catch_unwind();
    match tokio::time::timeout(limit, called).await {
        Ok(Ok(Called::Done)) => Applied::Done,
        Ok(Ok(Called::Undecodable(text))) => Applied::Undecodable(text),
        Ok(Ok(Called::Failed(error))) => Applied::Failed(Trouble::Failed(error)),
        Ok(Err(panic)) => Applied::Failed(Trouble::Panicked(panic_text(panic.as_ref()))),
        Err(_) => {
            let text = format!("the handler took longer than handler_timeout ({} ms)", limit.as_millis());
            Applied::Failed(Trouble::Hung(text))
        }
    }
}

/// Why an attempt ended without a commit.
pub(super) enum Ended {
    /// The database could not be used, or the outcome is not known: try again later, nothing is blamed.
    Storage(StorageError),
    /// Another transaction was in the way: try again.
    Conflict,
    /// A handler failed, with this text, and its connection is lost: try again when the database answers.
    Lost(String),
    /// A handler failed.
    Handler(String),
    /// Some handler spoilt the transaction without saying so.
    Broken,
}

impl Ended {
    pub(super) fn of_storage(error: StorageError) -> Self {
        if error.kind() == outbox_core::ports::StorageErrorKind::Conflict {
            Self::Conflict
        } else {
            Self::Storage(error)
        }
    }
}

/// Ends a transaction in which a handler failed.
pub(super) async fn give_up<S: InboxStorage>(
    context: &Context<S>,
    mut transaction: S::Transaction,
    trouble: Trouble,
) -> Ended {
    let text = trouble.text();
    match trouble {
        Trouble::Failed(error) if context.storage.is_conflict(&*error) => {
            roll_back(context, transaction).await;
            Ended::Conflict
        }
        Trouble::Failed(_) | Trouble::Panicked(_) if !answers(context, &mut transaction).await => Ended::Lost(text),
        Trouble::Failed(_) => {
            roll_back(context, transaction).await;
            Ended::Handler(text)
        }
        Trouble::Panicked(_) | Trouble::Hung(_) => Ended::Handler(text),
    }
}

async fn answers<S: InboxStorage>(context: &Context<S>, transaction: &mut S::Transaction) -> bool {
    tokio::time::timeout(context.config.storage_timeout, transaction.answers()).await.unwrap_or(false)
}

/// Rolls back in order, so that the connection can serve again. When the time is up it is dropped, and its connection with it.
pub(super) async fn roll_back<S: InboxStorage>(context: &Context<S>, transaction: S::Transaction) {
    if tokio::time::timeout(context.config.storage_timeout, transaction.rollback()).await.is_err() {
        tracing::warn!("a rollback took longer than storage_timeout, its connection is given up");
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("the handler panicked: {}", text.unwrap_or("without a text"))
}

//! Several texts in one transaction, on a connection of our own.

use std::time::Duration;

use futures_util::future::BoxFuture;
use outbox_core::ports::{StorageError, StorageErrorKind};
use rand::RngExt;
use tokio::time::timeout;

use crate::mysql::error::{timed_out, unexpected_reply};
use crate::mysql::pool::{Checkout, Pool};
use crate::mysql::session::{ResultSet, START};

/// Attempts at work that meets a deadlock or a lock time-out.
const ATTEMPTS: u32 = 4;

/// The longest wait before the second attempt; it doubles with each.
const BACK_OFF_MS: u64 = 20;

/// An open transaction. Dropping it closes the connection, and the server rolls back; so it does after the session's idle limit when this
/// program is paused meanwhile.
pub(super) struct Work {
    checkout: Checkout,
    limit: Duration,
    what: &'static str,
}

impl Work {
    /// Begins, and runs a first text. `what` completes "cannot …".
    pub(super) async fn begin(
        pool: &Pool,
        what: &'static str,
        text: &str,
    ) -> Result<(Self, Vec<ResultSet>), StorageError> {
        let limit = pool.timeout();
        let begun = async {
            let mut work = Self { checkout: pool.checkout(what).await?, limit, what };
            let mut sets = work.run(&format!("{START}{text}")).await?;
            if sets.is_empty() {
                return Err(unexpected_reply(what));
            }
            sets.remove(0);
            Ok((work, sets))
        };
        timeout(limit, begun).await.unwrap_or_else(|_| Err(timed_out(what, limit)))
    }

    /// Runs a text of one or more statements. After an error the transaction is of no use.
    pub(super) async fn run(&mut self, text: &str) -> Result<Vec<ResultSet>, StorageError> {
        self.checkout.session().run(self.what, self.limit, text).await
    }

    /// Commits.
    pub(super) async fn commit(mut self) -> Result<(), StorageError> {
        self.run("COMMIT").await?;
        self.checkout.give_back();
        Ok(())
    }

    /// Rolls back; the connection is closed when that cannot be done in a clean way.
    pub(super) async fn roll_back(mut self) {
        if self.run("ROLLBACK").await.is_ok() {
            self.checkout.give_back();
        }
    }
}

/// Does it again when another transaction was in the way. For work that may be repeated.
pub(super) async fn repeated<'a, T>(
    work: impl Fn() -> BoxFuture<'a, Result<T, StorageError>> + Send + Sync,
) -> Result<T, StorageError> {
    let mut attempt = 1;
    loop {
        match work().await {
            Err(error) if error.kind() == StorageErrorKind::Conflict && attempt < ATTEMPTS => {
                let wait_ms = rand::rng().random_range(1..=BACK_OFF_MS << attempt);
                tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                attempt += 1;
            }
            result => return result,
        }
    }
}

//! The suite of the inbox's storage is worth something only if it fails where a storage is wrong.

use std::panic::AssertUnwindSafe;

use async_trait::async_trait;
use futures_util::FutureExt;
use outbox_testkit::inbox_storage_suite::{self, InboxDatabase, InboxStorageFixture};
use outbox_testkit::memory::MemoryInbox;

/// Databases whose transactions commit what is left of them after something has ended them.
struct Unverified;

#[async_trait]
impl InboxStorageFixture for Unverified {
    type Storage = MemoryInbox;

    async fn fresh(&self) -> Result<Box<dyn InboxDatabase<MemoryInbox>>, outbox_testkit::BoxError> {
        Ok(Box::new(MemoryInbox::new().that_commits_unverified()))
    }
}

/// Databases whose purge forgets dead letters that are still there.
struct Forgetful;

#[async_trait]
impl InboxStorageFixture for Forgetful {
    type Storage = MemoryInbox;

    async fn fresh(&self) -> Result<Box<dyn InboxDatabase<MemoryInbox>>, outbox_testkit::BoxError> {
        Ok(Box::new(MemoryInbox::new().that_forgets_dead_letters()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_without_a_look_at_its_rows_is_caught_by_every_case_that_breaks_a_transaction() {
    let text = complaints(&Unverified).await;
    for sentence in [
        "a transaction that a handler broke is not committed",
        "what was put aside in a broken transaction is not there",
        "a broken transaction completes nothing",
    ] {
        assert!(text.contains(&format!("  - {sentence}: ")), "{sentence:?} did not fail. {text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_purge_that_forgets_dead_letters_is_caught() {
    let text = complaints(&Forgetful).await;
    let sentence = "a dead letter s identity is known as long as its letter stays";
    assert!(text.contains(&format!("  - {sentence}: ")), "{sentence:?} did not fail. {text}");
}

/// What the suite says about a storage.
async fn complaints(fixture: &impl InboxStorageFixture) -> String {
    let verdict = AssertUnwindSafe(inbox_storage_suite::run(fixture)).catch_unwind().await;
    verdict.err().and_then(|panic| panic.downcast::<String>().ok()).map_or_else(String::new, |text| *text)
}

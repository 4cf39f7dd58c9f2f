//! What a commit makes durable, and what it refuses.

use outbox_core::inbox::{Committed, InboxStorage, InboxTransaction, Standing};

use super::cases;
use super::subject::{LONG, Subject, aside, candidate, failed, fixture};
use crate::case::Case;

pub(super) fn cases<S: InboxStorage>() -> Vec<Case<Subject<S>>> {
    cases![
        effects_and_dedup_rows_commit_together,
        a_dropped_transaction_leaves_nothing,
        a_rolled_back_transaction_leaves_nothing,
        a_transaction_that_a_handler_broke_is_not_committed,
        what_was_put_aside_in_a_broken_transaction_is_not_there,
        the_storage_works_on_after_broken_and_dropped_transactions,
    ]
}

pub(super) fn cases_of_two<S: InboxStorage>() -> Vec<Case<Subject<S>>> {
    cases![a_deadlock_of_two_handlers_is_a_conflict_and_leaves_one_of_them]
}

async fn effects_and_dedup_rows_commit_together<S: InboxStorage>(subject: &Subject<S>) {
    let candidates: Vec<_> = ["1", "2", "3"].map(|id| candidate(id, None)).into();
    subject.process(&candidates).await;
    assert_eq!(subject.effects().await, ["1", "2", "3"]);
    assert_eq!(subject.look(&candidates).await.standings, [Standing::Processed; 3]);
}

async fn a_dropped_transaction_leaves_nothing<S: InboxStorage>(subject: &Subject<S>) {
    let mut transaction = subject.begin().await;
    transaction.admit(&[candidate("1", Some("a"))]).await.expect("admit");
    subject.apply(&mut transaction, "1").await;
    transaction.put_aside(&[aside("1", Some("a"), failed(LONG))]).await.expect("put_aside");
    drop(transaction);
    expect_nothing(subject).await;
}

async fn a_rolled_back_transaction_leaves_nothing<S: InboxStorage>(subject: &Subject<S>) {
    let mut transaction = subject.begin().await;
    transaction.admit(&[candidate("1", Some("a"))]).await.expect("admit");
    subject.apply(&mut transaction, "1").await;
    transaction.put_aside(&[aside("1", Some("a"), failed(LONG))]).await.expect("put_aside");
    transaction.rollback().await;
    expect_nothing(subject).await;
}

async fn a_transaction_that_a_handler_broke_is_not_committed<S: InboxStorage>(subject: &Subject<S>) {
    let mut transaction = subject.begin().await;
    transaction.admit(&[candidate("1", None), candidate("2", None)]).await.expect("admit");
    subject.apply(&mut transaction, "before").await;
    subject.database.swallow_an_error(transaction.connection()).await;
    // where it succeeds, it must not commit by itself; where it fails, this handler swallows that too
    let _ = subject.database.apply(transaction.connection(), "after").await;
    assert_eq!(transaction.commit().await.expect("commit answers"), Committed::Broken);
    expect_nothing(subject).await;
}

async fn what_was_put_aside_in_a_broken_transaction_is_not_there<S: InboxStorage>(subject: &Subject<S>) {
    let mut transaction = subject.begin().await;
    transaction.admit(&[candidate("1", Some("a"))]).await.expect("admit");
    transaction.put_aside(&[aside("1", Some("a"), failed(LONG))]).await.expect("put_aside");
    subject.database.swallow_an_error(transaction.connection()).await;
    assert_eq!(transaction.commit().await.expect("commit answers"), Committed::Broken);
    expect_nothing(subject).await;
}

async fn the_storage_works_on_after_broken_and_dropped_transactions<S: InboxStorage>(subject: &Subject<S>) {
    for round in 0..30 {
        let mut transaction = subject.begin().await;
        transaction.admit(&[candidate("1", None)]).await.expect("admit");
        if round % 2 == 0 {
            subject.database.swallow_an_error(transaction.connection()).await;
            fixture("commit", transaction.commit().await.map_err(Into::into));
        }
    }
    subject.process(&[candidate("1", None)]).await;
    assert_eq!(subject.effects().await, ["1"]);
}

async fn a_deadlock_of_two_handlers_is_a_conflict_and_leaves_one_of_them<S: InboxStorage>(subject: &Subject<S>) {
    let barrier = tokio::sync::Barrier::new(2);
    let handle = async |id: &'static str, rows: [u8; 2]| {
        let mut transaction = subject.begin().await;
        transaction.admit(&[candidate(id, None)]).await.expect("admit");
        fixture("touch", subject.database.touch(transaction.connection(), rows[0]).await);
        barrier.wait().await;
        match subject.database.touch(transaction.connection(), rows[1]).await {
            Ok(()) => {
                assert_eq!(transaction.commit().await.expect("commit"), Committed::Done);
                Standing::Processed
            }
            Err(error) => {
                assert!(subject.storage.is_conflict(&*error), "no conflict: {error}");
                transaction.rollback().await;
                Standing::New
            }
        }
    };
    let (one, other) = tokio::join!(handle("1", [0, 1]), handle("2", [1, 0]));
    assert_ne!(one, other, "one of the two is the victim");
    assert_eq!([subject.standing("1").await, subject.standing("2").await], [one, other]);
    let unrelated = std::io::Error::other("the card was refused");
    assert!(!subject.storage.is_conflict(&unrelated));
}

async fn expect_nothing<S: InboxStorage>(subject: &Subject<S>) {
    assert!(subject.effects().await.is_empty(), "an effect is there");
    assert_eq!(subject.standing("1").await, Standing::New);
    assert!(!subject.is_parked("a").await, "a key is parked");
    assert!(subject.claimable().await.is_empty(), "a message is held");
}

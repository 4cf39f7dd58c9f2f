//! Processing what is held: once, by whoever owns the claim at the commit.

use std::time::Duration;

use outbox_core::inbox::{ClaimToken, Committed, Fate, HeldMessage, InboxStorage, InboxTransaction, Standing};
use outbox_core::ports::Fenced;
use tokio::time::timeout;

use super::cases;
use super::subject::{LONG, Subject, aside, candidate, id_of, key, token};
use crate::case::{Case, eventually};

pub(super) fn cases<S: InboxStorage>() -> Vec<Case<Subject<S>>> {
    cases![
        a_completed_message_is_processed_and_no_longer_held,
        completing_and_rolling_back_leaves_the_message_held,
        completing_another_s_message_is_lost,
        completing_is_all_or_nothing,
        a_worker_whose_message_was_claimed_again_cannot_complete_it,
        a_claim_that_ran_out_and_that_nobody_took_still_completes,
        a_broken_transaction_completes_nothing,
        a_received_message_can_be_admitted_as_new_in_its_completion,
    ]
}

pub(super) fn cases_of_two<S: InboxStorage>() -> Vec<Case<Subject<S>>> {
    cases![a_message_that_is_being_completed_cannot_be_claimed]
}

/// Completes messages with an effect each, and commits.
pub(super) async fn complete<S: InboxStorage>(subject: &Subject<S>, claim: ClaimToken, messages: &[HeldMessage]) {
    let mut transaction = subject.begin().await;
    assert_eq!(transaction.complete(claim, &seqs(messages)).await.expect("complete"), Fenced::Done);
    for message in messages {
        subject.apply(&mut transaction, &id_of(message)).await;
    }
    assert_eq!(transaction.commit().await.expect("commit"), Committed::Done);
}

async fn a_completed_message_is_processed_and_no_longer_held<S: InboxStorage>(subject: &Subject<S>) {
    subject.put_aside(&[aside("1", Some("a"), Fate::Waiting), aside("2", None, Fate::Received)]).await;
    let (claim, claimed) = subject.claim(10).await;
    complete(subject, claim, &claimed).await;
    subject.held().release(&subject.consumer, claim, &[key("a")]).await.expect("release");
    assert_eq!(subject.effects().await, ["1", "2"]);
    let standings = subject.look(&[candidate("1", None), candidate("2", None)]).await.standings;
    assert_eq!(standings, [Standing::Processed; 2]);
    assert!(subject.claimable().await.is_empty());
    assert!(!subject.is_parked("a").await);
}

async fn completing_and_rolling_back_leaves_the_message_held<S: InboxStorage>(subject: &Subject<S>) {
    subject.put_aside(&[aside("1", Some("a"), Fate::Waiting)]).await;
    let (claim, claimed) = subject.claim(10).await;
    for round in 0..2 {
        let mut transaction = subject.begin().await;
        assert_eq!(transaction.complete(claim, &seqs(&claimed)).await.expect("complete"), Fenced::Done);
        subject.apply(&mut transaction, "ghost").await;
        if round == 0 {
            transaction.rollback().await;
        }
    }
    assert_eq!(subject.standing("1").await, Standing::Held);
    complete(subject, claim, &claimed).await;
    assert_eq!(subject.effects().await, ["1"]);
}

async fn completing_another_s_message_is_lost<S: InboxStorage>(subject: &Subject<S>) {
    subject.put_aside(&[aside("1", Some("a"), Fate::Waiting)]).await;
    let (claim, claimed) = subject.claim(10).await;
    expect_lost(subject, token(), &claimed).await;
    complete(subject, claim, &claimed).await;
    expect_lost(subject, claim, &claimed).await; // it is gone
}

async fn completing_is_all_or_nothing<S: InboxStorage>(subject: &Subject<S>) {
    subject.put_aside(&[aside("1", None, Fate::Received), aside("2", None, Fate::Received)]).await;
    let (claim, claimed) = subject.claim(1).await;
    let (_, other) = subject.claim(1).await;
    assert_eq!((claimed.len(), other.len()), (1, 1));
    expect_lost(subject, claim, &[claimed[0].clone(), other[0].clone()]).await;
    assert_eq!(subject.standing("1").await, Standing::Held);
}

async fn a_worker_whose_message_was_claimed_again_cannot_complete_it<S: InboxStorage>(subject: &Subject<S>) {
    subject.put_aside(&[aside("1", Some("a"), Fate::Waiting)]).await;
    let stale = token();
    let claimed = subject.held().claim(&subject.consumer, stale, Duration::from_secs(1), 10).await.expect("claim");
    let fresh = eventually("the claim runs out", || async {
        let (claim, messages) = subject.claim(10).await;
        (!messages.is_empty()).then_some(claim)
    })
    .await;
    expect_lost(subject, stale, &claimed).await;
    complete(subject, fresh, &claimed).await;
    assert_eq!(subject.effects().await, ["1"]);
}

async fn a_claim_that_ran_out_and_that_nobody_took_still_completes<S: InboxStorage>(subject: &Subject<S>) {
    subject.put_aside(&[aside("1", Some("a"), Fate::Waiting)]).await;
    let claim = token();
    let lease = Duration::from_secs(1);
    let claimed = subject.held().claim(&subject.consumer, claim, lease, 10).await.expect("claim");
    eventually("the claim runs out", || async {
        let due = subject.held().backlog(&subject.consumer).await.expect("backlog").next_due;
        (due == Some(Duration::ZERO)).then_some(())
    })
    .await;
    complete(subject, claim, &claimed).await;
    assert_eq!(subject.effects().await, ["1"]);
}

async fn a_broken_transaction_completes_nothing<S: InboxStorage>(subject: &Subject<S>) {
    subject.put_aside(&[aside("1", Some("a"), Fate::Waiting)]).await;
    let (claim, claimed) = subject.claim(10).await;
    let mut transaction = subject.begin().await;
    assert_eq!(transaction.complete(claim, &seqs(&claimed)).await.expect("complete"), Fenced::Done);
    subject.database.swallow_an_error(transaction.connection()).await;
    let _ = subject.database.apply(transaction.connection(), "after").await;
    assert_eq!(transaction.commit().await.expect("commit answers"), Committed::Broken);
    assert_eq!(subject.standing("1").await, Standing::Held);
    assert!(subject.effects().await.is_empty());
    complete(subject, claim, &claimed).await;
}

/// A replayed dead letter without an identity gets one when it is decoded.
async fn a_received_message_can_be_admitted_as_new_in_its_completion<S: InboxStorage>(subject: &Subject<S>) {
    let mut letter =
        aside("1", Some("a"), super::subject::dead(outbox_core::inbox::InboxDeadReason::Undecodable, false));
    letter.identity = None;
    subject.put_aside(&[letter]).await;
    let seq = subject.dead_letters().await[0].seq;
    assert!(subject.admin().replay(&subject.consumer, seq).await.expect("replay"));
    let (claim, claimed) = subject.claim(10).await;
    assert_eq!((claimed.len(), claimed[0].identity.clone()), (1, None));
    let mut transaction = subject.begin().await;
    assert_eq!(transaction.admit(&[candidate("1", Some("a"))]).await.expect("admit").standings, [Standing::New]);
    assert_eq!(transaction.complete(claim, &seqs(&claimed)).await.expect("complete"), Fenced::Done);
    subject.apply(&mut transaction, "1").await;
    assert_eq!(transaction.commit().await.expect("commit"), Committed::Done);
    assert_eq!(subject.standing("1").await, Standing::Processed);
    assert!(subject.claimable().await.is_empty());
}

async fn a_message_that_is_being_completed_cannot_be_claimed<S: InboxStorage>(subject: &Subject<S>) {
    subject.put_aside(&[aside("1", Some("a"), Fate::Waiting)]).await;
    let claim = token();
    let claimed = subject.held().claim(&subject.consumer, claim, Duration::from_millis(100), 10).await.expect("claim");
    let mut transaction = subject.begin().await;
    assert_eq!(transaction.complete(claim, &seqs(&claimed)).await.expect("complete"), Fenced::Done);
    let thief = token();
    // the claim runs out meanwhile; a thief finds nothing, or waits until the transaction has ended
    for _ in 0..5 {
        let stolen = subject.held().claim(&subject.consumer, thief, LONG, 10);
        if let Ok(stolen) = timeout(Duration::from_millis(100), stolen).await {
            assert!(stolen.is_ok_and(|messages| messages.is_empty()), "it was claimed");
        }
    }
    subject.apply(&mut transaction, "1").await;
    assert_eq!(transaction.commit().await.expect("commit"), Committed::Done);
    assert_eq!(subject.effects().await, ["1"]);
    assert!(subject.claimable().await.is_empty());
}

async fn expect_lost<S: InboxStorage>(subject: &Subject<S>, claim: ClaimToken, messages: &[HeldMessage]) {
    let mut transaction = subject.begin().await;
    assert_eq!(transaction.complete(claim, &seqs(messages)).await.expect("complete"), Fenced::Lost);
    transaction.rollback().await;
}

fn seqs(messages: &[HeldMessage]) -> Vec<i64> {
    messages.iter().map(|message| message.seq).collect()
}

//! Who works on a held message.

use std::time::Duration;

use outbox_core::inbox::{Fate, HeldBurial, HeldFailure, InboxDeadReason, InboxStorage};
use outbox_core::ports::Fenced;

use super::cases;
use super::subject::{LONG, Subject, aside, consumer, id_of, key, token};
use crate::case::{Case, eventually};

pub(super) fn cases<S: InboxStorage>() -> Vec<Case<Subject<S>>> {
    cases![
        a_claimed_message_and_its_followers_are_nobody_else_s,
        a_claim_takes_no_more_than_its_limit_and_runs_from_the_head,
        a_claim_with_the_same_token_returns_what_it_has,
        a_claim_that_ran_out_can_be_taken_by_another,
        a_released_claim_can_be_taken_at_once,
        claims_of_another_consumer_see_nothing,
        a_failed_attempt_is_written_and_frees_the_message,
        a_failure_or_burial_of_another_s_claim_is_lost_and_changes_nothing,
        a_buried_message_is_dead_and_its_followers_go_on,
        a_burial_that_parks_the_key_stops_the_followers,
    ]
}

async fn a_claimed_message_and_its_followers_are_nobody_else_s<S: InboxStorage>(subject: &Subject<S>) {
    subject.put_aside(&[aside("1", Some("a"), Fate::Waiting), aside("2", Some("a"), Fate::Waiting)]).await;
    let (_, first) = subject.claim(1).await;
    assert_eq!(first.iter().map(id_of).collect::<Vec<_>>(), ["1"]);
    subject.put_aside(&[aside("3", Some("a"), Fate::Waiting), aside("4", Some("b"), Fate::Waiting)]).await;
    let (_, second) = subject.claim(10).await;
    assert_eq!(
        second.iter().map(id_of).collect::<Vec<_>>(),
        ["4"],
        "a follower was given out while its head is worked on"
    );
}

async fn a_claim_takes_no_more_than_its_limit_and_runs_from_the_head<S: InboxStorage>(subject: &Subject<S>) {
    let messages: Vec<_> =
        (0..12).map(|n| aside(&format!("{n:02}"), Some(["a", "b", "c"][n % 3]), Fate::Received)).collect();
    subject.put_aside(&messages).await;
    let (_, claimed) = subject.claim(5).await;
    assert!(!claimed.is_empty() && claimed.len() <= 5, "{} messages", claimed.len());
    assert!(claimed.is_sorted_by_key(|message| message.seq));
    for name in ["a", "b", "c"] {
        let of_key = |message: &&_| -> bool {
            let message: &outbox_core::inbox::HeldMessage = message;
            message.key == Some(key(name))
        };
        let run: Vec<_> = claimed.iter().filter(of_key).map(id_of).collect();
        let expected: Vec<_> = messages.iter().filter(|m| m.key == Some(key(name))).take(run.len()).collect();
        let expected: Vec<_> = expected.iter().filter_map(|m| Some(m.identity.as_ref()?.id().to_owned())).collect();
        assert_eq!(run, expected, "no run from the head of {name}");
    }
}

async fn a_claim_with_the_same_token_returns_what_it_has<S: InboxStorage>(subject: &Subject<S>) {
    subject.put_aside(&[aside("1", Some("a"), Fate::Received), aside("2", None, Fate::Received)]).await;
    let (claim, first) = subject.claim(10).await;
    let again = subject.held().claim(&subject.consumer, claim, LONG, 10).await.expect("claim");
    assert_eq!(again, first);
}

async fn a_claim_that_ran_out_can_be_taken_by_another<S: InboxStorage>(subject: &Subject<S>) {
    subject.put_aside(&[aside("1", Some("a"), Fate::Waiting)]).await;
    let lease = Duration::from_secs(1);
    let first = subject.held().claim(&subject.consumer, token(), lease, 10).await.expect("claim");
    assert_eq!(first.len(), 1);
    assert!(subject.claimable().await.is_empty(), "the claim has not run out");
    eventually("the claim runs out", || async { (!subject.claimable().await.is_empty()).then_some(()) }).await;
}

async fn a_released_claim_can_be_taken_at_once<S: InboxStorage>(subject: &Subject<S>) {
    subject.put_aside(&[aside("1", Some("a"), Fate::Waiting)]).await;
    let (claim, _) = subject.claim(10).await;
    subject.held().release(&subject.consumer, token(), &[key("a")]).await.expect("release");
    assert!(subject.claimable().await.is_empty(), "another's release freed it");
    subject.held().release(&subject.consumer, claim, &[key("a")]).await.expect("release");
    assert_eq!(subject.claimable().await, ["1"]);
    assert!(subject.is_parked("a").await, "something of it is still held");
}

async fn claims_of_another_consumer_see_nothing<S: InboxStorage>(subject: &Subject<S>) {
    subject.put_aside(&[aside("1", Some("a"), Fate::Waiting)]).await;
    let claimed = subject.held().claim(&consumer("shipping"), token(), LONG, 10).await.expect("claim");
    assert!(claimed.is_empty());
}

async fn a_failed_attempt_is_written_and_frees_the_message<S: InboxStorage>(subject: &Subject<S>) {
    subject.put_aside(&[aside("1", Some("a"), Fate::Waiting), aside("2", Some("a"), Fate::Waiting)]).await;
    let (claim, claimed) = subject.claim(10).await;
    let error = "é🚀".repeat(20_000);
    let failure = HeldFailure { seq: claimed[0].seq, attempts: 4, delay: Duration::from_millis(400), error };
    assert_eq!(subject.held().fail(&subject.consumer, claim, &failure).await.expect("fail"), Fenced::Done);
    subject.held().release(&subject.consumer, claim, &[key("a")]).await.expect("release");
    assert!(subject.claimable().await.is_empty(), "too early, or a follower overtakes");
    let again = eventually("the message is due again", || async {
        let (claim, claimed) = subject.claim(1).await;
        subject.held().release(&subject.consumer, claim, &[]).await.expect("release");
        claimed.into_iter().next()
    })
    .await;
    assert_eq!((id_of(&again), again.attempts), ("1".to_owned(), 4));
}

async fn a_failure_or_burial_of_another_s_claim_is_lost_and_changes_nothing<S: InboxStorage>(subject: &Subject<S>) {
    subject.put_aside(&[aside("1", Some("a"), Fate::Waiting)]).await;
    let (claim, claimed) = subject.claim(10).await;
    let failure = HeldFailure { seq: claimed[0].seq, attempts: 9, delay: LONG, error: "late".to_owned() };
    let burial = burial(claimed[0].seq, true);
    assert_eq!(subject.held().fail(&subject.consumer, token(), &failure).await.expect("fail"), Fenced::Lost);
    assert_eq!(subject.held().bury(&subject.consumer, token(), &burial).await.expect("bury"), Fenced::Lost);
    subject.held().release(&subject.consumer, claim, &[]).await.expect("release");
    // and a claim that gave it back has it no longer
    assert_eq!(subject.held().fail(&subject.consumer, claim, &failure).await.expect("fail"), Fenced::Lost);
    assert_eq!(subject.held().bury(&subject.consumer, claim, &burial).await.expect("bury"), Fenced::Lost);
    let (_, again) = subject.claim(10).await;
    assert_eq!((again.len(), again[0].attempts), (1, 0));
    assert!(subject.dead_letters().await.is_empty());
}

async fn a_buried_message_is_dead_and_its_followers_go_on<S: InboxStorage>(subject: &Subject<S>) {
    subject.put_aside(&[aside("1", Some("a"), Fate::Waiting), aside("2", Some("a"), Fate::Waiting)]).await;
    let (claim, claimed) = subject.claim(10).await;
    let burial = burial(claimed[0].seq, false);
    assert_eq!(subject.held().bury(&subject.consumer, claim, &burial).await.expect("bury"), Fenced::Done);
    subject.held().release(&subject.consumer, claim, &[key("a")]).await.expect("release");
    let letters = subject.dead_letters().await;
    assert_eq!((letters.len(), letters[0].seq, letters[0].attempts), (1, claimed[0].seq, 5));
    assert_eq!((letters[0].reason.as_str(), letters[0].error.as_str()), ("attempts_exhausted", "gave up"));
    assert_eq!(letters[0].incoming, claimed[0].incoming);
    assert_eq!(subject.standing("1").await, outbox_core::inbox::Standing::Dead);
    assert_eq!(subject.claimable().await, ["2"]);
    assert!(subject.is_parked("a").await);
}

async fn a_burial_that_parks_the_key_stops_the_followers<S: InboxStorage>(subject: &Subject<S>) {
    subject.put_aside(&[aside("1", Some("a"), Fate::Waiting), aside("2", Some("a"), Fate::Waiting)]).await;
    let (claim, claimed) = subject.claim(10).await;
    let burial = burial(claimed[0].seq, true);
    assert_eq!(subject.held().bury(&subject.consumer, claim, &burial).await.expect("bury"), Fenced::Done);
    subject.held().release(&subject.consumer, claim, &[key("a")]).await.expect("release");
    assert!(subject.claimable().await.is_empty());
    assert!(subject.is_parked("a").await);
}

fn burial(seq: i64, park_key: bool) -> HeldBurial {
    let (reason, error) = (InboxDeadReason::AttemptsExhausted, "gave up".to_owned());
    HeldBurial { seq, attempts: 5, reason, error, park_key }
}

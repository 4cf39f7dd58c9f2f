//! What operators do with dead letters.

use outbox_core::inbox::{Aside, Fate, InboxDeadReason, InboxStorage, ParkedBy, Standing};

use super::cases;
use super::completing::complete;
use super::subject::{Subject, aside, consumer, dead, key};
use crate::case::Case;

pub(super) fn cases<S: InboxStorage>() -> Vec<Case<Subject<S>>> {
    cases![
        a_replayed_message_goes_before_its_held_followers,
        a_replayed_message_is_no_longer_dead_and_starts_with_no_attempts,
        a_replayed_message_of_a_free_key_parks_it_until_it_is_processed,
        a_discarded_message_is_taken_for_processed_and_its_key_goes_on,
        a_dead_letter_without_an_identity_can_be_discarded,
        discarding_leaves_a_key_alone_that_an_operator_parked,
        a_replayed_message_waits_for_an_operator_who_parked_its_key,
        a_key_goes_on_when_none_of_its_dead_letters_parks_it,
        a_replayed_message_waits_until_no_other_dead_letter_parks_its_key,
        an_operator_who_unparks_does_not_pass_a_dead_letter_that_came_meanwhile,
        what_follows_passes_a_dead_letter_when_an_operator_says_so,
        passing_a_dead_letter_leaves_a_key_alone_that_an_operator_parked,
        replaying_and_discarding_what_is_not_there_is_false,
        dead_letters_are_listed_a_page_at_a_time_for_each_consumer,
    ]
}

const REASON: InboxDeadReason = InboxDeadReason::AttemptsExhausted;

async fn a_replayed_message_goes_before_its_held_followers<S: InboxStorage>(subject: &Subject<S>) {
    subject.put_aside(&[aside("1", Some("a"), dead(REASON, true))]).await;
    subject.put_aside(&[aside("2", Some("a"), Fate::Waiting)]).await;
    assert!(subject.claimable().await.is_empty());
    replay_first(subject).await;
    assert!(subject.dead_letters().await.is_empty());
    let order = subject.claimable().await;
    assert_eq!(order[0], "1");
    let keys = subject.admin().parked_keys(&subject.consumer, None, 10).await.expect("parked_keys");
    assert_eq!(keys[0].by, ParkedBy::Held);
}

async fn a_replayed_message_is_no_longer_dead_and_starts_with_no_attempts<S: InboxStorage>(subject: &Subject<S>) {
    subject.put_aside(&[aside("1", None, dead(REASON, false))]).await;
    replay_first(subject).await;
    assert_eq!(subject.standing("1").await, Standing::Held);
    let (claim, claimed) = subject.claim(10).await;
    assert_eq!((claimed.len(), claimed[0].attempts), (1, 0));
    complete(subject, claim, &claimed).await;
    assert_eq!(subject.standing("1").await, Standing::Processed);
}

async fn a_replayed_message_of_a_free_key_parks_it_until_it_is_processed<S: InboxStorage>(subject: &Subject<S>) {
    subject.put_aside(&[aside("1", Some("a"), dead(REASON, false))]).await;
    assert!(!subject.is_parked("a").await);
    replay_first(subject).await;
    assert!(subject.is_parked("a").await);
    let (claim, claimed) = subject.claim(10).await;
    complete(subject, claim, &claimed).await;
    subject.held().release(&subject.consumer, claim, &[key("a")]).await.expect("release");
    assert!(!subject.is_parked("a").await);
}

async fn a_discarded_message_is_taken_for_processed_and_its_key_goes_on<S: InboxStorage>(subject: &Subject<S>) {
    subject.put_aside(&[aside("1", Some("a"), dead(REASON, true)), aside("2", Some("b"), dead(REASON, true))]).await;
    subject.put_aside(&[aside("3", Some("a"), Fate::Waiting)]).await;
    for letter in subject.dead_letters().await {
        assert!(subject.admin().discard(&subject.consumer, letter.seq).await.expect("discard"));
    }
    assert!(subject.dead_letters().await.is_empty());
    assert_eq!(subject.standing("1").await, Standing::Processed);
    assert_eq!(subject.standing("2").await, Standing::Processed);
    assert_eq!(subject.claimable().await, ["3"]);
    assert!(!subject.is_parked("b").await, "nothing of it is held");
}

async fn a_dead_letter_without_an_identity_can_be_discarded<S: InboxStorage>(subject: &Subject<S>) {
    let letter = Aside { identity: None, ..aside("1", None, dead(REASON, false)) };
    subject.put_aside(&[letter]).await;
    let seq = subject.dead_letters().await[0].seq;
    assert!(subject.admin().discard(&subject.consumer, seq).await.expect("discard"));
    assert!(subject.dead_letters().await.is_empty());
}

async fn discarding_leaves_a_key_alone_that_an_operator_parked<S: InboxStorage>(subject: &Subject<S>) {
    subject.put_aside(&[aside("1", Some("a"), dead(REASON, true))]).await;
    subject.admin().park(&subject.consumer, &key("a")).await.expect("park");
    let seq = subject.dead_letters().await[0].seq;
    assert!(subject.admin().discard(&subject.consumer, seq).await.expect("discard"));
    assert!(subject.is_parked("a").await);
}

async fn a_replayed_message_waits_for_an_operator_who_parked_its_key<S: InboxStorage>(subject: &Subject<S>) {
    subject.put_aside(&[aside("1", Some("a"), dead(REASON, true))]).await;
    subject.admin().park(&subject.consumer, &key("a")).await.expect("park");
    replay_first(subject).await;
    assert_eq!(subject.parked_by("a").await, Some(ParkedBy::Operator));
    assert!(subject.claimable().await.is_empty());
    assert!(subject.admin().unpark(&subject.consumer, &key("a")).await.expect("unpark"));
    assert_eq!(subject.claimable().await, ["1"]);
}

async fn a_key_goes_on_when_none_of_its_dead_letters_parks_it<S: InboxStorage>(subject: &Subject<S>) {
    let letters = ["1", "2"].map(|id| aside(id, Some("a"), dead(REASON, true)));
    subject.put_aside(&letters).await;
    subject.put_aside(&[aside("3", Some("a"), Fate::Waiting)]).await;
    for parked_by in [Some(ParkedBy::DeadLetter), Some(ParkedBy::Held)] {
        assert!(subject.claimable().await.is_empty(), "it passes a dead letter");
        let seq = subject.dead_letters().await[0].seq;
        assert!(subject.admin().discard(&subject.consumer, seq).await.expect("discard"));
        assert_eq!(subject.parked_by("a").await, parked_by);
    }
    assert_eq!(subject.claimable().await, ["3"]);
}

async fn a_replayed_message_waits_until_no_other_dead_letter_parks_its_key<S: InboxStorage>(subject: &Subject<S>) {
    let letters = ["1", "2"].map(|id| aside(id, Some("a"), dead(REASON, true)));
    subject.put_aside(&letters).await;
    subject.put_aside(&[aside("3", Some("a"), Fate::Waiting)]).await;
    replay_first(subject).await;
    assert_eq!(subject.parked_by("a").await, Some(ParkedBy::DeadLetter));
    assert!(subject.claimable().await.is_empty(), "what follows it would pass the other dead letter");
    replay_first(subject).await;
    assert_eq!(subject.parked_by("a").await, Some(ParkedBy::Held));
    assert_eq!(subject.claimable().await, ["1", "2", "3"]);
}

async fn an_operator_who_unparks_does_not_pass_a_dead_letter_that_came_meanwhile<S: InboxStorage>(
    subject: &Subject<S>,
) {
    let unpark = async || subject.admin().unpark(&subject.consumer, &key("a")).await.expect("unpark");
    subject.admin().park(&subject.consumer, &key("a")).await.expect("park");
    subject.put_aside(&[aside("1", Some("a"), dead(REASON, true)), aside("2", Some("a"), Fate::Waiting)]).await;
    assert!(unpark().await);
    assert_eq!(subject.parked_by("a").await, Some(ParkedBy::DeadLetter));
    assert!(!unpark().await, "no operator parks it any more");
    assert!(subject.claimable().await.is_empty());
    replay_first(subject).await;
    assert_eq!(subject.claimable().await, ["1", "2"]);
}

async fn what_follows_passes_a_dead_letter_when_an_operator_says_so<S: InboxStorage>(subject: &Subject<S>) {
    let pass = async |seq| subject.admin().pass(&subject.consumer, seq).await.expect("pass");
    let parking = ["1", "2"].map(|id| aside(id, Some("a"), dead(REASON, true)));
    subject.put_aside(&parking).await;
    subject.put_aside(&[aside("3", Some("a"), Fate::Waiting), aside("4", Some("b"), dead(REASON, true))]).await;
    subject.put_aside(&[aside("5", Some("c"), dead(REASON, false)), aside("6", None, dead(REASON, true))]).await;
    let letters: Vec<i64> = subject.dead_letters().await.iter().map(|letter| letter.seq).collect();
    let [one, other, b, parks_none, keyless] = letters[..] else { panic!("{letters:?}") };
    assert!(pass(one).await);
    assert!(subject.claimable().await.is_empty(), "it passes another dead letter");
    assert!(!pass(one).await, "it parks its key no more");
    assert!(pass(other).await && pass(b).await);
    assert_eq!(subject.claimable().await, ["3"]);
    assert!(!subject.is_parked("b").await, "nothing of it is held");
    assert!(!pass(parks_none).await && !pass(keyless).await && !pass(keyless + 1).await);
    assert_eq!(subject.dead_letters().await.len(), letters.len(), "they stay");
}

async fn passing_a_dead_letter_leaves_a_key_alone_that_an_operator_parked<S: InboxStorage>(subject: &Subject<S>) {
    subject.put_aside(&[aside("1", Some("a"), dead(REASON, true))]).await;
    subject.admin().park(&subject.consumer, &key("a")).await.expect("park");
    let seq = subject.dead_letters().await[0].seq;
    assert!(subject.admin().pass(&subject.consumer, seq).await.expect("pass"));
    assert_eq!(subject.parked_by("a").await, Some(ParkedBy::Operator));
    assert!(subject.admin().unpark(&subject.consumer, &key("a")).await.expect("unpark"));
    assert!(!subject.is_parked("a").await);
}

async fn replaying_and_discarding_what_is_not_there_is_false<S: InboxStorage>(subject: &Subject<S>) {
    subject.put_aside(&[aside("1", None, dead(REASON, false))]).await;
    let seq = subject.dead_letters().await[0].seq;
    for (consumer, seq) in [(consumer("shipping"), seq), (subject.consumer.clone(), seq + 1)] {
        assert!(!subject.admin().replay(&consumer, seq).await.expect("replay"));
        assert!(!subject.admin().discard(&consumer, seq).await.expect("discard"));
    }
    assert!(subject.admin().discard(&subject.consumer, seq).await.expect("discard"));
    assert!(!subject.admin().discard(&subject.consumer, seq).await.expect("discard"));
}

async fn dead_letters_are_listed_a_page_at_a_time_for_each_consumer<S: InboxStorage>(subject: &Subject<S>) {
    let letters: Vec<_> = (0..7).map(|n| aside(&format!("{n}"), None, dead(REASON, false))).collect();
    subject.put_aside(&letters).await;
    let (mut seen, mut after) = (Vec::new(), 0);
    loop {
        let page = subject.admin().dead_letters(&subject.consumer, after, 3).await.expect("dead_letters");
        assert!(page.len() <= 3);
        let Some(last) = page.last() else { break };
        after = last.seq;
        seen.extend(page.iter().filter_map(|letter| Some(letter.identity.as_ref()?.id().to_owned())));
    }
    assert_eq!(seen, (0..7).map(|n| n.to_string()).collect::<Vec<_>>());
    assert!(subject.admin().dead_letters(&consumer("shipping"), 0, 10).await.expect("dead_letters").is_empty());
}

async fn replay_first<S: InboxStorage>(subject: &Subject<S>) {
    let seq = subject.dead_letters().await[0].seq;
    assert!(subject.admin().replay(&subject.consumer, seq).await.expect("replay"));
}

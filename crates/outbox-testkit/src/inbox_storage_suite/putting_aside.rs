//! Messages that the database keeps.

use std::time::Duration;

use outbox_core::inbox::{Fate, InboxDeadReason, InboxStorage, ParkedBy};

use super::cases;
use super::subject::{LONG, Subject, aside, dead, failed, incoming, key};
use crate::case::{Case, eventually};

pub(super) fn cases<S: InboxStorage>() -> Vec<Case<Subject<S>>> {
    cases![
        holding_a_message_parks_its_key,
        a_message_without_a_key_parks_nothing,
        a_received_message_can_be_claimed_at_once,
        a_failed_message_is_due_after_its_delay_and_holds_its_followers,
        held_messages_keep_their_order_over_transactions,
        a_dead_letter_parks_its_key_only_when_asked_to,
        a_dead_letter_without_an_identity_is_kept,
        a_stronger_reason_to_park_stays,
        the_backlog_says_how_much_is_held_and_when_it_is_due,
    ]
}

async fn holding_a_message_parks_its_key<S: InboxStorage>(subject: &Subject<S>) {
    subject.put_aside(&[aside("1", Some("a"), Fate::Received), aside("2", Some("b"), failed(LONG))]).await;
    assert!(subject.is_parked("a").await && subject.is_parked("b").await);
    let keys = subject.admin().parked_keys(&subject.consumer, None, 10).await.expect("parked_keys");
    assert!(keys.iter().all(|parked| parked.by == ParkedBy::Held), "{keys:?}");
}

async fn a_message_without_a_key_parks_nothing<S: InboxStorage>(subject: &Subject<S>) {
    subject.put_aside(&[aside("1", None, failed(LONG)), aside("2", None, Fate::Received)]).await;
    assert!(subject.admin().parked_keys(&subject.consumer, None, 10).await.expect("parked_keys").is_empty());
    assert_eq!(subject.claimable().await, ["2"]);
}

async fn a_received_message_can_be_claimed_at_once<S: InboxStorage>(subject: &Subject<S>) {
    subject.put_aside(&[aside("1", Some("a"), Fate::Received), aside("2", None, Fate::Received)]).await;
    assert_eq!(subject.claimable().await, ["1", "2"]);
}

async fn a_failed_message_is_due_after_its_delay_and_holds_its_followers<S: InboxStorage>(subject: &Subject<S>) {
    let soon = Duration::from_millis(400);
    subject.put_aside(&[aside("1", Some("a"), failed(soon)), aside("2", Some("a"), Fate::Waiting)]).await;
    subject.put_aside(&[aside("3", Some("b"), failed(LONG)), aside("4", Some("b"), Fate::Waiting)]).await;
    assert!(subject.claimable().await.is_empty(), "too early");
    let claimed = eventually("the failed message is due", || async {
        let ids = subject.claimable().await;
        (!ids.is_empty()).then_some(ids)
    })
    .await;
    assert_eq!(claimed[0], "1");
    assert!(claimed.len() == 1 || claimed == ["1", "2"], "a follower overtook: {claimed:?}");
}

async fn held_messages_keep_their_order_over_transactions<S: InboxStorage>(subject: &Subject<S>) {
    let names: Vec<String> = (0..30).map(|n| format!("{n:02}")).collect();
    for pair in names.chunks(3) {
        let messages: Vec<_> = pair.iter().map(|id| aside(id, Some("a"), Fate::Waiting)).collect();
        subject.put_aside(&messages).await;
    }
    let mut order = Vec::new();
    while order.len() < names.len() {
        let (claim, messages) = subject.claim(4).await;
        assert!(!messages.is_empty(), "nothing can be claimed after {order:?}");
        super::completing::complete(subject, claim, &messages).await;
        order.extend(messages.iter().map(super::subject::id_of));
        subject.held().release(&subject.consumer, claim, &[key("a")]).await.expect("release");
    }
    assert_eq!(order, names);
    assert!(!subject.is_parked("a").await);
}

async fn a_dead_letter_parks_its_key_only_when_asked_to<S: InboxStorage>(subject: &Subject<S>) {
    let reason = InboxDeadReason::Undecodable;
    subject.put_aside(&[aside("1", Some("a"), dead(reason, false)), aside("2", Some("b"), dead(reason, true))]).await;
    subject.put_aside(&[aside("3", None, dead(reason, true))]).await;
    assert!(!subject.is_parked("a").await && subject.is_parked("b").await);
    let letters = subject.dead_letters().await;
    assert_eq!(letters.iter().map(|letter| letter.reason.as_str()).collect::<Vec<_>>(), ["undecodable"; 3]);
    assert_eq!(letters[0].attempts, 3);
    subject.put_aside(&[aside("4", Some("b"), Fate::Waiting)]).await;
    assert!(subject.claimable().await.is_empty(), "a dead letter holds this key");
}

async fn a_dead_letter_without_an_identity_is_kept<S: InboxStorage>(subject: &Subject<S>) {
    let mut letter = aside("?", Some("a"), dead(InboxDeadReason::NoId, false));
    letter.identity = None;
    subject.put_aside(&[letter.clone(), letter]).await;
    let letters = subject.dead_letters().await;
    assert_eq!(letters.len(), 2);
    assert_eq!((letters[0].identity.clone(), letters[0].incoming.clone()), (None, incoming("?")));
    assert_eq!(letters[0].reason, "no_id");
}

async fn a_stronger_reason_to_park_stays<S: InboxStorage>(subject: &Subject<S>) {
    subject.admin().park(&subject.consumer, &key("a")).await.expect("park");
    subject.put_aside(&[aside("1", Some("a"), Fate::Waiting)]).await;
    subject.put_aside(&[aside("2", Some("a"), dead(InboxDeadReason::Undecodable, true))]).await;
    let keys = subject.admin().parked_keys(&subject.consumer, None, 10).await.expect("parked_keys");
    assert_eq!(keys.iter().map(|parked| parked.by).collect::<Vec<_>>(), [ParkedBy::Operator]);
    assert!(subject.claimable().await.is_empty());
}

async fn the_backlog_says_how_much_is_held_and_when_it_is_due<S: InboxStorage>(subject: &Subject<S>) {
    let backlog = async || subject.held().backlog(&subject.consumer).await.expect("backlog");
    assert_eq!(backlog().await, Default::default());
    subject.put_aside(&[aside("1", Some("a"), failed(LONG)), aside("2", Some("a"), Fate::Waiting)]).await;
    subject.put_aside(&[aside("3", None, dead(InboxDeadReason::NoId, false))]).await;
    let now = backlog().await;
    assert_eq!((now.held, now.parked_keys, now.dead_letters), (2, 1, 1));
    let due = now.next_due.expect("the head is due some time");
    assert!(due <= LONG && due > LONG / 2, "{due:?}");
    subject.put_aside(&[aside("4", Some("b"), Fate::Received)]).await;
    assert_eq!(backlog().await.next_due, Some(Duration::ZERO));
    let (_, claimed) = subject.claim(10).await;
    assert_eq!(claimed.len(), 1);
    assert!(backlog().await.next_due.expect("the claim runs out, the head is due") > LONG / 2, "it is claimed");
}

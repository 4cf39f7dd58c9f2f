//! Parked keys: who may go on.

use std::time::Duration;

use outbox_core::inbox::{Committed, Fate, InboxStorage, InboxTransaction, OrderingKey, ParkedBy};
use tokio::time::timeout;

use super::cases;
use super::completing::complete;
use super::subject::{Subject, aside, candidate, key};
use crate::case::Case;

pub(super) fn cases<S: InboxStorage>() -> Vec<Case<Subject<S>>> {
    cases![
        a_key_is_unparked_when_nothing_of_it_is_held,
        a_key_with_a_held_follower_stays_parked,
        an_operator_parks_and_unparks_a_key_once,
        what_is_held_of_an_operator_s_key_waits_and_goes_first,
        what_is_held_is_not_unparked_by_hand,
        a_release_leaves_keys_alone_that_others_parked,
        keys_compare_by_their_bytes,
        parked_keys_are_listed_a_page_at_a_time,
    ]
}

pub(super) fn cases_of_two<S: InboxStorage>() -> Vec<Case<Subject<S>>> {
    cases![a_release_waits_for_a_follower_that_is_being_held]
}

async fn a_key_is_unparked_when_nothing_of_it_is_held<S: InboxStorage>(subject: &Subject<S>) {
    subject.put_aside(&[aside("1", Some("a"), Fate::Waiting), aside("2", Some("b"), Fate::Waiting)]).await;
    let (claim, claimed) = subject.claim(10).await;
    complete(subject, claim, &claimed).await;
    subject.held().release(&subject.consumer, claim, &[key("a")]).await.expect("release");
    assert!(!subject.is_parked("a").await);
    assert!(subject.is_parked("b").await, "it was not named");
    // a key that was left over heals with its next message
    subject.put_aside(&[aside("3", Some("b"), Fate::Waiting)]).await;
    let (claim, claimed) = subject.claim(10).await;
    complete(subject, claim, &claimed).await;
    subject.held().release(&subject.consumer, claim, &[key("b"), key("never parked")]).await.expect("release");
    assert!(!subject.is_parked("b").await);
}

async fn a_key_with_a_held_follower_stays_parked<S: InboxStorage>(subject: &Subject<S>) {
    subject.put_aside(&[aside("1", Some("a"), Fate::Waiting)]).await;
    let (claim, claimed) = subject.claim(10).await;
    subject.put_aside(&[aside("2", Some("a"), Fate::Waiting)]).await;
    complete(subject, claim, &claimed).await;
    subject.held().release(&subject.consumer, claim, &[key("a")]).await.expect("release");
    assert!(subject.is_parked("a").await);
    assert_eq!(subject.claimable().await, ["2"]);
}

async fn an_operator_parks_and_unparks_a_key_once<S: InboxStorage>(subject: &Subject<S>) {
    let (admin, consumer) = (subject.admin(), &subject.consumer);
    assert!(!admin.unpark(consumer, &key("a")).await.expect("unpark"));
    assert!(admin.park(consumer, &key("a")).await.expect("park"));
    assert!(!admin.park(consumer, &key("a")).await.expect("park"));
    assert!(subject.is_parked("a").await);
    assert!(admin.unpark(consumer, &key("a")).await.expect("unpark"));
    assert!(!admin.unpark(consumer, &key("a")).await.expect("unpark"));
    assert!(!subject.is_parked("a").await);
}

async fn what_is_held_of_an_operator_s_key_waits_and_goes_first<S: InboxStorage>(subject: &Subject<S>) {
    subject.admin().park(&subject.consumer, &key("a")).await.expect("park");
    subject.put_aside(&[aside("1", Some("a"), Fate::Waiting)]).await;
    assert!(subject.claimable().await.is_empty());
    assert_eq!(subject.held().backlog(&subject.consumer).await.expect("backlog").next_due, None);
    assert!(subject.admin().unpark(&subject.consumer, &key("a")).await.expect("unpark"));
    assert!(subject.is_parked("a").await, "a later message would overtake the held one");
    assert_eq!(subject.claimable().await, ["1"]);
}

async fn what_is_held_is_not_unparked_by_hand<S: InboxStorage>(subject: &Subject<S>) {
    subject.put_aside(&[aside("1", Some("a"), Fate::Waiting)]).await;
    assert!(!subject.admin().unpark(&subject.consumer, &key("a")).await.expect("unpark"));
    assert!(subject.is_parked("a").await, "a later message would overtake the held one");
}

async fn a_release_leaves_keys_alone_that_others_parked<S: InboxStorage>(subject: &Subject<S>) {
    subject.put_aside(&[aside("1", Some("a"), Fate::Waiting)]).await;
    let (claim, claimed) = subject.claim(10).await;
    subject.admin().park(&subject.consumer, &key("a")).await.expect("park");
    complete(subject, claim, &claimed).await; // what is being processed goes on
    subject.held().release(&subject.consumer, claim, &[key("a")]).await.expect("release");
    let keys = subject.admin().parked_keys(&subject.consumer, None, 10).await.expect("parked_keys");
    assert_eq!(keys.iter().map(|parked| parked.by).collect::<Vec<_>>(), [ParkedBy::Operator]);
}

async fn keys_compare_by_their_bytes<S: InboxStorage>(subject: &Subject<S>) {
    let names = ["a", "A", "a ", " a", "é", "e\u{301}", "'); drop table --"];
    let mut keys: Vec<_> = names.iter().map(|name| key(name)).collect();
    keys.push(OrderingKey::of("order", b"\xff\x00\xfe"));
    keys.push(OrderingKey::of("order", &[b'x'; 1_000]));
    for one in &keys {
        assert!(subject.admin().park(&subject.consumer, one).await.expect("park"), "{one:?} equals another key");
    }
    let listed = subject.admin().parked_keys(&subject.consumer, None, 100).await.expect("parked_keys");
    keys.sort();
    assert_eq!(listed.into_iter().map(|parked| parked.key).collect::<Vec<_>>(), keys);
}

async fn parked_keys_are_listed_a_page_at_a_time<S: InboxStorage>(subject: &Subject<S>) {
    for n in 0..7 {
        subject.admin().park(&subject.consumer, &key(&format!("{n}"))).await.expect("park");
    }
    let mut seen: Vec<OrderingKey> = Vec::new();
    loop {
        let page = subject.admin().parked_keys(&subject.consumer, seen.last(), 3).await.expect("parked_keys");
        assert!(page.len() <= 3);
        if page.is_empty() {
            break;
        }
        seen.extend(page.into_iter().map(|parked| parked.key));
    }
    assert_eq!(seen, (0..7).map(|n| key(&format!("{n}"))).collect::<Vec<_>>());
}

async fn a_release_waits_for_a_follower_that_is_being_held<S: InboxStorage>(subject: &Subject<S>) {
    subject.put_aside(&[aside("1", Some("a"), Fate::Waiting)]).await;
    let (claim, claimed) = subject.claim(10).await;
    let mut follower = subject.begin().await;
    assert!(follower.admit(&[candidate("2", Some("a"))]).await.expect("admit").parked.contains(&key("a")));
    complete(subject, claim, &claimed).await;
    let keys = [key("a")];
    let release = subject.held().release(&subject.consumer, claim, &keys);
    tokio::pin!(release);
    assert!(timeout(Duration::from_millis(200), &mut release).await.is_err(), "it did not wait");
    follower.put_aside(&[aside("2", Some("a"), Fate::Waiting)]).await.expect("put_aside");
    assert_eq!(follower.commit().await.expect("commit"), Committed::Done);
    release.await.expect("release");
    assert!(subject.is_parked("a").await, "the key was unparked over a follower");
    assert_eq!(subject.claimable().await, ["2"]);
}

//! Who lives and wants shards: what a fair share is counted from.

use std::time::Duration;

use outbox_core::ports::RelayId;

use super::leases::past;
use super::subject::{LONG, Subject, relay};
use crate::case::{Case, cases};

pub(super) const CASES: &[Case<Subject>] = cases![Subject:
    a_relay_that_wants_shards_counts_itself,
    relays_of_one_name_are_counted_apart,
    a_relay_that_wants_no_shards_is_not_counted,
    a_relay_that_resigned_is_not_counted,
    a_relay_that_stays_silent_for_a_lease_is_not_counted,
    a_relay_that_wants_no_shards_keeps_what_it_holds,
];

async fn a_relay_that_wants_shards_counts_itself(subject: &Subject) {
    let one = relay("a");
    for _ in 0..3 {
        assert_eq!(count(subject, &one, true).await, 1);
    }
}

async fn relays_of_one_name_are_counted_apart(subject: &Subject) {
    for n in 1..=3 {
        assert_eq!(count(subject, &relay("same name"), true).await, n);
    }
}

async fn a_relay_that_wants_no_shards_is_not_counted(subject: &Subject) {
    let (one, other) = (relay("a"), relay("b"));
    assert_eq!(count(subject, &one, true).await, 1);
    assert_eq!(count(subject, &other, false).await, 1);
    assert_eq!(count(subject, &other, true).await, 2);
    assert_eq!(count(subject, &one, false).await, 1);
    assert_eq!(count(subject, &other, false).await, 0);
}

async fn a_relay_that_resigned_is_not_counted(subject: &Subject) {
    let (one, other) = (relay("a"), relay("b"));
    count(subject, &one, true).await;
    assert_eq!(count(subject, &other, true).await, 2);
    subject.leases().resign(&one).await.expect("resign");
    assert_eq!(count(subject, &other, true).await, 1);
}

async fn a_relay_that_stays_silent_for_a_lease_is_not_counted(subject: &Subject) {
    let (one, other) = (relay("a"), relay("b"));
    let lease = Duration::from_millis(300);
    subject.leases().heartbeat(&one, lease, true).await.expect("heartbeat");
    past(subject, lease).await;
    let beat = subject.leases().heartbeat(&other, lease, true).await.expect("heartbeat");
    assert_eq!(beat.accepting_relays, 1);
}

async fn a_relay_that_wants_no_shards_keeps_what_it_holds(subject: &Subject) {
    let owner = subject.owner().await;
    let beat = subject.leases().heartbeat(&owner.relay, LONG, false).await.expect("heartbeat");
    assert_eq!(beat.held.len(), usize::from(subject.shards));
}

async fn count(subject: &Subject, relay: &RelayId, accepting: bool) -> usize {
    subject.leases().heartbeat(relay, LONG, accepting).await.expect("heartbeat").accepting_relays
}

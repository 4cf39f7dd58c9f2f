//! Ownership of shards, by the database's clock.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use outbox_core::ports::{Lease, RelayId, ShardId};
use tokio::time::Instant;

use super::subject::{LONG, Subject, relay};
use crate::case::{Case, Patience, cases};

pub(super) const CASES: &[Case<Subject>] = cases![Subject:
    all_shards_can_be_acquired,
    an_acquired_shard_has_one_owner,
    acquiring_takes_no_more_than_the_limit,
    relays_that_acquire_at_once_share_without_overlap,
    every_change_of_owner_has_the_next_epoch,
    a_heartbeat_keeps_the_epoch,
    a_heartbeat_returns_what_is_held,
    a_heartbeat_prolongs_the_leases,
    a_lease_expires_and_not_before_its_time,
    an_expired_lease_is_not_revived_by_a_heartbeat,
    a_lease_that_another_took_is_not_told_to_its_old_owner,
    a_relay_takes_its_own_expired_lease_with_a_new_epoch,
    a_released_shard_can_be_taken_at_once,
    a_release_matches_owner_and_epoch,
    a_relay_that_resigned_holds_nothing,
];

/// A lease that a case waits for.
const SHORT: Duration = Duration::from_millis(300);
/// The database's unit of time, and how differently its clock may run within a case.
const CLOCK_UNIT: Duration = Duration::from_millis(10);

async fn all_shards_can_be_acquired(subject: &Subject) {
    let owner = subject.owner().await;
    assert_eq!(owner.leases.keys().copied().collect::<Vec<_>>(), subject.all_shards());
}

async fn an_acquired_shard_has_one_owner(subject: &Subject) {
    let owner = subject.owner().await;
    assert!(acquire(subject, &relay("b"), LONG).await.is_empty(), "a second owner");
    assert!(acquire(subject, &owner.relay, LONG).await.is_empty(), "it was acquired by its owner again");
}

async fn acquiring_takes_no_more_than_the_limit(subject: &Subject) {
    let one = relay("a");
    assert!(subject.leases().acquire(&one, LONG, 0).await.expect("acquire").is_empty());
    assert_eq!(subject.leases().acquire(&one, LONG, 1).await.expect("acquire").len(), 1);
    let held = subject.leases().heartbeat(&one, LONG, true).await.expect("heartbeat").held;
    assert_eq!(held.len(), 1);
}

async fn relays_that_acquire_at_once_share_without_overlap(subject: &Subject) {
    let relays: Vec<_> = (0..4).map(|_| relay("same name")).collect();
    let patience = Patience::new();
    let mut taken = Vec::new();
    while taken.len() < usize::from(subject.shards) {
        let attempts = relays.iter().map(|relay| acquire(subject, relay, LONG));
        taken.extend(join_all(attempts).await.into_iter().flatten().map(|lease| lease.shard));
        patience.wait(|| format!("{} of {} shards acquired", taken.len(), subject.shards)).await;
    }
    assert_eq!(taken.len(), usize::from(subject.shards), "a shard has two owners");
    assert_eq!(taken.into_iter().collect::<BTreeSet<_>>().len(), usize::from(subject.shards));
}

async fn every_change_of_owner_has_the_next_epoch(subject: &Subject) {
    let mut last = subject.owner().await;
    for _ in 0..3 {
        subject.leases().resign(&last.relay).await.expect("resign");
        let next = subject.owner().await;
        for (shard, lease) in &next.leases {
            assert_eq!(lease.epoch, last.leases[shard].epoch + 1, "{shard:?}");
        }
        last = next;
    }
}

async fn a_heartbeat_keeps_the_epoch(subject: &Subject) {
    let owner = subject.owner().await;
    for _ in 0..3 {
        let held = subject.leases().heartbeat(&owner.relay, LONG, true).await.expect("heartbeat").held;
        assert!(held.iter().all(|lease| lease.epoch == owner.leases[&lease.shard].epoch));
    }
}

async fn a_heartbeat_returns_what_is_held(subject: &Subject) {
    let owner = subject.owner().await;
    assert_eq!(held(subject, &owner.relay).await, subject.all_shards());
    assert!(held(subject, &relay("b")).await.is_empty());
    assert_eq!(held(subject, &owner.relay).await, subject.all_shards());
}

async fn a_heartbeat_prolongs_the_leases(subject: &Subject) {
    let (one, other) = (relay("a"), relay("b"));
    let lease = SHORT * 10; // long against any hiccup of the machine
    acquire_all(subject, &one, lease).await;
    let start = Instant::now();
    while start.elapsed() < lease + SHORT * 3 {
        let beat = subject.leases().heartbeat(&one, lease, true).await.expect("heartbeat");
        assert_eq!(beat.held.len(), usize::from(subject.shards), "a lease was lost after {:?}", start.elapsed());
        assert!(acquire(subject, &other, lease).await.is_empty(), "taken after {:?}", start.elapsed());
        tokio::time::sleep(SHORT / 4).await;
    }
}

async fn a_lease_expires_and_not_before_its_time(subject: &Subject) {
    let (one, other) = (relay("a"), relay("b"));
    let start = Instant::now();
    acquire_all(subject, &one, SHORT).await;
    acquire_all(subject, &other, LONG).await;
    assert!(start.elapsed() + CLOCK_UNIT >= SHORT, "taken after {:?}", start.elapsed());
}

async fn an_expired_lease_is_not_revived_by_a_heartbeat(subject: &Subject) {
    let one = relay("a");
    acquire_all(subject, &one, SHORT).await;
    past(subject, SHORT).await;
    assert!(held(subject, &one).await.is_empty(), "an expired lease was prolonged");
    assert!(held(subject, &one).await.is_empty(), "an expired lease was prolonged");
    acquire_all(subject, &relay("b"), LONG).await;
}

async fn a_lease_that_another_took_is_not_told_to_its_old_owner(subject: &Subject) {
    let (one, other) = (relay("a"), relay("b"));
    acquire_all(subject, &one, SHORT).await;
    acquire_all(subject, &other, LONG).await;
    assert!(held(subject, &one).await.is_empty());
    subject.leases().resign(&one).await.expect("resign");
    assert_eq!(held(subject, &other).await, subject.all_shards(), "the old owner gave another's shards back");
}

async fn a_relay_takes_its_own_expired_lease_with_a_new_epoch(subject: &Subject) {
    let one = relay("a");
    let first = acquire_all(subject, &one, SHORT).await;
    let second = acquire_all(subject, &one, LONG).await;
    for (old, new) in first.iter().zip(&second) {
        assert_eq!((new.shard, new.epoch), (old.shard, old.epoch + 1));
    }
}

async fn a_released_shard_can_be_taken_at_once(subject: &Subject) {
    let owner = subject.owner().await;
    let shard = ShardId(subject.shards - 1);
    subject.leases().release(&owner.relay, &[owner.leases[&shard]]).await.expect("release");
    let expected: Vec<_> = subject.all_shards().into_iter().filter(|other| *other != shard).collect();
    assert_eq!(held(subject, &owner.relay).await, expected);
    let taken = acquire(subject, &relay("b"), LONG).await;
    assert_eq!(taken.iter().map(|lease| lease.shard).collect::<Vec<_>>(), [shard]);
    subject.leases().release(&owner.relay, &[owner.leases[&shard]]).await.expect("releasing again is no error");
    subject.leases().release(&owner.relay, &[]).await.expect("releasing nothing is no error");
    assert!(acquire(subject, &relay("c"), LONG).await.is_empty(), "it was taken from its new owner");
}

async fn a_release_matches_owner_and_epoch(subject: &Subject) {
    let owner = subject.owner().await;
    let leases: Vec<_> = owner.leases.values().copied().collect();
    let older: Vec<_> = leases.iter().map(|lease| Lease { epoch: lease.epoch - 1, ..*lease }).collect();
    subject.leases().release(&owner.relay, &older).await.expect("release");
    subject.leases().release(&relay("b"), &leases).await.expect("release");
    assert_eq!(held(subject, &owner.relay).await, subject.all_shards());
}

async fn a_relay_that_resigned_holds_nothing(subject: &Subject) {
    let owner = subject.owner().await;
    subject.leases().resign(&owner.relay).await.expect("resign");
    subject.leases().resign(&owner.relay).await.expect("resigning again is no error");
    assert!(held(subject, &owner.relay).await.is_empty());
    assert_eq!(acquire_all(subject, &relay("b"), LONG).await.len(), usize::from(subject.shards));
}

async fn acquire(subject: &Subject, relay: &RelayId, lease: Duration) -> Vec<Lease> {
    subject.leases().acquire(relay, lease, usize::from(subject.shards)).await.expect("acquire")
}

/// Acquires until every shard was acquired once; by shard.
async fn acquire_all(subject: &Subject, relay: &RelayId, lease: Duration) -> Vec<Lease> {
    let patience = Patience::new();
    let mut taken: Vec<Lease> = Vec::new();
    loop {
        taken.extend(acquire(subject, relay, lease).await);
        if taken.len() == usize::from(subject.shards) {
            taken.sort_by_key(|lease| lease.shard);
            return taken;
        }
        patience.wait(|| format!("{} of {} shards acquired", taken.len(), subject.shards)).await;
    }
}

async fn held(subject: &Subject, relay: &RelayId) -> Vec<ShardId> {
    let held = subject.leases().heartbeat(relay, LONG, true).await.expect("heartbeat").held;
    let mut shards: Vec<_> = held.into_iter().map(|lease| lease.shard).collect();
    shards.sort_unstable();
    shards
}

/// Waits until the database's clock has gone on by more than this.
pub(super) async fn past(subject: &Subject, duration: Duration) {
    let until = subject.now().await + duration;
    let patience = Patience::new();
    while subject.now().await <= until {
        patience.wait(|| format!("the database's clock goes on by {duration:?}")).await;
    }
}

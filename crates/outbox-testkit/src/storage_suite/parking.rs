//! Parked keys and how owners learn of what operators do.

use outbox_core::message::LaneKey;
use outbox_core::ports::{Burial, ParkedKey, ShardId};

use super::burying::{burial, bury, parked};
use super::subject::{LONG, Owner, Subject, keyed, run_of};
use crate::case::{Case, cases};

pub(super) const CASES: &[Case<Subject>] = cases![Subject:
    a_key_is_parked_once_and_unparked_once,
    a_key_can_be_parked_in_the_shard_of_its_messages,
    keys_compare_by_their_bytes,
    parked_keys_are_told_for_the_shards_asked_for,
    parking_and_unparking_bump_the_control_version,
    replaying_and_discarding_bump_the_control_version,
    a_key_that_one_dead_letter_parked_waits_for_that_one,
    a_control_version_outlives_its_owner,
    messages_of_a_parked_key_stay_pending,
];

async fn a_key_is_parked_once_and_unparked_once(subject: &Subject) {
    assert!(!subject.admin().unpark("order", "a").await.expect("unpark"));
    assert!(subject.admin().park("order", "a").await.expect("park"));
    assert!(!subject.admin().park("order", "a").await.expect("park"));
    assert_eq!(parked(subject).await.len(), 1);
    assert!(subject.admin().unpark("order", "a").await.expect("unpark"));
    assert!(!subject.admin().unpark("order", "a").await.expect("unpark"));
    assert!(parked(subject).await.is_empty());
}

async fn a_key_can_be_parked_in_the_shard_of_its_messages(subject: &Subject) {
    for key in ["a", "ключ 🚀", "'); drop table --", "\u{1f}"] {
        let read = subject.commit_and_read(&run_of(key, 1)).await.remove(0);
        assert!(subject.admin().park("order", key).await.expect("park"));
        let expected = ParkedKey { shard: read.shard, lane: LaneKey::of("order", key) };
        assert!(parked(subject).await.contains(&expected), "{key:?} is not parked in the shard of its messages");
    }
}

async fn keys_compare_by_their_bytes(subject: &Subject) {
    let keys = [("order", "a"), ("order", "A"), ("order", "a "), ("Order", "a"), ("order", "é"), ("order", "e\u{301}")];
    for (kind, key) in keys {
        assert!(subject.admin().park(kind, key).await.expect("park"), "({kind:?}, {key:?}) equals another key");
    }
    assert_eq!(parked(subject).await.len(), keys.len());
    for (kind, key) in keys {
        assert!(subject.admin().unpark(kind, key).await.expect("unpark"));
    }
}

async fn parked_keys_are_told_for_the_shards_asked_for(subject: &Subject) {
    for n in 0..30 {
        assert!(subject.admin().park("order", &format!("key-{n}")).await.expect("park"));
    }
    let all = parked(subject).await;
    assert_eq!(all.len(), 30);
    for shard in subject.all_shards() {
        let told = subject.settler().parked_keys(&[shard]).await.expect("parked_keys");
        assert_eq!(told.len(), all.iter().filter(|key| key.shard == shard).count());
        assert!(told.iter().all(|key| key.shard == shard));
    }
    assert!(subject.settler().parked_keys(&[]).await.expect("parked_keys").is_empty());
}

async fn parking_and_unparking_bump_the_control_version(subject: &Subject) {
    let read = subject.commit_and_read(&run_of("a", 1)).await.remove(0);
    let owner = subject.owner().await;
    let start = control_version(subject, &owner, read.shard).await;
    assert_eq!(start, owner.leases[&read.shard].control_version);
    subject.admin().park("order", "a").await.expect("park");
    let parked = control_version(subject, &owner, read.shard).await;
    assert!(parked > start, "park did not bump it");
    subject.admin().unpark("order", "a").await.expect("unpark");
    assert!(control_version(subject, &owner, read.shard).await > parked, "unpark did not bump it");
}

async fn replaying_and_discarding_bump_the_control_version(subject: &Subject) {
    let read = subject.commit_and_read(&run_of("a", 2)).await;
    let owner = subject.owner().await;
    bury(subject, &owner, &burial(&read[0])).await;
    bury(subject, &owner, &Burial { park_key: true, ..burial(&read[1]) }).await;
    let start = control_version(subject, &owner, read[0].shard).await;
    subject.admin().replay(read[0].id).await.expect("replay");
    let replayed = control_version(subject, &owner, read[0].shard).await;
    assert!(replayed > start, "replay did not bump it");
    subject.admin().discard(read[1].id).await.expect("discard");
    assert!(control_version(subject, &owner, read[0].shard).await > replayed, "discard did not bump it");
}

async fn a_key_that_one_dead_letter_parked_waits_for_that_one(subject: &Subject) {
    let read = subject.commit_and_read(&run_of("a", 4)).await;
    let owner = subject.owner().await;
    for message in &read[..3] {
        bury(subject, &owner, &Burial { park_key: true, ..burial(message) }).await; // the last two were in flight by then
    }
    let the_key = [ParkedKey { shard: read[0].shard, lane: LaneKey::of("order", "a") }];
    assert!(subject.admin().replay(read[1].id).await.expect("replay"));
    assert_eq!(parked(subject).await, the_key, "replaying a later dead letter lets the key go");
    assert!(subject.admin().discard(read[2].id).await.expect("discard"));
    assert_eq!(parked(subject).await, the_key, "discarding a later dead letter lets the key go");
    assert!(subject.admin().replay(read[0].id).await.expect("replay"));
    assert!(parked(subject).await.is_empty());
    let mut scan = subject.scan().await;
    scan.until_quiet().await;
    assert_eq!(scan.payloads_of("a"), ["0", "1", "3"]);
}

async fn a_control_version_outlives_its_owner(subject: &Subject) {
    let read = subject.commit_and_read(&run_of("a", 1)).await.remove(0);
    let owner = subject.owner().await;
    let start = owner.lease(&read).control_version;
    subject.leases().resign(&owner.relay).await.expect("resign");
    subject.admin().park("order", "a").await.expect("park"); // while nobody owns the shard
    let next = subject.owner().await;
    assert!(next.lease(&read).control_version > start);
}

async fn messages_of_a_parked_key_stay_pending(subject: &Subject) {
    subject.admin().park("order", "a").await.expect("park");
    subject.commit(&run_of("a", 3)).await;
    let free = keyed("b", 0);
    subject.commit(std::slice::from_ref(&free)).await;
    let mut scan = subject.scan().await;
    scan.until_seen(&[free.id]).await;
    assert_eq!(subject.pending().await.len(), 4);
}

async fn control_version(subject: &Subject, owner: &Owner, shard: ShardId) -> i64 {
    let heartbeat = subject.leases().heartbeat(&owner.relay, LONG, true).await.expect("heartbeat");
    let lease = heartbeat.held.iter().find(|lease| lease.shard == shard).expect("the lease is held");
    lease.control_version
}

//! Dead letters: a buried message moves with all it had, and comes back with all it had.

use std::time::Duration;

use outbox_core::message::{LaneKey, Message, NewMessage};
use outbox_core::ports::{Burial, DeadLetter, DeadReason, Fenced, ParkedKey};

use super::appending::numbers;
use super::subject::{EachId, Owner, Subject, keyed, run_of};
use super::waiting::fail;
use crate::case::{Case, cases};

pub(super) const CASES: &[Case<Subject>] = cases![Subject:
    a_buried_message_becomes_a_dead_letter_with_its_reason,
    every_reason_is_kept,
    a_buried_message_is_not_returned_and_its_followers_are,
    burying_again_is_done_and_changes_nothing,
    burying_parks_the_key_when_asked_to,
    burying_a_message_without_a_key_parks_nothing,
    the_error_text_is_cut_at_2000_characters,
    dead_letters_are_listed_by_seq_a_page_at_a_time,
    a_replayed_message_comes_back_as_it_was,
    a_replayed_message_of_a_parked_key_comes_before_its_followers,
    a_replayed_message_that_had_failed_starts_again_with_no_attempts,
    replaying_what_is_no_dead_letter_is_false,
    a_discarded_dead_letter_is_gone_and_its_key_goes_on,
];

async fn a_buried_message_becomes_a_dead_letter_with_its_reason(subject: &Subject) {
    let read = subject.commit_and_read(&run_of("ключ", 1)).await.remove(0);
    let owner = subject.owner().await;
    let before = subject.now().await;
    bury(subject, &owner, &Burial { outcome_unknown: true, ..burial(&read) }).await;
    let letter = dead_letters(subject).await.remove(0);
    assert_eq!(letter.position, read.position());
    assert_eq!(letter.aggregate_type, read.aggregate_type);
    assert_eq!(letter.aggregate_id, read.aggregate_id);
    assert_eq!(letter.event_type, read.event_type);
    assert_eq!(letter.reason, DeadReason::Rejected.as_str());
    assert_eq!(letter.error, "broker said no");
    assert_eq!(letter.attempts, 4);
    assert!(letter.outcome_unknown);
    let tolerance = time::Duration::milliseconds(5);
    assert!(before - tolerance <= letter.died_at && letter.died_at <= subject.now().await + tolerance);
}

async fn every_reason_is_kept(subject: &Subject) {
    let reasons = [DeadReason::AttemptsExhausted, DeadReason::Rejected, DeadReason::TooLarge, DeadReason::Undecodable];
    let read = subject.commit_and_read(&run_of("a", reasons.len())).await;
    let owner = subject.owner().await;
    for (message, reason) in read.iter().zip(reasons) {
        bury(subject, &owner, &Burial { reason, ..burial(message) }).await;
    }
    let letters = dead_letters(subject).await;
    assert!(letters.iter().all(|letter| !letter.outcome_unknown));
    let kept: Vec<_> = letters.into_iter().map(|letter| letter.reason).collect();
    assert_eq!(kept, reasons.map(DeadReason::as_str));
}

async fn a_buried_message_is_not_returned_and_its_followers_are(subject: &Subject) {
    let read = subject.commit_and_read(&run_of("a", 3)).await;
    let owner = subject.owner().await;
    bury(subject, &owner, &burial(&read[0])).await;
    assert_eq!(subject.pending_ids().await, read[1..].each_id());
    let mut scan = subject.scan().await;
    scan.until_quiet().await;
    assert_eq!(scan.payloads_of("a"), ["1", "2"]);
    assert!(parked(subject).await.is_empty());
}

async fn burying_again_is_done_and_changes_nothing(subject: &Subject) {
    let read = subject.commit_and_read(&run_of("a", 2)).await;
    let owner = subject.owner().await;
    for _ in 0..3 {
        bury(subject, &owner, &burial(&read[0])).await;
        assert_eq!(dead_letters(subject).await.len(), 1);
        assert_eq!(subject.pending_ids().await, [read[1].id]);
    }
}

async fn burying_parks_the_key_when_asked_to(subject: &Subject) {
    let read = subject.commit_and_read(&run_of("a", 2)).await;
    let owner = subject.owner().await;
    bury(subject, &owner, &Burial { park_key: true, ..burial(&read[0]) }).await;
    assert_eq!(parked(subject).await, [ParkedKey { shard: read[0].shard, lane: LaneKey::of("order", "a") }]);
    let elsewhere: Vec<_> = subject.all_shards().into_iter().filter(|shard| *shard != read[0].shard).collect();
    assert!(subject.settler().parked_keys(&elsewhere).await.expect("parked_keys").is_empty());
}

async fn burying_a_message_without_a_key_parks_nothing(subject: &Subject) {
    let message = NewMessage::new("order", "order.changed", b"{}".to_vec());
    let read = subject.commit_and_read(std::slice::from_ref(&message)).await.remove(0);
    let owner = subject.owner().await;
    bury(subject, &owner, &Burial { park_key: true, ..burial(&read) }).await;
    assert_eq!(dead_letters(subject).await.len(), 1);
    assert!(parked(subject).await.is_empty());
}

async fn the_error_text_is_cut_at_2000_characters(subject: &Subject) {
    let read = subject.commit_and_read(&run_of("a", 1)).await.remove(0);
    let owner = subject.owner().await;
    let error = "é🚀".repeat(20_000);
    bury(subject, &owner, &Burial { error: error.clone(), ..burial(&read) }).await;
    let kept = dead_letters(subject).await.remove(0).error;
    assert!(error.starts_with(&kept) && (1..=2_000).contains(&kept.chars().count()), "{} characters", kept.len());
}

async fn dead_letters_are_listed_by_seq_a_page_at_a_time(subject: &Subject) {
    let messages: Vec<_> = (0..7).map(|n| keyed(&format!("key-{n}"), n)).collect();
    let mut read = subject.commit_and_read(&messages).await;
    let owner = subject.owner().await;
    for message in read.iter().rev() {
        bury(subject, &owner, &burial(message)).await;
    }
    read.sort_by_key(|message| message.seq);
    let (mut listed, mut after_seq) = (Vec::new(), 0);
    loop {
        let page = subject.admin().dead_letters(after_seq, 3).await.expect("dead_letters");
        assert!(page.len() <= 3);
        let Some(last) = page.last() else { break };
        assert!(page.iter().all(|letter| letter.position.seq > after_seq), "a page starts before `after_seq`");
        after_seq = last.position.seq;
        listed.extend(page.iter().map(|letter| letter.position.id));
    }
    assert_eq!(listed, read.each_id());
}

async fn a_replayed_message_comes_back_as_it_was(subject: &Subject) {
    let sent = keyed("a", 0).header("note", "Grüße").content_type("text/plain");
    let sent = NewMessage { payload: (0..=255).collect::<Vec<u8>>().into(), ..sent };
    let read = subject.commit_and_read(std::slice::from_ref(&sent)).await.remove(0);
    let owner = subject.owner().await;
    bury(subject, &owner, &burial(&read)).await;
    assert!(subject.admin().replay(read.id).await.expect("replay"));
    assert!(dead_letters(subject).await.is_empty());
    let mut scan = subject.scan().await;
    scan.until_seen(&[read.id]).await;
    assert_eq!(scan.seen[0].headers.to_map(), read.headers.to_map());
    assert!(Message { headers: read.headers.clone(), ..scan.seen[0].clone() } == read, "a field changed");
}

async fn a_replayed_message_of_a_parked_key_comes_before_its_followers(subject: &Subject) {
    let read = subject.commit_and_read(&run_of("a", 2)).await;
    let owner = subject.owner().await;
    let mut scan = subject.scan().await;
    scan.until_quiet().await;
    bury(subject, &owner, &Burial { park_key: true, ..burial(&read[0]) }).await;
    subject.commit(&[keyed("a", 2)]).await;
    assert!(subject.admin().replay(read[0].id).await.expect("replay"));
    assert!(parked(subject).await.is_empty(), "the key is still parked");
    scan.forget();
    scan.rewind(read[0].shard, 0); // what the relay does when the control version has grown
    scan.until_quiet().await;
    assert_eq!(scan.payloads_of("a"), numbers(3));
    assert_eq!(subject.pending().await[0].seq, read[0].seq);
}

async fn a_replayed_message_that_had_failed_starts_again_with_no_attempts(subject: &Subject) {
    let read = subject.commit_and_read(&run_of("a", 1)).await.remove(0);
    let owner = subject.owner().await;
    fail(subject, &owner, &read, 3, Duration::from_secs(300)).await;
    bury(subject, &owner, &burial(&read)).await;
    assert!(subject.admin().replay(read.id).await.expect("replay"));
    let mut scan = subject.scan().await;
    scan.until_seen(&[read.id]).await; // it does not wait for the time of its last failure
    assert_eq!(scan.seen[0].attempts, 0);
}

async fn replaying_what_is_no_dead_letter_is_false(subject: &Subject) {
    let read = subject.commit_and_read(&run_of("a", 2)).await;
    let owner = subject.owner().await;
    assert!(!subject.admin().replay(read[0].id).await.expect("replay"));
    assert!(!subject.admin().discard(read[0].id).await.expect("discard"));
    bury(subject, &owner, &burial(&read[0])).await;
    assert!(subject.admin().replay(read[0].id).await.expect("replay"));
    assert!(!subject.admin().replay(read[0].id).await.expect("replay"), "replayed twice");
    assert_eq!(subject.pending_ids().await, read.each_id());
}

async fn a_discarded_dead_letter_is_gone_and_its_key_goes_on(subject: &Subject) {
    let read = subject.commit_and_read(&run_of("a", 2)).await;
    let owner = subject.owner().await;
    bury(subject, &owner, &Burial { park_key: true, ..burial(&read[0]) }).await;
    assert!(subject.admin().discard(read[0].id).await.expect("discard"));
    assert!(!subject.admin().discard(read[0].id).await.expect("discard"));
    assert!(!subject.admin().replay(read[0].id).await.expect("replay"));
    assert!(dead_letters(subject).await.is_empty() && parked(subject).await.is_empty());
    assert_eq!(subject.pending_ids().await, [read[1].id]);
}

pub(super) async fn bury(subject: &Subject, owner: &Owner, burial: &Burial) {
    let lease = &owner.leases[&burial.position.shard];
    assert_eq!(subject.settler().bury(owner.id, lease, burial).await.expect("bury"), Fenced::Done);
}

pub(super) fn burial(message: &Message) -> Burial {
    Burial {
        position: message.position(),
        attempts: 4,
        reason: DeadReason::Rejected,
        error: "broker said no".to_owned(),
        outcome_unknown: false,
        park_key: false,
    }
}

pub(super) async fn parked(subject: &Subject) -> Vec<ParkedKey> {
    subject.settler().parked_keys(&subject.all_shards()).await.expect("parked_keys")
}

async fn dead_letters(subject: &Subject) -> Vec<DeadLetter> {
    subject.admin().dead_letters(0, 100).await.expect("dead_letters")
}

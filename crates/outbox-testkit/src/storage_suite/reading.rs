//! What a read returns: assigned shards, within limits, with progress, in order.

use outbox_core::message::{LaneKey, NewMessage};
use outbox_core::ports::{Batch, DeadReason, ShardId};

use super::appending::numbers;
use super::scan::{Scan, WIDE};
use super::subject::{EachId, LONG, Subject, keyed, run_of};
use crate::case::{Case, Patience, cases};

pub(super) const CASES: &[Case<Subject>] = cases![Subject:
    reads_and_sweeps_tell_the_leases_of_their_shards,
    a_new_reader_has_no_shards,
    only_assigned_shards_are_read,
    a_shard_that_is_assigned_again_starts_at_the_bottom,
    assigning_a_shard_that_is_already_assigned_keeps_its_place,
    readers_do_not_disturb_each_other,
    what_is_appended_later_is_returned_by_a_later_read,
    a_row_limit_cuts_a_read_and_says_so,
    a_byte_limit_cuts_a_read_and_says_so,
    a_message_larger_than_the_byte_limit_comes_alone,
    every_message_is_reached_whatever_the_limits,
    a_busy_shard_does_not_starve_another,
    a_message_over_the_largest_size_is_refused_and_not_loaded,
    a_message_of_exactly_the_largest_size_is_loaded,
    a_rewind_returns_pending_messages_again,
    a_rewind_never_goes_forward,
    a_rewind_does_not_return_what_was_settled,
    an_empty_outbox_reads_as_nothing,
];

async fn a_new_reader_has_no_shards(subject: &Subject) {
    subject.commit(&run_of("a", 3)).await;
    let mut scan = Scan::new(subject.storage.reader().await.expect("a reader"), &[]);
    scan.until_quiet().await;
    assert!(scan.seen.is_empty(), "messages without an assigned shard");
}

async fn only_assigned_shards_are_read(subject: &Subject) {
    let messages: Vec<_> = (0..50).map(|n| keyed(&format!("key-{n}"), 0)).collect();
    let read = subject.commit_and_read(&messages).await;
    let shard = read[0].shard;
    let mut scan = Scan::new(subject.storage.reader().await.expect("a reader"), &[shard]);
    scan.until_quiet().await;
    let mut expected: Vec<_> = read.iter().filter(|message| message.shard == shard).collect();
    expected.sort_by_key(|message| message.seq);
    assert_eq!(scan.first_sight(), expected);
    scan.assign(&[]);
    scan.forget();
    scan.until_quiet().await;
    assert!(scan.seen.is_empty(), "messages of a shard that is no longer assigned");
}

async fn a_shard_that_is_assigned_again_starts_at_the_bottom(subject: &Subject) {
    subject.commit(&run_of("a", 3)).await;
    let mut scan = subject.scan().await;
    scan.until_quiet().await;
    scan.assign(&[]);
    scan.forget();
    scan.assign(&subject.all_shards());
    scan.until_quiet().await;
    assert_eq!(scan.payloads_of("a"), numbers(3));
}

async fn assigning_a_shard_that_is_already_assigned_keeps_its_place(subject: &Subject) {
    let first = run_of("a", 3);
    subject.commit(&first).await;
    let mut scan = subject.scan().await;
    scan.limits.rows = 2;
    scan.read().await;
    scan.assign(&subject.all_shards());
    scan.limits = WIDE;
    scan.until_quiet().await;
    assert_eq!(scan.payloads_of("a"), numbers(3));
}

async fn readers_do_not_disturb_each_other(subject: &Subject) {
    subject.commit(&run_of("a", 5)).await;
    let (mut one, mut other) = (subject.scan().await, subject.scan().await);
    one.until_quiet().await;
    other.until_quiet().await;
    assert_eq!(one.payloads_of("a"), numbers(5));
    assert_eq!(other.payloads_of("a"), numbers(5));
}

async fn what_is_appended_later_is_returned_by_a_later_read(subject: &Subject) {
    let mut scan = subject.scan().await;
    for n in 0..5 {
        let message = keyed("a", n);
        subject.commit(std::slice::from_ref(&message)).await;
        scan.until_seen(&[message.id]).await;
    }
    assert_eq!(scan.payloads_of("a"), numbers(5));
}

async fn a_row_limit_cuts_a_read_and_says_so(subject: &Subject) {
    subject.commit(&run_of("a", 7)).await;
    let mut scan = subject.scan().await;
    scan.limits.rows = 3;
    let batch = first_batch(&mut scan).await;
    assert!(batch.more, "`more` is false, and there is more");
    scan.until("all messages", |scan| scan.first_sight().len() == 7).await;
    assert_eq!(scan.payloads_of("a"), numbers(7));
}

async fn a_byte_limit_cuts_a_read_and_says_so(subject: &Subject) {
    let messages: Vec<_> = (0..8).map(|_| sized("a", 10_000)).collect();
    subject.commit(&messages).await;
    let mut scan = subject.scan().await;
    scan.limits.bytes = 25_000;
    let batch = first_batch(&mut scan).await;
    assert!(batch.more, "`more` is false, and there is more");
    let ids = messages.each_id();
    scan.until_seen(&ids).await;
    assert_eq!(scan.first_sight().iter().map(|message| message.id).collect::<Vec<_>>(), ids);
}

async fn a_message_larger_than_the_byte_limit_comes_alone(subject: &Subject) {
    let messages = [sized("a", 10), sized("a", 50_000), sized("a", 10)];
    subject.commit(&messages).await;
    let mut scan = subject.scan().await;
    scan.limits.bytes = 1_000;
    scan.until_seen(&messages.each_ref().map(|message| message.id)).await;
    assert_eq!(scan.first_sight().iter().map(|message| message.id).collect::<Vec<_>>(), messages.map(|m| m.id));
    assert!(scan.refused.is_empty(), "a message within max_message_bytes was refused");
}

async fn every_message_is_reached_whatever_the_limits(subject: &Subject) {
    let messages: Vec<_> = (0..400).map(|n| keyed(&format!("key-{}", n % 40), n / 40)).collect();
    subject.commit(&messages).await;
    for rows in [1, 7, 100] {
        let mut scan = subject.scan().await;
        scan.limits.rows = rows;
        scan.until("all messages", |scan| scan.first_sight().len() == messages.len()).await;
        for key in 0..40 {
            assert_eq!(scan.payloads_of(&format!("key-{key}")), numbers(10), "reads of {rows} rows");
        }
    }
}

async fn a_busy_shard_does_not_starve_another(subject: &Subject) {
    subject.commit(&run_of("hot", 300)).await;
    let quiet: Vec<_> = (0..20).map(|n| keyed(&format!("quiet-{n}"), 0)).collect();
    subject.commit(&quiet).await;
    let mut scan = subject.scan().await;
    scan.limits.rows = 10;
    scan.until_seen(&quiet.each_id()).await;
    scan.until("all messages", |scan| scan.first_sight().len() == 320).await;
    assert_eq!(scan.payloads_of("hot"), numbers(300));
}

async fn a_message_over_the_largest_size_is_refused_and_not_loaded(subject: &Subject) {
    let messages = [keyed("a", 0), sized("a", 2_001), keyed("a", 1), keyed("b", 0)];
    subject.commit(&messages).await;
    let mut scan = subject.scan().await;
    scan.limits.max_message_bytes = 2_000;
    scan.until("the large message is refused", |scan| !scan.refused.is_empty()).await;
    scan.until_seen(&[messages[0].id, messages[2].id, messages[3].id]).await;
    assert!(!scan.has_seen(messages[1].id));
    let rows = subject.pending().await;
    for refused in &scan.refused {
        assert_eq!(refused.position.id, messages[1].id);
        assert_eq!((refused.position.shard, refused.position.seq), (rows[1].shard, rows[1].seq));
        assert_eq!(refused.reason, DeadReason::TooLarge);
        assert_eq!(refused.lane, Some(LaneKey::of("order", "a")));
    }
}

async fn a_message_of_exactly_the_largest_size_is_loaded(subject: &Subject) {
    let message = sized("a", 2_000);
    subject.commit(std::slice::from_ref(&message)).await;
    let mut scan = subject.scan().await;
    scan.limits.max_message_bytes = 2_000;
    scan.until_seen(&[message.id]).await;
    assert!(scan.refused.is_empty());
}

async fn a_rewind_returns_pending_messages_again(subject: &Subject) {
    let read = subject.commit_and_read(&run_of("a", 5)).await;
    let mut scan = subject.scan().await;
    scan.until_quiet().await;
    for (from_seq, first) in [(read[3].seq, 3), (read[1].seq, 1), (0, 0)] {
        scan.forget();
        scan.rewind(read[0].shard, from_seq);
        scan.until_quiet().await;
        // Earlier ones may come again as well, before or after: the storage may look again at what its floor has passed.
        let again: Vec<_> =
            scan.payloads_of("a").into_iter().filter(|payload| numbers(5)[first..].contains(payload)).collect();
        assert_eq!(again, numbers(5)[first..], "after a rewind to message {first}");
    }
}

async fn a_rewind_never_goes_forward(subject: &Subject) {
    let messages = run_of("a", 5);
    subject.commit(&messages).await;
    let mut scan = subject.scan().await;
    for shard in 0..=subject.shards {
        scan.rewind(ShardId(shard), i64::MAX); // one of them is not assigned, which is no error
    }
    scan.until_quiet().await;
    assert_eq!(scan.payloads_of("a"), numbers(5));
}

async fn a_rewind_does_not_return_what_was_settled(subject: &Subject) {
    let read = subject.commit_and_read(&run_of("a", 5)).await;
    let mut scan = subject.scan().await;
    scan.until_quiet().await;
    subject.settler().settle(&[read[0].position(), read[2].position()]).await.expect("settle");
    scan.forget();
    scan.rewind(read[0].shard, 0);
    scan.until_quiet().await;
    assert_eq!(scan.payloads_of("a"), ["1", "3", "4"]);
}

async fn an_empty_outbox_reads_as_nothing(subject: &Subject) {
    let mut scan = subject.scan().await;
    let batch = scan.read().await;
    assert!(batch.messages.is_empty() && batch.held.is_empty() && batch.refused.is_empty());
    assert!(!batch.more && batch.next_due_in.is_none());
}

async fn first_batch(scan: &mut Scan) -> Batch {
    let patience = Patience::new();
    loop {
        let batch = scan.read().await;
        if !batch.messages.is_empty() {
            return batch;
        }
        patience.wait(|| "a read returns a message".to_owned()).await;
    }
}

fn sized(key: &str, bytes: usize) -> NewMessage {
    NewMessage::new("order", "order.changed", vec![b'x'; bytes]).aggregate_id(key)
}

async fn reads_and_sweeps_tell_the_leases_of_their_shards(subject: &Subject) {
    subject.commit(&run_of("a", 3)).await;
    let mut last = Vec::new();
    for _ in 0..2 {
        let owner = subject.owner().await;
        let mut scan = subject.scan().await;
        scan.read().await;
        subject.admin().park("order", "parked in between").await.expect("park");
        let mut leases = subject.leases().heartbeat(&owner.relay, LONG, true).await.expect("heartbeat").held;
        leases.sort_unstable_by_key(|lease| lease.shard);
        assert_ne!(leases, last, "epochs and a control version have changed");
        let mut read = scan.read().await.leases;
        read.sort_unstable_by_key(|lease| lease.shard);
        assert_eq!(read, leases, "of a read");
        let swept = scan.sweep().await.leases;
        assert!(swept.iter().all(|lease| leases.contains(lease)), "a sweep told {swept:?}, the leases are {leases:?}");
        subject.admin().unpark("order", "parked in between").await.expect("unpark");
        subject.leases().resign(&owner.relay).await.expect("resign");
        last = leases;
    }
    let mut scan = subject.scan().await;
    scan.assign(&[]);
    assert!(scan.read().await.leases.is_empty(), "of shards that are not assigned");
}

//! Transactions that commit in another order than they appended: nothing is lost, and no message overtakes an earlier
//! one of its key.

use std::collections::HashMap;
use std::sync::Mutex as StdMutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::{join, join_all};
use outbox_core::message::NewMessage;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::appending::numbers;
use super::scan::Scan;
use super::subject::{EachId, Subject, Writer, keyed, run_of};
use crate::case::{Case, cases};

pub(super) const CASES: &[Case<Subject>] = cases![Subject:
    two_writers_are_open_at_once_exactly_when_the_fixture_says_so,
    writers_at_random_lose_nothing_and_keep_the_order_of_each_key,
];

/// Cases that need two open writers.
pub(super) const CONCURRENT_CASES: &[Case<Subject>] = cases![Subject:
    a_late_commit_below_the_floor_is_returned,
    a_late_commit_is_not_overtaken_by_a_later_message_of_its_key,
    a_late_rollback_leaves_nothing,
    an_open_transaction_does_not_hold_up_the_others,
    several_late_commits_are_all_returned,
];

/// How long a second writer may take that need not wait.
const SECOND_WRITER_DEADLINE: Duration = Duration::from_secs(30);
/// How long a second writer that should wait gets to show that it does not.
const SECOND_WRITER_CHANCE: Duration = Duration::from_millis(300);

async fn two_writers_are_open_at_once_exactly_when_the_fixture_says_so(subject: &Subject) {
    let mut first = subject.begin().await;
    first.append(&keyed("a", 0)).await;
    let first_has_ended = AtomicBool::new(false);
    let second = async {
        let mut second = subject.begin().await;
        second.append(&keyed("b", 0)).await;
        let second_waited = first_has_ended.load(Ordering::Relaxed);
        second.commit().await;
        second_waited
    };
    if subject.database.concurrent_writers() {
        let second_waited = timeout(SECOND_WRITER_DEADLINE, second).await;
        assert!(second_waited.is_ok(), "concurrent_writers() is true, and a second writer waits for the first");
        first.commit().await;
    } else {
        let end_of_first = async {
            sleep(SECOND_WRITER_CHANCE).await;
            first_has_ended.store(true, Ordering::Relaxed);
            first.commit().await;
        };
        let (second_waited, ()) = join(second, end_of_first).await;
        assert!(second_waited, "concurrent_writers() is false, and a second writer did not wait for the first");
    }
    assert_eq!(subject.pending().await.len(), 2);
}

async fn a_late_commit_below_the_floor_is_returned(subject: &Subject) {
    let (late, mut scan, writer) = straggler(subject).await;
    writer.commit().await;
    scan.until_seen(&[late.id]).await;
}

async fn a_late_commit_is_not_overtaken_by_a_later_message_of_its_key(subject: &Subject) {
    for _ in 0..5 {
        let (late, mut scan, writer) = straggler(subject).await;
        writer.commit().await;
        let key = late.aggregate_id.clone().expect("a key");
        let follower = keyed(&key, 1);
        subject.commit(std::slice::from_ref(&follower)).await;
        scan.until_seen(&[follower.id]).await;
        assert_eq!(scan.payloads_of(&key), numbers(2), "the later message came first");
        let positions: Vec<_> = scan.seen.iter().map(|message| message.position()).collect();
        subject.settler().settle(&positions).await.expect("settle");
    }
}

async fn a_late_rollback_leaves_nothing(subject: &Subject) {
    let (late, mut scan, writer) = straggler(subject).await;
    writer.rollback().await;
    let key = late.aggregate_id.clone().expect("a key");
    let follower = keyed(&key, 1);
    subject.commit(std::slice::from_ref(&follower)).await;
    scan.until_seen(&[follower.id]).await;
    scan.until_quiet().await;
    assert!(!scan.has_seen(late.id), "a rolled back message was returned");
}

async fn an_open_transaction_does_not_hold_up_the_others(subject: &Subject) {
    let (late, mut scan, writer) = straggler(subject).await;
    for n in 0..20 {
        let message = keyed("busy", n);
        subject.commit(std::slice::from_ref(&message)).await;
        scan.until_seen(&[message.id]).await;
    }
    writer.commit().await;
    scan.until_seen(&[late.id]).await;
    assert_eq!(scan.payloads_of("busy"), numbers(20));
}

async fn several_late_commits_are_all_returned(subject: &Subject) {
    let mut scan = subject.scan().await;
    let (mut late, mut writers) = (Vec::new(), Vec::new());
    for n in 0..4 {
        let mut writer = subject.begin().await;
        let messages = run_of(&format!("late-{n}"), 3);
        for message in &messages {
            writer.append(message).await;
        }
        late.extend(messages.each_id());
        writers.push(writer);
        let early: Vec<_> = (0..40).map(|m| keyed(&format!("early-{n}-{m}"), 0)).collect();
        subject.commit(&early).await;
        scan.until_seen(&early.each_id()).await;
    }
    scan.limits.rows = 5;
    for writer in writers.into_iter().rev() {
        writer.commit().await;
        scan.read().await;
    }
    scan.until_seen(&late).await;
    for n in 0..4 {
        assert_eq!(scan.payloads_of(&format!("late-{n}")), numbers(3));
    }
}

/// Writers of one key wait for each other, as with a row lock; everything else is up to chance.
async fn writers_at_random_lose_nothing_and_keep_the_order_of_each_key(subject: &Subject) {
    const WRITERS: u64 = 4;
    const KEYS: usize = 8;
    const TRANSACTIONS: usize = 40;
    let keys: Vec<_> = (0..KEYS).map(|_| Mutex::new(0_usize)).collect();
    let committed = StdMutex::new(Vec::new());
    let writers = join_all((0..WRITERS).map(|writer| {
        let (keys, committed) = (&keys, &committed);
        async move {
            let mut random = StdRng::seed_from_u64(writer);
            for _ in 0..TRANSACTIONS {
                let key = random.random_range(0..KEYS);
                let mut next = keys[key].lock().await;
                let messages: Vec<_> =
                    (0..random.random_range(1..4)).map(|n| keyed(&format!("key-{key}"), *next + n)).collect();
                let mut transaction = subject.begin().await;
                for message in &messages {
                    transaction.append(message).await;
                }
                sleep(Duration::from_millis(random.random_range(0..20))).await;
                if random.random_range(0..5) == 0 {
                    transaction.rollback().await;
                } else {
                    transaction.commit().await;
                    *next += messages.len();
                    committed.lock().expect("no panic while locked").extend(messages.each_id());
                }
            }
        }
    }));
    let done = AtomicBool::new(false);
    let mut scan = subject.scan().await;
    scan.limits.rows = 10;
    let reading = async {
        while !done.load(Ordering::Relaxed) {
            scan.read().await;
            sleep(Duration::from_millis(1)).await;
        }
    };
    let writing = async {
        writers.await;
        done.store(true, Ordering::Relaxed);
    };
    join(writing, reading).await;
    let committed: Vec<Uuid> = committed.into_inner().expect("no panic while locked");
    scan.until_seen(&committed).await;
    scan.until_quiet().await;
    let counts: HashMap<_, _> = keys.into_iter().map(Mutex::into_inner).enumerate().collect();
    for (key, count) in counts {
        assert_eq!(scan.payloads_of(&format!("key-{key}")), numbers(count), "lost, reordered or made up: key-{key}");
    }
}

/// An open transaction with a message, and a scan that has gone past it.
async fn straggler(subject: &Subject) -> (NewMessage, Scan, Writer) {
    let keys = subject.keys_of_one_shard(2).await;
    let (late, early) = (keyed(&keys[0], 0), keyed(&keys[1], 0));
    let mut scan = subject.scan().await;
    let mut writer = subject.begin().await;
    writer.append(&late).await;
    subject.commit(std::slice::from_ref(&early)).await;
    scan.until_seen(&[early.id]).await;
    (late, scan, writer)
}

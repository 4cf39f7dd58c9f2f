//! What the entry port tells: the profile, the backlog, wake-ups; and that the ports do not wait for one another.

use std::time::Duration;

use outbox_core::ports::Backlog;
use tokio::time::timeout;

use super::burying::{burial, bury};
use super::leases::past;
use super::subject::{LONG, Subject, keyed, run_of};
use crate::case::{Case, cases};

pub(super) const CASES: &[Case<Subject>] = cases![Subject:
    the_profile_is_the_same_every_time,
    an_empty_outbox_has_no_backlog,
    the_backlog_counts_what_is_pending_and_what_is_dead,
    the_oldest_age_grows_with_the_database_s_clock,
    a_waiting_message_has_no_age,
    a_domain_time_in_the_future_is_no_failure,
    a_notifier_wakes_after_a_commit,
    reads_settlements_and_heartbeats_run_side_by_side,
];

/// How long a wake-up may take.
const WAKE_UP_DEADLINE: Duration = Duration::from_secs(30);

async fn the_profile_is_the_same_every_time(subject: &Subject) {
    let profile = subject.storage.check().await.expect("check");
    assert!(profile.shards >= 1 && !profile.server.is_empty());
    assert_eq!(subject.storage.check().await.expect("check"), profile);
}

async fn an_empty_outbox_has_no_backlog(subject: &Subject) {
    let backlog = backlog(subject).await;
    assert!(backlog.estimated || backlog.pending == 0);
    assert_eq!((backlog.oldest_age, backlog.dead_letters), (None, 0));
}

async fn the_backlog_counts_what_is_pending_and_what_is_dead(subject: &Subject) {
    let read = subject.commit_and_read(&run_of("a", 5)).await;
    let owner = subject.owner().await;
    bury(subject, &owner, &burial(&read[0])).await;
    bury(subject, &owner, &burial(&read[1])).await;
    subject.settler().settle(&[read[2].position()]).await.expect("settle");
    let backlog = backlog(subject).await;
    assert!(backlog.estimated || backlog.pending == 2, "{backlog:?}");
    assert_eq!(backlog.dead_letters, 2);
    assert!(backlog.oldest_age.is_some());
}

async fn the_oldest_age_grows_with_the_database_s_clock(subject: &Subject) {
    let step = Duration::from_millis(200);
    subject.commit(&[keyed("a", 0)]).await;
    past(subject, step).await;
    subject.commit(&[keyed("b", 0)]).await; // a younger one does not count
    let age = backlog(subject).await.oldest_age.expect("an age");
    assert!(step <= age + Duration::from_millis(10) && age < Duration::from_secs(60), "{age:?}");
}

async fn a_waiting_message_has_no_age(subject: &Subject) {
    let later = subject.now().await + time::Duration::HOUR;
    subject.commit(&[keyed("a", 0).available_at(later)]).await;
    assert_eq!(backlog(subject).await.oldest_age, None);
}

async fn a_domain_time_in_the_future_is_no_failure(subject: &Subject) {
    let later = subject.now().await + time::Duration::WEEK;
    subject.commit(&[keyed("a", 0).occurred_at(later)]).await;
    let age = backlog(subject).await.oldest_age.expect("it is pending and does not wait");
    assert!(age < Duration::from_secs(60), "{age:?}");
}

async fn a_notifier_wakes_after_a_commit(subject: &Subject) {
    let Some(mut notifier) = subject.storage.notifier().await.expect("notifier") else {
        return; // polling alone is right, and this storage, as it was built, leaves it at that
    };
    for n in 0..3 {
        subject.commit(&[keyed("a", n)]).await;
        let woken = timeout(WAKE_UP_DEADLINE, notifier.notified()).await;
        woken.expect("a wake-up in time").expect("notified");
    }
}

async fn reads_settlements_and_heartbeats_run_side_by_side(subject: &Subject) {
    let read = subject.commit_and_read(&run_of("a", 20)).await;
    let owner = subject.owner().await;
    let mut scan = subject.scan().await;
    for message in &read {
        let position = [message.position()];
        let settle = subject.settler().settle(&position);
        let beat = subject.leases().heartbeat(&owner.relay, LONG, true);
        let (_, settled, beat) = futures_util::join!(scan.read(), settle, beat);
        settled.expect("settle");
        assert_eq!(beat.expect("heartbeat").held.len(), usize::from(subject.shards));
    }
    assert!(subject.pending().await.is_empty());
}

async fn backlog(subject: &Subject) -> Backlog {
    subject.settler().backlog().await.expect("backlog")
}

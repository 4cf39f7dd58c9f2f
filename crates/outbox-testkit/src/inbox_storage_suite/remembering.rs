//! Positions, the clock, and how far back identities are known.

use outbox_core::inbox::{Fate, InboxDeadReason, InboxStorage, Partition, RememberedPosition, Standing};
use time::Duration;

use super::cases;
use super::subject::{LONG, Subject, aside, candidate, consumer, dead, failed, fixture};
use crate::case::Case;

pub(super) fn cases<S: InboxStorage>() -> Vec<Case<Subject<S>>> {
    cases![
        a_position_is_remembered_for_each_partition_and_never_goes_back,
        a_forgotten_position_can_be_lower,
        the_clock_is_the_database_s,
        a_purge_removes_old_identities_in_bounded_batches,
        a_purge_leaves_young_held_and_other_consumers_identities,
        a_dead_letter_s_identity_is_known_as_long_as_its_letter_stays,
        a_discarded_message_s_identity_is_purged_by_the_age_of_the_discard,
        a_horizon_is_told_to_every_later_admission_and_never_goes_back,
    ]
}

async fn a_position_is_remembered_for_each_partition_and_never_goes_back<S: InboxStorage>(subject: &Subject<S>) {
    assert!(positions(subject).await.is_empty());
    let first = [at("order", 0, 5), at("order", 1, 7), at("Order", 0, 9)];
    remember(subject, &first).await;
    remember(subject, &[at("order", 0, 4), at("order", 1, 8)]).await;
    remember(subject, &[]).await;
    assert_eq!(positions(subject).await, [at("Order", 0, 9), at("order", 0, 5), at("order", 1, 8)]);
    let others = subject.memory().positions(&consumer("shipping")).await.expect("positions");
    assert!(others.is_empty());
}

async fn a_forgotten_position_can_be_lower<S: InboxStorage>(subject: &Subject<S>) {
    remember(subject, &[at("order", 0, 5), at("order", 1, 5)]).await;
    let partition = Partition::new("order", 0);
    assert!(subject.memory().forget(&subject.consumer, &partition).await.expect("forget"));
    assert!(!subject.memory().forget(&subject.consumer, &partition).await.expect("forget"));
    remember(subject, &[at("order", 0, 2)]).await;
    assert_eq!(positions(subject).await, [at("order", 0, 2), at("order", 1, 5)]);
}

async fn the_clock_is_the_database_s<S: InboxStorage>(subject: &Subject<S>) {
    let before = fixture("now", subject.database.now().await);
    let now = subject.memory().now().await.expect("now");
    let after = fixture("now", subject.database.now().await);
    assert!(now > before - Duration::SECOND && now < after + Duration::SECOND, "{before} {now} {after}");
}

async fn a_purge_removes_old_identities_in_bounded_batches<S: InboxStorage>(subject: &Subject<S>) {
    let names: Vec<String> = (0..25).map(|n| n.to_string()).collect();
    subject.process(&names.iter().map(|id| candidate(id, None)).collect::<Vec<_>>()).await;
    fixture("age", subject.database.age(Duration::days(8)).await);
    let horizon = subject.memory().now().await.expect("now") - Duration::days(7);
    let mut removed = Vec::new();
    loop {
        let count = subject.memory().purge(&subject.consumer, horizon, 10).await.expect("purge");
        if count == 0 {
            break;
        }
        removed.push(count);
    }
    assert_eq!(removed.iter().sum::<usize>(), 25);
    assert!(removed.iter().all(|count| *count <= 10), "{removed:?}");
    assert_eq!(subject.standing("7").await, Standing::New);
}

async fn a_purge_leaves_young_held_and_other_consumers_identities<S: InboxStorage>(subject: &Subject<S>) {
    subject.put_aside(&[aside("held", Some("a"), failed(LONG)), aside("waits", Some("a"), Fate::Waiting)]).await;
    fixture("age", subject.database.age(Duration::days(8)).await);
    subject.process(&[candidate("young", None)]).await;
    let horizon = subject.memory().now().await.expect("now") - Duration::days(7);
    assert_eq!(subject.memory().purge(&subject.consumer, horizon, 100).await.expect("purge"), 0);
    fixture("age", subject.database.age(Duration::days(8)).await);
    assert_eq!(subject.memory().purge(&consumer("shipping"), horizon, 100).await.expect("purge"), 0);
    assert_eq!(subject.standing("young").await, Standing::Processed);
    assert_eq!(subject.standing("held").await, Standing::Held);
}

async fn a_dead_letter_s_identity_is_known_as_long_as_its_letter_stays<S: InboxStorage>(subject: &Subject<S>) {
    subject.put_aside(&[aside("1", Some("a"), dead(REASON, true)), aside("2", None, dead(REASON, false))]).await;
    assert_eq!(purge_after_a_week(subject).await, 0);
    assert_eq!((subject.standing("1").await, subject.standing("2").await), (Standing::Dead, Standing::Dead));
    for letter in subject.dead_letters().await {
        assert!(subject.admin().replay(&subject.consumer, letter.seq).await.expect("replay"));
    }
    assert_eq!(purge_after_a_week(subject).await, 0);
    assert_eq!((subject.standing("1").await, subject.standing("2").await), (Standing::Held, Standing::Held));
}

async fn a_discarded_message_s_identity_is_purged_by_the_age_of_the_discard<S: InboxStorage>(subject: &Subject<S>) {
    subject.put_aside(&[aside("1", Some("a"), dead(REASON, true)), aside("2", None, dead(REASON, false))]).await;
    fixture("age", subject.database.age(Duration::days(8)).await);
    for letter in subject.dead_letters().await {
        assert!(subject.admin().discard(&subject.consumer, letter.seq).await.expect("discard"));
    }
    let horizon = subject.memory().now().await.expect("now") - Duration::days(7);
    assert_eq!(subject.memory().purge(&subject.consumer, horizon, 100).await.expect("purge"), 0);
    assert_eq!((subject.standing("1").await, subject.standing("2").await), (Standing::Processed, Standing::Processed));
    assert_eq!(purge_after_a_week(subject).await, 2);
    assert_eq!((subject.standing("1").await, subject.standing("2").await), (Standing::New, Standing::New));
}

async fn a_horizon_is_told_to_every_later_admission_and_never_goes_back<S: InboxStorage>(subject: &Subject<S>) {
    assert_eq!(subject.look(&[candidate("1", None)]).await.horizon, None);
    let now = subject.memory().now().await.expect("now");
    let horizon = now - Duration::days(7);
    subject.memory().purge(&subject.consumer, horizon, 1).await.expect("purge");
    subject.memory().purge(&subject.consumer, horizon - Duration::days(1), 1).await.expect("purge");
    let told = subject.look(&[candidate("1", None)]).await.horizon.expect("a horizon");
    assert!((told - horizon).abs() < Duration::milliseconds(2), "{told} is not {horizon}");
    subject.memory().purge(&subject.consumer, now - Duration::days(6), 1).await.expect("purge");
    assert!(subject.look(&[candidate("1", None)]).await.horizon.is_some_and(|later| later > told));
}

const REASON: InboxDeadReason = InboxDeadReason::AttemptsExhausted;

/// Makes every identity eight days older, and purges what is older than seven.
async fn purge_after_a_week<S: InboxStorage>(subject: &Subject<S>) -> usize {
    fixture("age", subject.database.age(Duration::days(8)).await);
    let horizon = subject.memory().now().await.expect("now") - Duration::days(7);
    subject.memory().purge(&subject.consumer, horizon, 100).await.expect("purge")
}

fn at(stream: &str, number: i32, position: i64) -> RememberedPosition {
    RememberedPosition { partition: Partition::new(stream, number), position }
}

async fn remember<S: InboxStorage>(subject: &Subject<S>, positions: &[RememberedPosition]) {
    subject.memory().remember(&subject.consumer, positions).await.expect("remember");
}

async fn positions<S: InboxStorage>(subject: &Subject<S>) -> Vec<RememberedPosition> {
    let mut positions = subject.memory().positions(&subject.consumer).await.expect("positions");
    positions.sort();
    positions
}

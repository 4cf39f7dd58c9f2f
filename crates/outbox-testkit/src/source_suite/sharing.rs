//! Two members of one consumer.

use std::collections::BTreeSet;
use std::time::Duration;

use outbox_core::inbox::SourceEvent;
use tokio::time::{Instant, timeout};

use super::member::{Member, Subject, number_of};
use crate::case::{Case, cases};

pub(super) const CASES: &[Case<Subject>] = cases![Subject:
    a_partition_belongs_to_one_member_at_a_time,
    what_a_member_leaves_goes_to_another,
    acknowledgements_made_while_a_partition_is_revoked_count,
];

/// How long members may take to share the partitions out, and the messages to come.
const PATIENCE: Duration = Duration::from_secs(60);

async fn a_partition_belongs_to_one_member_at_a_time(subject: &Subject) {
    let (mut one, mut other) = (subject.join().await, subject.join().await);
    subject.publish(0..200).await;
    let mut acknowledged = BTreeSet::new();
    let deadline = Instant::now() + PATIENCE;
    while acknowledged.len() < 200 {
        assert!(Instant::now() < deadline, "only {} messages came", acknowledged.len());
        for member in [&mut one, &mut other] {
            turn(member, &mut acknowledged).await;
        }
    }
    // each was acknowledged before its partition could go to the other one
    let received = [one.numbers(), other.numbers()].concat();
    assert_eq!(received.len(), acknowledged.len(), "messages came to both, or twice");
    assert_eq!(acknowledged, (0..200).collect());
}

async fn what_a_member_leaves_goes_to_another(subject: &Subject) {
    let (mut one, mut other) = (subject.join().await, subject.join().await);
    subject.publish(0..100).await;
    let mut acknowledged = BTreeSet::new();
    let deadline = Instant::now() + PATIENCE;
    while acknowledged.len() < 100 {
        assert!(Instant::now() < deadline, "only {} messages came", acknowledged.len());
        turn(&mut one, &mut acknowledged).await;
        turn(&mut other, &mut acknowledged).await;
    }
    one.subscription.close().await.expect("close");
    subject.publish(100..200).await;
    while acknowledged.len() < 200 {
        assert!(Instant::now() < deadline, "only {} messages came", acknowledged.len());
        turn(&mut other, &mut acknowledged).await;
    }
}

async fn acknowledgements_made_while_a_partition_is_revoked_count(subject: &Subject) {
    let mut one = subject.join().await;
    subject.publish(0..100).await;
    one.until_received(100).await;
    let mut other = subject.join().await;
    let deadline = Instant::now() + PATIENCE;
    // until one is asked for a partition, or it is clear that it keeps all (a single active consumer)
    let revoked = loop {
        assert!(Instant::now() < deadline, "the members did not share the partitions out");
        match timeout(Duration::from_millis(50), one.subscription.next()).await {
            Ok(event) => match event.expect("the subscription lives") {
                SourceEvent::Revoking(partitions) => break partitions,
                event => one.note(event),
            },
            Err(_) if !subject.is_cumulative() => break Vec::new(),
            Err(_) => other.for_a_while(Duration::from_millis(50)).await,
        }
    };
    one.acknowledge_all();
    one.note_revoked(&revoked);
    one.for_a_while(Duration::from_millis(500)).await; // lets them go, with their acknowledgements
    if subject.is_cumulative() {
        tokio::join!(
            other.until("the partitions are handed over", |member| revoked
                .iter()
                .all(|p| member.assigned.contains_key(p))),
            one.for_a_while(Duration::from_secs(1)),
        );
    }
    other.for_a_while(Duration::from_millis(500)).await;
    assert_eq!(other.numbers(), Vec::<usize>::new(), "acknowledged messages came again");
}

/// Asks a member for a moment, and acknowledges what comes.
async fn turn(member: &mut Member, acknowledged: &mut BTreeSet<usize>) {
    let before = member.received.len();
    member.for_a_while(Duration::from_millis(20)).await;
    for message in &member.received[before..] {
        acknowledged.insert(number_of(message));
        member.subscription.acknowledge(&message.partition, message.position);
    }
}

impl Member {
    fn note_revoked(&mut self, partitions: &[outbox_core::inbox::Partition]) {
        self.note(SourceEvent::Revoking(partitions.to_vec()));
    }
}

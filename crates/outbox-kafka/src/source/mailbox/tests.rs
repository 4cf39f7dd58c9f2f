use futures_util::FutureExt as _;
use outbox_core::inbox::IncomingHeaders;

use super::*;

fn partition(number: i32) -> Partition {
    Partition::new("order", number)
}

fn message(number: i32, position: i64, bytes: usize) -> Incoming {
    Incoming {
        partition: partition(number),
        position,
        key: None,
        headers: IncomingHeaders::default(),
        payload: Some(vec![0; bytes].into()),
        timestamp: None,
        redelivered: false,
    }
}

fn assigned(start: i64) -> Mailbox {
    let mailbox = Mailbox::default();
    mailbox.assign(vec![Assigned { partition: partition(0), start: Some(start) }]);
    assert!(matches!(told(&mailbox), SourceEvent::Assigned(_)));
    mailbox
}

fn told(mailbox: &Mailbox) -> SourceEvent {
    mailbox.next().now_or_never().expect("something is told").expect("it is not over")
}

#[test]
fn acknowledgements_never_go_back_below_the_start() {
    let mailbox = assigned(51);
    mailbox.acknowledge(&partition(0), 20);
    assert_eq!(mailbox.uncommitted(), []);
    mailbox.acknowledge(&partition(0), 60);
    mailbox.acknowledge(&partition(0), 55);
    assert_eq!(mailbox.uncommitted(), [(partition(0), 61)]);
    mailbox.committed(vec![(partition(0), 61)]);
    assert_eq!(mailbox.uncommitted(), []);
    assert_eq!(told(&mailbox), SourceEvent::Acknowledged(vec![(partition(0), 60)]));
}

#[test]
fn messages_and_bytes_that_wait_are_bounded() {
    let mailbox = assigned(0);
    mailbox.deliver((0..499).map(|position| message(0, position, 1)).collect());
    assert!(mailbox.wait_for_room(Duration::ZERO));
    mailbox.deliver(vec![message(0, 499, 1)]);
    assert!(!mailbox.wait_for_room(Duration::ZERO));
    assert!(matches!(told(&mailbox), SourceEvent::Delivered(messages) if messages.len() == 500));
    assert!(mailbox.wait_for_room(Duration::ZERO));
    mailbox.deliver(vec![message(0, 500, 8 * 1024 * 1024)]);
    assert!(!mailbox.wait_for_room(Duration::ZERO));
    mailbox.lose(&[partition(0)]);
    assert!(mailbox.wait_for_room(Duration::ZERO), "what is lost needs no room");
}

#[test]
fn a_revoked_partition_goes_when_the_inbox_asks_again_and_not_before() {
    let mailbox = assigned(0);
    mailbox.deliver(vec![message(0, 0, 1)]);
    mailbox.announce(&[partition(0)]);
    assert_eq!(told(&mailbox), SourceEvent::Revoking(vec![partition(0)]), "its messages are the next member's");
    assert!(!mailbox.is_released());
    mailbox.acknowledge(&partition(0), 0);
    assert_eq!(mailbox.uncommitted(), [(partition(0), 1)], "acknowledgements still count");
    assert!(mailbox.next().now_or_never().is_none());
    assert!(mailbox.is_released());
    mailbox.give_up(&[partition(0)]);
    mailbox.acknowledge(&partition(0), 7);
    assert_eq!(mailbox.uncommitted(), [(partition(0), 1)], "and now no longer");
    mailbox.handed_over(&[partition(0)]);
    assert_eq!(mailbox.uncommitted(), []);
}

#[test]
fn an_announcement_that_nobody_took_in_time_becomes_a_loss() {
    let mailbox = assigned(0);
    mailbox.announce(&[partition(0)]);
    mailbox.handed_over(&[partition(0)]);
    assert_eq!(told(&mailbox), SourceEvent::Lost(vec![partition(0)]));
    assert!(!mailbox.is_released());
}

#[test]
fn the_end_is_told_with_its_cause_and_leaving_is_refused() {
    let mailbox = assigned(0);
    mailbox.deliver(vec![message(0, 0, 1)]);
    let cause = SourceError::new(outbox_core::inbox::SourceErrorKind::Refused, "no permission");
    assert!(mailbox.end(Some(cause)).is_none());
    let error = mailbox.next().now_or_never().expect("the end").expect_err("it is over");
    assert_eq!(error.to_string(), "no permission");
    assert!(mailbox.leave(Leaving::Dropped).is_err());
}

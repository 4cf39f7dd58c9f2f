//! The sweep: the net under everything else.

use std::time::Duration;

use outbox_core::message::Message;

use super::burying::{burial, bury};
use super::subject::{EachId, Subject, keyed, run_of};
use super::waiting::fail;
use crate::case::{Case, cases};

pub(super) const CASES: &[Case<Subject>] = cases![Subject:
    a_sweep_finds_a_pending_row_below_the_floor,
    a_sweep_goes_through_everything_a_piece_at_a_time_and_starts_again,
    a_sweep_returns_no_waiting_row,
    a_sweep_returns_no_settled_row,
    a_sweep_refuses_a_message_over_the_largest_size,
    a_sweep_does_not_move_the_reader,
];

async fn a_sweep_finds_a_pending_row_below_the_floor(subject: &Subject) {
    let read = subject.commit_and_read(&run_of("a", 5)).await;
    let owner = subject.owner().await;
    bury(subject, &owner, &burial(&read[1])).await;
    let mut scan = subject.scan().await;
    scan.until_quiet().await;
    scan.forget();
    subject.admin().replay(read[1].id).await.expect("replay"); // appears below the floor, and nobody rewinds
    scan.sweep_until("the row is found", |scan| scan.has_seen(read[1].id)).await;
}

async fn a_sweep_goes_through_everything_a_piece_at_a_time_and_starts_again(subject: &Subject) {
    let messages: Vec<_> = (0..60).map(|n| keyed(&format!("key-{}", n % 20), n)).collect();
    subject.commit(&messages).await;
    let mut scan = subject.scan().await;
    scan.until_quiet().await;
    scan.limits.rows = 7;
    for _ in 0..2 {
        scan.forget();
        scan.sweep_until("all rows are found", |scan| scan.first_sight().len() == messages.len()).await;
    }
}

async fn a_sweep_returns_no_waiting_row(subject: &Subject) {
    let read = subject.commit_and_read(&run_of("a", 3)).await;
    let owner = subject.owner().await;
    let later = subject.now().await + time::Duration::HOUR;
    let scheduled = keyed("b", 0).available_at(later);
    subject.commit(std::slice::from_ref(&scheduled)).await;
    let mut scan = subject.scan().await;
    scan.until_quiet().await;
    fail(subject, &owner, &read[0], 1, Duration::from_secs(300)).await;
    for _ in 0..2 {
        scan.forget();
        scan.sweep_until("all rows are found", |scan| read[1..].iter().all(|message| scan.has_seen(message.id))).await;
        scan.sweep().await;
        assert!(!scan.has_seen(read[0].id) && !scan.has_seen(scheduled.id), "a waiting row was returned");
    }
}

async fn a_sweep_returns_no_settled_row(subject: &Subject) {
    let read = subject.commit_and_read(&run_of("a", 4)).await;
    let mut scan = subject.scan().await;
    scan.until_quiet().await;
    let settled: Vec<_> = read[..2].iter().map(Message::position).collect();
    subject.settler().settle(&settled).await.expect("settle");
    scan.forget();
    let left = read[2..].each_id();
    scan.sweep_until("the rest is found", |scan| left.iter().all(|id| scan.has_seen(*id))).await;
    scan.sweep().await;
    assert!(scan.seen.iter().all(|message| left.contains(&message.id)));
}

async fn a_sweep_refuses_a_message_over_the_largest_size(subject: &Subject) {
    let mut large = keyed("a", 0);
    large.payload = vec![b'x'; 3_000].into();
    subject.commit(&[large.clone(), keyed("a", 1)]).await;
    let mut scan = subject.scan().await;
    scan.until_quiet().await;
    scan.forget();
    scan.limits.max_message_bytes = 2_000;
    scan.sweep_until("it is refused", |scan| scan.refused.iter().any(|refused| refused.position.id == large.id)).await;
    assert!(!scan.has_seen(large.id));
}

async fn a_sweep_does_not_move_the_reader(subject: &Subject) {
    let first = run_of("a", 3);
    subject.commit(&first).await;
    let mut scan = subject.scan().await;
    scan.until_quiet().await;
    let second: Vec<_> = (3..6).map(|n| keyed("a", n)).collect();
    subject.commit(&second).await;
    for _ in 0..3 {
        scan.sweep().await;
    }
    scan.forget();
    scan.until_seen(&second.each_id()).await;
}

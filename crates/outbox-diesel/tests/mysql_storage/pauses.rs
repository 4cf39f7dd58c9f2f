//! A relay that stops between any two steps holds no lock that another relay could wait for.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use diesel_async::SimpleAsyncConnection;
use outbox_core::ports::{Burial, DeadReason, FailureMark, Fenced, Lease, Position, RelayId, Storage};
use uuid::Uuid;

use crate::database::{Database, LIMITS, reader};

const LEASE: Duration = Duration::from_secs(60);

/// Polls a future until it has waited `waits` times and would wait again. `None`: it was stopped there.
async fn stopped_after<T>(mut future: Pin<&mut impl Future<Output = T>>, waits: usize) -> Option<T> {
    let mut left = waits;
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(result) => Poll::Ready(Some(result)),
        Poll::Pending if left == 0 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}

/// A message and the lease of its shard.
struct Subject {
    database: Database,
    storage: std::sync::Arc<outbox_diesel::mysql::MysqlStorage>,
    relay: RelayId,
    lease: Lease,
    position: Position,
}

impl Subject {
    async fn create() -> Self {
        let database = Database::create().await;
        database.insert(1, 1).await;
        let storage = database.storage();
        let relay = RelayId { owner: Uuid::new_v4(), name: "paused".into() };
        let leases = storage.leases().acquire(&relay, LEASE, 64).await.unwrap();
        let position = reader(&storage).await.read(&LIMITS).await.unwrap().messages[0].position();
        let lease = leases.into_iter().find(|lease| lease.shard == position.shard).unwrap();
        Self { database, storage, relay, lease, position }
    }

    /// The lease runs out, and another relay with connections of its own takes the shard and works with the message.
    async fn another_takes_over(&self) {
        self.database.execute("UPDATE outbox_leases SET expires_at = utc_timestamp(6) - INTERVAL 1 SECOND").await;
        let storage = self.database.storage();
        let other = RelayId { owner: Uuid::new_v4(), name: "other".into() };
        let taken = async {
            let mut taken = Vec::new();
            // What is locked is skipped, so one look may come too early for a statement that is just running.
            while taken.len() < 64 {
                taken.extend(storage.leases().acquire(&other, LEASE, 64).await.unwrap());
            }
        };
        tokio::time::timeout(Duration::from_secs(1), taken).await.expect("the leases are free at once");
        let positions = [self.position];
        let settled = storage.settler().settle(&positions);
        tokio::time::timeout(Duration::from_secs(1), settled).await.expect("the row is free at once").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_stops_in_a_failure_mark_keeps_no_lease_row_locked() {
    for waits in 0.. {
        let subject = Subject::create().await;
        let Subject { storage, relay, lease, position, .. } = &subject;
        let mark =
            FailureMark { position: *position, attempts: 1, delay: Duration::ZERO, error: "the broker refused".into() };
        let mut marking = pin!(storage.settler().retry_later(relay.owner, lease, &mark));
        let done = stopped_after(marking.as_mut(), waits).await;
        subject.another_takes_over().await;
        if done.is_some() {
            return;
        }
        // It wakes up: whatever it does now must not touch what is another's.
        if let Ok(fenced) = marking.await {
            assert!(matches!(fenced, Fenced::Done | Fenced::Lost));
        }
        assert_eq!(subject.database.number("SELECT count(*) FROM outbox_messages").await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_stops_in_a_burial_keeps_no_lease_row_locked() {
    for waits in 0.. {
        let subject = Subject::create().await;
        let Subject { storage, relay, lease, position, .. } = &subject;
        let burial = Burial {
            position: *position,
            attempts: 1,
            reason: DeadReason::Rejected,
            error: "the broker refused".into(),
            outcome_unknown: false,
            park_key: true,
        };
        let mut burying = pin!(storage.settler().bury(relay.owner, lease, &burial));
        let done = stopped_after(burying.as_mut(), waits).await;
        subject.another_takes_over().await;
        let dead = "SELECT count(*) FROM outbox_dead_letters";
        let before = subject.database.number(dead).await;
        if done.is_some() {
            assert_eq!(before, 1);
            return;
        }
        let _ = burying.await;
        assert_eq!(subject.database.number(dead).await, before, "it came too late to move anything");
        assert_eq!(subject.database.number("SELECT count(*) FROM outbox_parked_keys").await, before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burial_that_is_dropped_at_any_step_has_happened_as_a_whole_or_not_at_all() {
    for waits in 0.. {
        let subject = Subject::create().await;
        let Subject { storage, relay, lease, position, database } = &subject;
        let burial = Burial {
            position: *position,
            attempts: 1,
            reason: DeadReason::Rejected,
            error: "the broker refused".into(),
            outcome_unknown: false,
            park_key: true,
        };
        let done = {
            let mut burying = pin!(storage.settler().bury(relay.owner, lease, &burial));
            stopped_after(burying.as_mut(), waits).await
        };
        // The lock waits for what may still run.
        let mut locker = database.connection().await;
        locker.batch_execute("BEGIN; SELECT count(*) FROM outbox_leases FOR UPDATE; COMMIT").await.unwrap();
        let count = "SELECT (SELECT count(*) FROM outbox_messages) * 100 + (SELECT count(*) FROM outbox_dead_letters) * 10 \
                     + (SELECT count(*) FROM outbox_parked_keys)";
        let state = database.number(count).await;
        assert!(state == 100 || state == 11, "{state}");
        if done.is_some() {
            assert_eq!(state, 11);
            return;
        }
    }
}

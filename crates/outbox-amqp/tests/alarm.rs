//! A memory alarm of the broker. It stops every publisher of the node: these tests have a program of their own, and put the watermark back whatever happens.

mod common;

use std::time::Duration;

use common::broker::{Observer, rabbitmqctl, uri};
use common::running::{Running, append, everything_is_settled};
use common::{Dispatch, message, unique};
use outbox_amqp::{AmqpTransport, AmqpTransportBuilder, Topology};
use outbox_core::relay::HealthReason;
use outbox_testkit::memory::MemoryStorage;
use tokio::sync::Mutex;

static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// A memory alarm, until it is dropped.
struct Alarm;

impl Alarm {
    fn set() -> Self {
        let alarm = Self;
        rabbitmqctl(&["set_vm_memory_high_watermark", "0.00001"]);
        alarm
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        rabbitmqctl(&["set_vm_memory_high_watermark", "0.4"]);
    }
}

fn builder() -> AmqpTransportBuilder {
    AmqpTransport::builder(uri()).exchange("{aggregate_type}").routing_key("all").topology(Topology::Check)
}

#[tokio::test(flavor = "multi_thread")]
async fn during_an_alarm_nothing_is_sent_and_afterwards_everything_goes_on() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let (observer, name) = (Observer::connect().await, unique("alarm"));
    observer.destination(&name).await;
    let transport = builder().stall_timeout(Duration::from_secs(1)).build().expect("a transport");
    let messages: Vec<_> = (0..50).map(|n| message(&name, None, n.to_string().into_bytes())).collect();
    let mut dispatch = Dispatch::open(&transport, &messages[0]).await;
    dispatch.publish(&messages[..1]).await;

    let alarm = Alarm::set();
    let ticket = dispatch.send(&messages[1..2]).await[0]; // the broker says so at the first message
    let reason = dispatch.until_blocked(true).await.expect("a reason");
    assert!(reason.0.contains("the broker blocks publishers: low on memory"), "{reason}");
    dispatch.send_hangs(&messages[2..3]).await; // for longer than a stall may take without the alarm
    assert_eq!(dispatch.reported(ticket), None);

    drop(alarm);
    dispatch.until_blocked(false).await;
    assert_eq!(dispatch.outcome(ticket).await, outbox_core::ports::Outcome::Published);
    dispatch.publish(&messages[2..]).await;
    assert_eq!(observer.payloads(&name).await.len(), 50, "nothing arrived twice");
    observer.delete_exchange(&name).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_shows_the_alarm_in_its_health_and_burns_no_attempt() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let (observer, name) = (Observer::connect().await, unique("alarm"));
    observer.destination(&name).await;
    let storage = MemoryStorage::new(4);
    let relay = Running::start(&storage, builder().build().expect("a transport"));
    append(&storage, &name, "a", 0);
    everything_is_settled(&storage).await;

    let alarm = Alarm::set();
    for n in 1..200 {
        append(&storage, &name, &format!("{}", n % 9), n);
    }
    let reason = relay.health_says(|reason| matches!(reason, HealthReason::Broker(_))).await;
    assert!(reason.contains("the broker blocks publishers: low on memory"), "{reason}");
    assert!(storage.pending().iter().all(|message| message.attempts == 0));

    drop(alarm);
    everything_is_settled(&storage).await;
    relay.is_healthy().await;
    let stats = relay.stop().await.stats;
    assert_eq!((stats.published, stats.dead, stats.lost_sessions), (200, 0, 0), "{stats:?}");
    assert_eq!(observer.payloads(&name).await.len(), 200, "nothing arrived twice");
    observer.delete_exchange(&name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_that_lasts_too_long_ends_the_session_and_a_blocked_session_can_be_dropped() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let (observer, name) = (Observer::connect().await, unique("alarm"));
    observer.destination(&name).await;
    let transport = builder().blocked_timeout(Duration::from_secs(1)).build().expect("a transport");
    let sent = message(&name, None, &b"1"[..]);
    let mut dispatch = Dispatch::open(&transport, &sent).await;
    let alarm = Alarm::set();
    dispatch.send(std::slice::from_ref(&sent)).await;
    let reason = dispatch.lost().await;
    assert!(reason.0.contains("has blocked publishers for 1 s"), "{reason}");
    drop(dispatch);
    drop(alarm);
    Dispatch::open(&transport, &sent).await.publish(std::slice::from_ref(&sent)).await;
    observer.delete_exchange(&name).await;
}

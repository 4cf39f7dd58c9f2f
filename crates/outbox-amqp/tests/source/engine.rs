//! The inbox on RabbitMQ.

use std::time::Duration;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use outbox_amqp::AmqpSource;
use outbox_inbox::{Delivery, Failure, Inbox, InboxConfig, InboxReport};
use outbox_testkit::memory::{MemoryConnection, MemoryInbox};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::common::{eventually, unique};
use crate::queue::{TestQueue, kill_connection};

const KEYS: usize = 40;
const ROUNDS: usize = 10;
const IN_A_ROUND: usize = 1_000;

struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<InboxReport>,
}

fn start(database: &MemoryInbox, source: &AmqpSource) -> Running {
    let apply = async |conn: &mut MemoryConnection, delivery: &Delivery| {
        conn.write(delivery.identity.id().to_owned()).await?;
        Ok::<(), Failure>(())
    };
    let inbox = Inbox::builder(database.clone(), "billing")
        .config(InboxConfig { batch_size: 20, ..InboxConfig::default() })
        .on_raw("order.placed", apply)
        .source(source.clone())
        .build()
        .expect("an inbox");
    let (stop, stopped) = oneshot::channel();
    let task =
        tokio::spawn(async move { inbox.run(async move { drop(stopped.await) }).await.expect("the inbox runs") });
    Running { stop, task }
}

fn event(number: usize) -> (BasicProperties, Vec<u8>) {
    let (id, subject) = (format!("{number:05}"), format!("key-{}", number % KEYS));
    let mut headers = FieldTable::default();
    for (name, value) in
        [("specversion", "1.0"), ("id", &id), ("source", "/shop"), ("type", "order.placed"), ("subject", &subject)]
    {
        headers.insert(format!("cloudEvents_{name}").as_str().into(), AMQPValue::LongString(value.into()));
    }
    (BasicProperties::default().with_headers(headers), b"{}".to_vec())
}

/// Each message of a round, one in three a second time later, and some of earlier rounds again.
fn with_copies(round: usize) -> Vec<(BasicProperties, Vec<u8>)> {
    let mut events = Vec::new();
    for number in round * IN_A_ROUND..(round + 1) * IN_A_ROUND {
        events.push(event(number));
        if number % 3 == 0 {
            events.push(event(number - number % 50));
        }
        if number % 7 == 0 {
            events.push(event(number / 2));
        }
    }
    events
}

async fn end(running: Running) -> InboxReport {
    running.stop.send(()).expect("the inbox still runs");
    tokio::time::timeout(Duration::from_secs(30), running.task).await.expect("it ends").expect("no panic")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_id_is_applied_once_and_in_the_order_of_its_key_while_consumers_and_connections_come_and_go() {
    let (queue, database, name) = (TestQueue::quorum().await, MemoryInbox::new(), unique("inbox"));
    let source = queue.builder().prefetch(200).connection_name(&*name).build().expect("a source");
    let mut running = vec![start(&database, &source)];
    for round in 0..ROUNDS {
        queue.publish(with_copies(round)).await;
        match round % 5 {
            0 | 1 => running.push(start(&database, &source)),
            2 => drop(end(running.remove(0)).await),
            3 => running.remove(0).task.abort(), // a crash: nothing more is acknowledged
            _ => kill_connection(&name).await,
        }
        let half = (round + 1) * IN_A_ROUND / 2;
        eventually("half of it is applied", || async { (database.effects().len() >= half).then_some(()) }).await;
    }
    let all = ROUNDS * IN_A_ROUND;
    eventually("all is applied", || async { (database.effects().len() >= all).then_some(()) }).await;
    queue.until_counted(0, 0).await;
    let mut duplicates = 0;
    for one in running {
        duplicates += end(one).await.stats.duplicates;
    }
    assert!(duplicates > 0, "no duplicate came to those that ran at the end");
    let effects: Vec<usize> = database.effects().iter().map(|id| id.parse().expect("a number")).collect();
    for key in 0..KEYS {
        let of_key: Vec<_> = effects.iter().copied().filter(|number| number % KEYS == key).collect();
        assert_eq!(of_key, (key..all).step_by(KEYS).collect::<Vec<_>>(), "key {key}");
    }
    queue.remove().await;
}

//! The inbox on Kafka.

use std::time::Duration;

use outbox_core::inbox::Consumer;
use outbox_inbox::{Delivery, Failure, Inbox, InboxConfig, InboxReport};
use outbox_kafka::KafkaSource;
use outbox_testkit::memory::{MemoryConnection, MemoryInbox};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::common::{eventually, unique};
use crate::topic::{Topic, committed};

const KEYS: usize = 40;

struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<InboxReport>,
}

fn start(database: &MemoryInbox, source: &KafkaSource, group: &Consumer) -> Running {
    let apply = async |conn: &mut MemoryConnection, delivery: &Delivery| {
        conn.write(delivery.identity.id().to_owned()).await?;
        Ok::<(), Failure>(())
    };
    let inbox = Inbox::builder(database.clone(), group.as_str())
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

fn publish(topic: &Topic, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let id = format!("{number:05}");
        let headers = [("ce_specversion", "1.0"), ("ce_id", &*id), ("ce_source", "/shop"), ("ce_type", "order.placed")];
        topic.publish(&format!("key-{}", number % KEYS), &headers, b"{}");
    }
    topic.flush();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_id_is_applied_once_and_in_the_order_of_its_key_while_consumers_come_and_go() {
    let group = Consumer::new(&unique("billing")).expect("a valid name");
    let (topic, database) = (Topic::create(8).await, MemoryInbox::new());
    let source = topic.source();
    let mut running = vec![start(&database, &source, &group)];
    for round in 0..12 {
        publish(&topic, round * 500..(round + 1) * 500);
        match round % 4 {
            0 | 1 => running.push(start(&database, &source, &group)),
            2 => {
                let leaver = running.remove(0);
                leaver.stop.send(()).expect("the inbox still runs");
                leaver.task.await.expect("no panic");
            }
            _ => running.remove(0).task.abort(), // a crash: nothing more is acknowledged
        }
        let half = (round + 1) * 250;
        eventually("half of it is applied", || async { (database.effects().len() >= half).then_some(()) }).await;
    }
    running.push(start(&database, &source, &group));
    eventually("all is applied", || async { (database.effects().len() >= 6_000).then_some(()) }).await;
    eventually("all is committed", || async {
        let mut all = 0;
        for partition in 0..8 {
            all += committed(&group, &topic.name, partition).await.unwrap_or(0);
        }
        (all == 6_000).then_some(())
    })
    .await;
    for one in running {
        one.stop.send(()).expect("the inbox still runs");
        tokio::time::timeout(Duration::from_secs(30), one.task).await.expect("it ends").expect("no panic");
    }

    let effects: Vec<usize> = database.effects().iter().map(|id| id.parse().expect("a number")).collect();
    for key in 0..KEYS {
        let of_key: Vec<_> = effects.iter().copied().filter(|number| number % KEYS == key).collect();
        assert_eq!(of_key, (key..6_000).step_by(KEYS).collect::<Vec<_>>(), "key {key}");
    }
}

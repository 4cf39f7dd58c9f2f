use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use outbox_core::Event;
use outbox_core::inbox::{Acknowledging, Consumer, InboxDeadLetter, InboxStorage as _, IncomingHeaders};
use outbox_inbox::{Delivery, Inbox, InboxConfig, InboxError, InboxHandle, InboxReport};
use outbox_testkit::memory::{MemoryConnection, MemoryInbox, MemorySource};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Longest virtual time that a condition may take.
const PATIENCE: Duration = Duration::from_secs(600);

#[derive(serde::Serialize, serde::Deserialize)]
pub(crate) struct OrderPlaced {
    pub(crate) order: String,
    pub(crate) n: u32,
}

impl Event for OrderPlaced {
    const AGGREGATE_TYPE: &'static str = "order";
    const EVENT_TYPE: &'static str = "order.placed";

    fn aggregate_id(&self) -> Option<String> {
        Some(self.order.clone())
    }
}

/// What the handler does with a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Whim {
    Fail(usize),
    Panic(usize),
    Hang(usize),
    Swallow(usize),
    /// The connection is lost, and the handler returns the error.
    Lose(usize),
    /// The connection is lost after a second, and the handler returns the error.
    LoseSlowly(usize),
    /// The connection is lost, and the handler panics over it.
    LoseAndPanic(usize),
}

/// A consumer's surroundings: a database, a broker, and a handler with whims.
#[derive(Clone)]
pub(crate) struct Shop {
    pub(crate) database: MemoryInbox,
    pub(crate) source: MemorySource,
    pub(crate) consumer: Consumer,
    whims: Arc<Mutex<Vec<(String, Whim)>>>,
    pub(crate) calls: Arc<AtomicUsize>,
}

impl Shop {
    pub(crate) fn new(acknowledging: Acknowledging, partitions: i32) -> Self {
        Self {
            database: MemoryInbox::new(),
            source: MemorySource::new(acknowledging, partitions, &["order"]),
            consumer: Consumer::new("billing").unwrap(),
            whims: Arc::default(),
            calls: Arc::default(),
        }
    }

    /// Publishes message number `n` of a key; its id is `key-n`.
    pub(crate) fn publish(&self, key: &str, n: u32) {
        let payload = serde_json::to_vec(&OrderPlaced { order: key.to_owned(), n }).unwrap();
        self.source.publish("order", Some(key), headers(&format!("{key}-{n}"), "order.placed"), &payload);
    }

    /// The handler does this when it gets the message with this id.
    pub(crate) fn on(&self, id: &str, whim: Whim) {
        self.whims.lock().unwrap_or_else(PoisonError::into_inner).push((id.to_owned(), whim));
    }

    fn whim(&self, id: &str) -> Option<Whim> {
        let mut whims = self.whims.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, whim) = whims.iter_mut().find(|(other, _)| other == id)?;
        let (Whim::Fail(left)
        | Whim::Panic(left)
        | Whim::Hang(left)
        | Whim::Swallow(left)
        | Whim::Lose(left)
        | Whim::LoseSlowly(left)
        | Whim::LoseAndPanic(left)) = whim;
        if *left == 0 {
            return None;
        }
        *left -= 1;
        Some(whim.clone())
    }

    pub(crate) fn inbox(&self, config: InboxConfig) -> Inbox<MemoryInbox> {
        let shop = self.clone();
        Inbox::builder(self.database.clone(), "billing")
            .config(config)
            .on_with(shop, async |shop: &Shop, conn: &mut MemoryConnection, event: OrderPlaced, delivery: &Delivery| {
                shop.calls.fetch_add(1, Ordering::Relaxed);
                conn.write(format!("{}-{}", event.order, event.n)).await?;
                match shop.whim(delivery.identity.id()) {
                    Some(Whim::Fail(_)) => return Err("the card was refused".into()),
                    Some(Whim::Panic(_)) => panic!("no such card"),
                    Some(Whim::Hang(_)) => std::future::pending().await,
                    Some(Whim::Swallow(_)) => conn.ruin(),
                    Some(whim @ (Whim::Lose(_) | Whim::LoseSlowly(_))) => {
                        if matches!(whim, Whim::LoseSlowly(_)) {
                            tokio::time::sleep(Duration::from_secs(1)).await;
                        }
                        conn.lose();
                        conn.write("after the loss").await?;
                    }
                    Some(Whim::LoseAndPanic(_)) => {
                        conn.lose();
                        conn.write("after the loss").await.expect("the connection is there");
                    }
                    None => {}
                }
                Ok::<(), outbox_inbox::Failure>(())
            })
            .source(self.source.clone())
            .build()
            .unwrap()
    }

    pub(crate) fn start(&self, config: InboxConfig) -> Running {
        let inbox = self.inbox(config);
        let handle = inbox.handle();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(inbox.run(async move { drop(stopped.await) }));
        Running { handle, stop, task }
    }

    pub(crate) fn effects_of(&self, key: &str) -> Vec<u32> {
        let number = |effect: String| effect.strip_prefix(&format!("{key}-"))?.parse().ok();
        self.database.effects().into_iter().filter_map(number).collect()
    }

    pub(crate) async fn dead_letters(&self) -> Vec<InboxDeadLetter> {
        self.database.admin().dead_letters(&self.consumer, 0, 1_000).await.unwrap()
    }

    pub(crate) async fn until_all_is_acknowledged(&self) {
        until("all is acknowledged", || self.source.unacknowledged(&self.consumer) == 0).await;
    }
}

pub(crate) struct Running {
    pub(crate) handle: InboxHandle,
    stop: oneshot::Sender<()>,
    pub(crate) task: JoinHandle<Result<InboxReport, InboxError>>,
}

impl Running {
    pub(crate) async fn stop(self) -> InboxReport {
        self.stop.send(()).expect("the inbox still runs");
        self.task.await.expect("the inbox does not panic").expect("the inbox runs")
    }

    pub(crate) fn crash(self) {
        self.task.abort();
    }
}

pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let waited = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waited).await.unwrap_or_else(|_| panic!("this never came true: {what}"));
}

pub(crate) fn headers(id: &str, event_type: &str) -> IncomingHeaders {
    let mut headers = IncomingHeaders::default();
    headers.push("ce_id", id.to_owned());
    headers.push("ce_source", "/shop");
    headers.push("ce_type", event_type.to_owned());
    headers
}

/// Short waits, for tests that count on several attempts.
pub(crate) fn quick() -> InboxConfig {
    let mut config = InboxConfig::default();
    config.retry.initial = Duration::from_millis(100);
    config
}

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use outbox_core::ports::Reason;
use rdkafka::producer::{Producer as _, PurgeConfig};

use crate::deliveries::Producer;
use crate::watchdog::{Stall, UNREACHABLE, Watchdog};

/// How long one poll waits for events before stalls and the end of the session are looked at.
const POLL: Duration = Duration::from_millis(50);

/// How long a fatal producer may wait for answers to what is on the wire. Each answer is a duplicate less.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// How long the reports of purged messages may take: they need no broker.
const PURGE: Duration = Duration::from_secs(1);

/// Starts the thread that serves a producer: it polls, watches for stalls, ends the session when it failed, and destroys the producer when
/// nobody else holds it. So nothing that blocks ever runs on a thread of the async runtime.
pub(crate) fn start(producer: Arc<Producer>, mut watchdog: Watchdog) -> io::Result<()> {
    let serve = move || {
        let mut has_ended = false;
        while Arc::strong_count(&producer) > 1 {
            producer.poll(POLL);
            let deliveries = producer.context();
            if deliveries.is_open()
                && let Some((code, text)) = producer.client().fatal_error()
            {
                deliveries.fail(Reason::new(format!("fatal producer error: {code}: {text}")));
            }
            if !deliveries.is_open() {
                if let Some(fault) = deliveries.fault().filter(|_| !has_ended) {
                    end(&producer, fault);
                    has_ended = true;
                }
                continue;
            }
            let unreachable = deliveries.is_unreachable();
            let stall = watchdog.check(deliveries.window().slots(), Instant::now(), unreachable);
            if let Some(stall) = stall {
                deliveries.fail(reason_of(&stall, unreachable));
            }
        }
        // A purge that was begun by `Drop` of the session is completed by the producer's own, here.
        drop(producer);
    };
    thread::Builder::new().name("outbox-kafka".to_owned()).spawn(serve).map(drop)
}

/// Collects the reports that still come, then tells the relay.
fn end(producer: &Producer, fault: Reason) {
    if producer.client().fatal_error().is_some() {
        let _ = producer.flush(LAST_ANSWERS);
    }
    producer.purge(PurgeConfig::default().queue().inflight());
    let _ = producer.flush(PURGE);
    producer.context().lose(fault);
}

fn reason_of(stall: &Stall, unreachable: bool) -> Reason {
    let Stall { topic, partition, quiet, in_flight } = stall;
    let cause = if unreachable {
        format!("no kafka broker has been connected for {} s or more", UNREACHABLE.as_secs().min(quiet.as_secs()))
    } else {
        "check the partition's leader and its in-sync replicas (min.insync.replicas)".to_owned()
    };
    Reason::new(format!(
        "topic {topic} partition {partition} confirmed none of {in_flight} messages for {} s: {cause}",
        quiet.as_secs()
    ))
}

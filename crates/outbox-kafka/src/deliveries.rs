use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use outbox_core::ports::{Outcome, OutcomeSink, Reason, Ticket};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, DeliveryResult, Producer as _, ProducerContext, PurgeConfig};

use crate::outcome::{Verdict, verdict};
use crate::window::Window;

pub(crate) type Producer = BaseProducer<Deliveries>;

/// Turns what librdkafka reports into outcomes, on the thread that polls the producer.
pub(crate) struct Deliveries {
    window: Mutex<Window>,
    sink: OutcomeSink,
    state: AtomicU8,
    /// Why the session ends, set with [`FAILING`].
    fault: Mutex<Option<Reason>>,
    unreachable: AtomicBool,
    last_error: Mutex<Option<ClientError>>,
    producer: OnceLock<Weak<Producer>>,
}

/// What librdkafka said last about its connections.
#[derive(Debug, Clone)]
pub(crate) struct ClientError {
    pub(crate) text: String,
    /// Whether trying again cannot help by itself (wrong credentials, wrong certificate).
    pub(crate) is_permanent: bool,
}

/// Messages are taken.
const OPEN: u8 = 0;
/// Nothing is handed over any more; the reports that are on their way are collected.
const FAILING: u8 = 1;
/// The session is over: nothing is reported any more.
const OVER: u8 = 2;

impl Deliveries {
    pub(crate) fn new(sink: OutcomeSink) -> Self {
        Self {
            window: Mutex::default(),
            sink,
            state: AtomicU8::new(OPEN),
            fault: Mutex::default(),
            unreachable: AtomicBool::new(false),
            last_error: Mutex::default(),
            producer: OnceLock::new(),
        }
    }

    /// Names the producer that this context belongs to, which can only be known after it was made.
    pub(crate) fn belongs_to(&self, producer: Weak<Producer>) {
        let _ = self.producer.set(producer);
    }

    pub(crate) fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.state.load(Ordering::Acquire) == OPEN
    }

    /// Whether no broker was connected when librdkafka last said so, and nothing was confirmed since.
    pub(crate) fn is_unreachable(&self) -> bool {
        self.unreachable.load(Ordering::Relaxed)
    }

    pub(crate) fn last_error(&self) -> Option<ClientError> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reports an outcome, unless the session is over.
    pub(crate) fn report(&self, ticket: Ticket, outcome: Outcome) {
        if self.state.load(Ordering::Acquire) != OVER {
            self.sink.report(ticket, outcome);
        }
    }

    /// Stops handing over, takes back what was not sent yet, and remembers why. The thread that polls ends the session.
    pub(crate) fn fail(&self, reason: Reason) {
        if self.state.compare_exchange(OPEN, FAILING, Ordering::AcqRel, Ordering::Acquire).is_err() {
            return;
        }
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
        if let Some(producer) = self.producer.get().and_then(Weak::upgrade) {
            // At once, and not by the thread that polls when it comes around: a follower of the failed message must not leave. A fatal producer
            // sends nothing more, so that its requests that are on the wire may still be answered.
            let purge = PurgeConfig::default().queue().non_blocking();
            let is_fatal = producer.client().fatal_error().is_some();
            producer.purge(if is_fatal { purge } else { purge.inflight() });
        }
    }

    /// Why the session fails, when it does.
    pub(crate) fn fault(&self) -> Option<Reason> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells the relay that the session is lost. The last thing it hears of this session.
    pub(crate) fn lose(&self, reason: Reason) {
        if self.state.swap(OVER, Ordering::AcqRel) != OVER {
            tracing::warn!(%reason, "kafka session lost");
            self.sink.session_lost(reason);
        }
    }

    /// Ends the session without a word: the relay ended it.
    pub(crate) fn end(&self) {
        self.state.store(OVER, Ordering::Release);
    }

    fn failed(&self, ticket: Ticket, code: RDKafkaErrorCode, topic: &str, has_followers: bool) {
        match verdict(code, topic) {
            Verdict::Purged => {}
            Verdict::Message(outcome) => {
                tracing::debug!(topic, %code, "kafka refused a message");
                self.report(ticket, outcome);
                if has_followers {
                    let text =
                        format!("topic {topic}: {code}: a message failed with followers of its partition in flight");
                    self.fail(Reason::new(text));
                }
            }
            Verdict::Session(reason) => self.fail(reason),
        }
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, key: usize) {
        let Some(reported) = self.window().report(key) else { return };
        match result {
            Ok(_) => {
                if self.is_unreachable() {
                    self.unreachable.store(false, Ordering::Relaxed);
                }
                self.report(reported.ticket, Outcome::Published);
            }
            Err((error, message)) => {
                let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
                self.failed(reported.ticket, code, message.topic(), reported.has_followers);
            }
        }
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log(level, facility, text);
    }

    fn stats_raw(&self, _: &[u8]) {
        // metrics are made by the relay, around the ports
    }

    fn error(&self, error: KafkaError, text: &str) {
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
        match code {
            RDKafkaErrorCode::AllBrokersDown => {
                tracing::warn!(text, "no kafka broker is connected");
                self.unreachable.store(true, Ordering::Relaxed);
            }
            _ => {
                tracing::debug!(%code, text, "kafka client error");
                let is_permanent = matches!(code, RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL);
                let mut last = self.last_error.lock().unwrap_or_else(PoisonError::into_inner);
                *last = Some(ClientError { text: text.to_owned(), is_permanent });
            }
        }
    }
}

pub(crate) fn log(level: RDKafkaLogLevel, facility: &str, text: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
            // librdkafka's own severity; what it means for the relay is reported as an outcome
            tracing::warn!(facility, text, "librdkafka");
        }
        _ => tracing::debug!(facility, text, "librdkafka"),
    }
}

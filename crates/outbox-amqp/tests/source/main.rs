//! The source of the inbox, on a real RabbitMQ. `OUTBOX_TEST_AMQP` names one with TLS at `OUTBOX_TEST_AMQPS`.

#[path = "../common/mod.rs"]
mod common;

mod conformance;
mod engine;
mod faults;
mod member;
mod prefetch;
mod queue;
mod queues;
mod records;
mod takeover;

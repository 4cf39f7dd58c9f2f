//! Fault runs of the inbox: a producer sends every message up to five times, consumer processes are killed, paused, join and leave, and
//! what was applied is counted in SQL.

mod consumer;
mod database;
mod fleet;
mod handlers;
mod lag;
mod options;
mod plan;
mod producer;
mod report;
mod run;
mod stage;
mod storm;
mod stream;
mod tally;

pub(crate) use consumer::run as consume;
pub(crate) use options::{ConsumerOptions, InboxOptions};
pub(crate) use run::run;

/// Name of the consumer whose processes a run starts, and so of their consumer group.
const CONSUMER: &str = "fault-run-consumer";

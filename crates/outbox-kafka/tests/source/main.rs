//! The source of the inbox, on a real Kafka. `OUTBOX_TEST_KAFKA` names one with auto-creation of topics off.

#[path = "../common/mod.rs"]
mod common;

mod bad_input;
mod conformance;
mod engine;
mod faults;
mod groups;
mod member;
mod records;
mod starts;
mod topic;

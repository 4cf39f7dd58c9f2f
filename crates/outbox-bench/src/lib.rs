//! Benchmarks of the relay and the inbox on real databases and brokers: drains beside a row-claiming baseline and the physical limits, latency, memory,
//! and what other transactions, backlogs and waiting rows do to them.
//!
//! Variants are interleaved, figures are medians with their range, and every drain is checked on the broker's side.

pub mod bench;
pub mod consumers;
pub mod measurements;
pub mod options;
pub mod relays;
pub mod report;
pub mod services;
pub mod workload;

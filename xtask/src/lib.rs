//! Tasks of the workspace, as a library: services for tests and benchmarks, checks, and the commands of `cargo xtask`.
//!
//! [`services::Services`] is what other tasks build on: real databases and brokers that are started, restarted, crashed
//! and stopped from a program, and that never outlive it.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a task reports its progress to the terminal

pub mod commands;
pub mod deadline;
pub mod folders;
pub mod interrupt;
pub mod metadata;
pub mod run;
pub mod services;
pub mod stages;

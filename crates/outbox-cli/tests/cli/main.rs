//! The built `outbox` command, from the outside.

mod demo;
mod migrate;
mod rabbitmq;
mod refusals;
mod relay;
mod support;

//! The measurements, one a file.

mod append;
mod backlog;
mod drain;
mod fleet;
mod held;
mod inbox;
mod inserts;
mod keys;
mod large;
mod latency;
mod memory;
mod mysql;
mod rabbitmq;
mod timed;
mod waiting;

use anyhow::{Context, Result};

use crate::bench::Bench;
use crate::report::{Machine, Measurement, Report};
use large::Large;

/// Runs those that were asked for.
///
/// # Errors
///
/// A service or a relay fails.
pub async fn run(bench: &Bench) -> Result<Report> {
    let mut measurements = Vec::new();
    let wants = |letter: &str| bench.options.wants(letter);
    if wants("a") {
        measurements.push(drain::drain(bench).await.context("(a) drain")?);
    }
    if wants("b") {
        measurements.push(keys::keys(bench).await.context("(b) few keys")?);
    }
    if wants("c") || wants("g") {
        let large = Large::seed(bench).await.context("(c), (g) large backlog")?;
        if wants("c") {
            measurements.push(backlog::backlog(bench, &large).await.context("(c) backlog")?);
        }
        if wants("g") {
            measurements.push(memory::memory(bench, &large).await.context("(g) memory")?);
        }
        large.remove(bench).await?;
    }
    if wants("d") {
        measurements.push(held::held(bench).await.context("(d) open transactions")?);
    }
    if wants("e") {
        measurements.push(writers(bench).await.context("(e) latency and append")?);
    }
    if wants("f") {
        measurements.push(fleet::fleet(bench).await.context("(f) several relays")?);
    }
    if wants("h") {
        measurements.push(waiting::waiting(bench).await.context("(h) waiting rows")?);
    }
    if wants("i") {
        measurements.push(rabbitmq::rabbitmq(bench).await.context("(i) RabbitMQ")?);
    }
    if wants("j") {
        measurements.push(mysql::mysql(bench).await.context("(j) MariaDB")?);
    }
    if wants("k") {
        measurements.push(inserts::inserts(bench).await.context("(k) producers on MariaDB")?);
    }
    if wants("l") {
        measurements.push(inbox::inbox(bench).await.context("(l) inbox")?);
    }
    measurements.sort_by_key(|measurement| measurement.letter);
    Ok(Report { machine: Machine::here(bench.server_version().await?), measurements })
}

/// (e) What writers see.
async fn writers(bench: &Bench) -> Result<Measurement> {
    let mut measurement = Measurement::new('e', "latency at 200 events/s of 8 writers, and the cost of an append");
    latency::latency(bench, &mut measurement).await?;
    append::append(bench, &mut measurement).await?;
    Ok(measurement)
}

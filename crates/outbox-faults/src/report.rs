use std::time::Duration;

use anyhow::Result;
use comfy_table::{Table, presets::ASCII_FULL_CONDENSED};

use crate::{
    faults::Injected,
    options::BrokerKind,
    run::{Outcome, WINDOW},
    verify::{Record, attribute},
};

/// What a take-over may take beyond the lease.
const TAKE_OVER_MARGIN: Duration = Duration::from_secs(1);
/// Lines of each kind of finding that are printed.
const EXAMPLES: usize = 5;

/// Prints the tables of a run; whether every promise was kept.
pub(crate) fn print(outcome: &Outcome) -> Result<bool> {
    let begun: Vec<i64> = outcome.injected.iter().map(|fault| fault.begun_at_ms).collect();
    let (before, after) = attribute(&outcome.findings.duplicates_at_ms, &begun);
    let mut wrong = Vec::new();
    println!("{}", faults(outcome, &after, &mut wrong));
    println!("{}", totals(outcome, before, &mut wrong));
    said(outcome);
    for (what, examples) in [
        ("lost", &outcome.findings.lost),
        ("ghost", &outcome.findings.ghosts),
        ("out of order", &outcome.findings.disorder),
        ("dead letter", &outcome.findings.wrongly_dead),
    ] {
        examples.iter().take(EXAMPLES).for_each(|example| println!("{what}: {example}"));
    }
    if let Some(error) = &outcome.writers.last_failure {
        println!("a writer's last failure: {error}");
    }
    for violation in &wrong {
        println!("VIOLATION: {violation}");
    }
    if wrong.is_empty() {
        println!("every promise was kept");
    } else {
        println!("run it again with --seed {}", outcome.seed);
    }
    Ok(wrong.is_empty())
}

fn faults(outcome: &Outcome, duplicates: &[usize], wrong: &mut Vec<String>) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_FULL_CONDENSED);
    table.set_header(["#", "fault", "shards", "taken over", "delivered again", "duplicates", "window"]);
    let limit = outcome.options.lease + TAKE_OVER_MARGIN;
    for (number, (fault, &duplicates)) in outcome.injected.iter().zip(duplicates).enumerate() {
        let number = number + 1;
        let name = fault.step.fault.text(outcome.options.database, outcome.options.broker);
        let window = WINDOW * fault.step.fault.affected_relays();
        wrong.extend(fault.wrong.iter().map(|what| format!("fault {number} ({name}): {what}")));
        if duplicates > window {
            wrong.push(format!("fault {number} ({name}) made {duplicates} duplicates, its window is {window}"));
        }
        if fault.victim.is_some() && fault.taken_over.is_none_or(|time| time > limit) {
            let took = fault.taken_over.map_or("not at all".to_owned(), seconds);
            wrong.push(format!("fault {number} ({name}): taken over {took}, the limit is {}", seconds(limit)));
        }
        let (shards, taken_over) = match fault.victim {
            Some(_) => (fault.shards.len().to_string(), fault.taken_over.map_or("never".to_owned(), seconds)),
            None => (String::new(), String::new()),
        };
        let again = delivered_again(outcome, fault);
        if let Some(time) = again.filter(|&time| fault.victim.is_some() && time > limit) {
            let (time, limit) = (seconds(time), seconds(limit));
            wrong.push(format!("fault {number} ({name}): delivered again after {time}, the limit is {limit}"));
        }
        table.add_row([
            number.to_string(),
            name,
            shards,
            taken_over,
            again.map_or(String::new(), seconds),
            duplicates.to_string(),
            window.to_string(),
        ]);
    }
    table
}

/// Until the first record came again: for a relay that was hit, of one of its shards by another relay; for a server, any, counted from
/// when it answered again.
fn delivered_again(outcome: &Outcome, fault: &Injected) -> Option<Duration> {
    let source = fault.victim.as_ref().map(|victim| format!("/{victim}"));
    let is_again = |record: &&Record| match &source {
        Some(source) => {
            record.source != *source
                && outcome.shards.get(&record.key).is_some_and(|shard| fault.shards.contains(shard))
        }
        None => true,
    };
    let later = outcome.read.records.iter().filter(|record| record.appended_at_ms >= fault.possible_at_ms);
    let first = later.filter(is_again).map(|record| record.appended_at_ms).min()?;
    Some(Duration::from_millis(u64::try_from(first - fault.possible_at_ms).unwrap_or_default()))
}

fn totals(outcome: &Outcome, unexplained: usize, wrong: &mut Vec<String>) -> Table {
    let findings = &outcome.findings;
    let swept: u64 = outcome.relays.iter().map(|relay| relay.swept).sum();
    for (what, count) in [
        ("lost events", findings.lost.len()),
        ("ghosts", findings.ghosts.len()),
        ("order violations", findings.disorder.len()),
        ("duplicates before any fault", unexplained),
        ("wrong dead letters", findings.wrongly_dead.len()),
    ] {
        if count > 0 {
            wrong.push(format!("{count} {what}"));
        }
    }
    let mut table = Table::new();
    table.load_style(ASCII_FULL_CONDENSED);
    let longest = outcome.injected.iter().filter_map(|fault| fault.taken_over).max();
    for (name, value) in [
        ("events committed", outcome.committed.to_string()),
        ("events rolled back on purpose", outcome.writers.rolled_back.to_string()),
        ("transactions cut off by a server", outcome.writers.failed.to_string()),
        ("records read from the broker", outcome.read.records.len().to_string()),
        ("lost", findings.lost.len().to_string()),
        ("ghosts", findings.ghosts.len().to_string()),
        ("order violations", findings.disorder.len().to_string()),
        ("duplicates", format!("{} ({unexplained} before any fault)", findings.duplicates_at_ms.len())),
        ("found by the sweep only", swept.to_string()),
        ("longest take-over", longest.map_or(String::new(), seconds)),
        ("lease", seconds(outcome.options.lease)),
        ("seed", outcome.seed.to_string()),
        ("time", seconds(outcome.began_at.elapsed())),
    ] {
        table.add_row([name.to_owned(), value]);
    }
    if outcome.options.broker == BrokerKind::Rabbitmq {
        table.add_row(["given out again by the broker".to_owned(), outcome.read.redelivered.to_string()]);
        table.add_row(["dead letters of unroutable events".to_owned(), findings.rightly_dead.to_string()]);
    }
    table
}

/// What the relays said of the faults that they must explain.
fn said(outcome: &Outcome) {
    for (number, fault) in outcome.injected.iter().enumerate() {
        if let Some(health) = &fault.health {
            println!("during fault {}: {health}", number + 1);
        }
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

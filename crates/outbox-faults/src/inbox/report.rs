use comfy_table::{Table, presets::ASCII_FULL_CONDENSED};

use super::{options::Scenario, run::Outcome};

/// Cases of each finding that are printed.
const EXAMPLES: usize = 5;

/// Prints the tables of a run; whether every promise was kept.
pub(super) fn print(outcome: &Outcome) -> bool {
    if !outcome.injected.is_empty() {
        println!("{}", faults(outcome));
    }
    println!("{}", totals(outcome));
    let mut wrong = Vec::new();
    for finding in &outcome.findings {
        finding.cases.iter().take(EXAMPLES).for_each(|case| println!("{}: {case}", finding.what));
        wrong.push(format!("{} × {}", finding.cases.len(), finding.what));
    }
    if outcome.options.scenario == Scenario::Deadlocks && outcome.deadlocks == 0 {
        wrong.push("no deadlock happened: the run shows nothing".to_owned());
    }
    if outcome.failing > 0 && outcome.tally.failed == 0 {
        wrong.push("no attempt failed: the run shows nothing".to_owned());
    }
    if outcome.tally.duplicates == 0 {
        wrong.push("no duplicate was seen: the run shows nothing".to_owned());
    }
    for violation in &wrong {
        println!("VIOLATION: {violation}");
    }
    if wrong.is_empty() {
        println!("every promise was kept");
    } else {
        println!("run it again with --seed {}", outcome.seed);
    }
    wrong.is_empty()
}

fn faults(outcome: &Outcome) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_FULL_CONDENSED);
    table.set_header(["#", "fault", "consumer", "messages applied by then"]);
    for (number, fault) in outcome.injected.iter().enumerate() {
        table.add_row([
            (number + 1).to_string(),
            fault.fault.text(outcome.options.database, outcome.options.broker),
            fault.victim.clone().unwrap_or_default(),
            fault.applied.to_string(),
        ]);
    }
    table
}

fn totals(outcome: &Outcome) -> Table {
    let (tally, options) = (&outcome.tally, &outcome.options);
    let mut table = Table::new();
    table.load_style(ASCII_FULL_CONDENSED);
    let mut row = |name: &str, value: String| {
        table.add_row([name.to_owned(), value]);
    };
    row("messages", options.messages.to_string());
    row("records sent", outcome.sent.to_string());
    if let Some(storm) = outcome.storm {
        let text = format!("{} joined, {} left, {} killed", storm.joined, storm.left, storm.killed);
        row("consumers", text);
        row("applied when the storm ended", storm.applied.to_string());
        row("messages that fail twice", outcome.failing.to_string());
    }
    for finding in &outcome.findings {
        row(finding.what, finding.cases.len().to_string());
    }
    // a consumer that is killed takes its last quarter of a second with it
    row("received, by the consumers' own count", tally.received.to_string());
    row("applied, by the same count", tally.processed.to_string());
    row("duplicates seen", tally.duplicates.to_string());
    row("put aside", tally.held.to_string());
    row("failed attempts", tally.failed.to_string());
    row("transactions", tally.transactions.to_string());
    row("transactions done again", tally.rolled_back.to_string());
    row("deadlocks, by the server's count", outcome.deadlocks.to_string());
    row("partitions taken away", tally.lost_partitions.to_string());
    row("claims lost", tally.lost_claims.to_string());
    row("drained after", format!("{:.2} s", outcome.drained_after.as_secs_f64()));
    row("seed", outcome.seed.to_string());
    row("time", format!("{:.2} s", outcome.began_at.elapsed().as_secs_f64()));
    table
}

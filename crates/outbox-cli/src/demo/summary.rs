//! The table at the end.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use comfy_table::{Cell, CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use console::style;
use uuid::Uuid;

use super::{
    books::Books,
    broker::Arrival,
    tally::{Counts, Kills},
    verify::Verdict,
    writers::Commit,
};
use crate::{
    output,
    values::{grouped, spoken},
};

/// Times from commit to arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Latency {
    p50: Duration,
    p99: Duration,
}

impl Latency {
    /// Of all first deliveries; `None` when there are none.
    pub(super) fn of(commits: &[Commit], arrivals: &[Arrival]) -> Option<Self> {
        let mut committed: HashMap<Uuid, Instant> =
            commits.iter().flat_map(|commit| commit.ids.iter().map(|id| (*id, commit.at))).collect();
        // The relay may deliver before the writer has looked at its clock after the commit: that counts as 0.
        let mut times: Vec<Duration> = arrivals
            .iter()
            .filter_map(|arrival| Some(arrival.at.saturating_duration_since(committed.remove(&arrival.event.id)?)))
            .collect();
        times.sort_unstable();
        let at =
            |share: f64| times.get(((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1))).copied();
        Some(Self { p50: at(0.5)?, p99: at(0.99)? })
    }
}

/// Everything that the table shows.
pub(super) struct Summary {
    pub(super) counts: Counts,
    /// Of a demo with chaos.
    pub(super) kills: Option<Kills>,
    pub(super) committed: u64,
    pub(super) verdict: Verdict,
    pub(super) books: Books,
    /// Deliveries that the inbox knew already.
    pub(super) recognised: u64,
    pub(super) latency: Option<Latency>,
    pub(super) took: Duration,
}

impl Summary {
    /// Whether the promise was kept, to the broker and to the balances.
    pub(super) fn holds(&self) -> bool {
        self.verdict.holds() && self.books.hold()
    }

    /// Prints the table and the verdict in words.
    pub(super) fn print(&self) {
        let (verdict, books) = (&self.verdict, &self.books);
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED);
        table.set_header([
            Cell::new("what"),
            Cell::new("count").set_alignment(CellAlignment::Right),
            Cell::new("how it was checked"),
        ]);
        let mut row = |what: &str, count: String, how: &str| {
            table.add_row([Cell::new(what), Cell::new(count).set_alignment(CellAlignment::Right), Cell::new(how)]);
        };
        row("committed", grouped(self.committed), "the database's own record");
        row("rolled back on purpose", grouped(self.counts.rolled_back), "must never be published");
        row("delivered", grouped(self.counts.delivered), "read from the broker");
        row("lost", judged(verdict.lost), "committed, not on the broker");
        row("ghosts", judged(verdict.ghosts), "on the broker, not committed");
        row("out of order", judged(verdict.out_of_order), "after a later one of its key");
        row("altered", judged(verdict.altered), "not what was committed");
        row("duplicates", grouped(verdict.duplicates), "allowed after a fault, counted");
        row("applied", grouped(books.applied), "the balances' own count");
        row("wrong balances", judged(books.wrong), &format!("of {}, from the orders by SQL", grouped(books.accounts)));
        let difference = books.cents.abs_diff(books.committed_cents);
        row(
            "cents too many or few",
            judged(difference),
            &format!("of {}", grouped(books.committed_cents.unsigned_abs())),
        );
        row("recognised again", grouped(self.recognised), "by the inbox, and not applied");
        if let Some(Kills { relay, consumer }) = self.kills {
            row("kills", format!("{relay} + {consumer}"), "relay + consumer, in mid-work");
        }
        if let Some(Latency { p50, p99 }) = self.latency {
            row("commit to arrival", format!("{} / {}", spoken(p50), spoken(p99)), "median / 99th percentile");
        }
        let rate = self.counts.delivered as f64 / self.took.as_secs_f64();
        row("delivered a second", grouped(rate.round() as u64), "on average");
        row("time", spoken(self.took), "first write to last read");
        output::line("");
        for line in table.lines() {
            output::line(format!("  {line}"));
        }
        output::line("");
        let text = match (verdict.holds(), books.hold()) {
            (true, true) => style("every committed event arrived in order, no other did, each applied once").green(),
            (true, false) => style("MISMATCH: the balances are not what was committed, see the table").red(),
            (false, _) => style("MISMATCH: the broker does not hold what was committed, see the table").red(),
        };
        output::line(format!("  {}", text.bold()));
        if self.kills == Some(Kills::default()) {
            output::line("  nobody was killed: the demo was over before; try more --events or a lower --rate");
        }
    }
}

fn judged(count: u64) -> String {
    if count == 0 { "0 ✔".to_owned() } else { format!("{} ✘", grouped(count)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::verify::Recorded;

    #[test]
    fn latency_is_from_the_commit_to_the_first_arrival() {
        let start = Instant::now();
        let ids: Vec<Uuid> = (1..=100).map(Uuid::from_u128).collect();
        let commits = [Commit { ids: ids.clone(), at: start }];
        let arrival = |(n, id): (usize, &Uuid)| Arrival {
            event: Recorded { id: *id, order_id: 1, version: 1, cents: 1 },
            at: start + Duration::from_millis(n as u64 + 1),
        };
        let mut arrivals: Vec<Arrival> = ids.iter().enumerate().map(arrival).collect();
        arrivals.push(Arrival { at: start + Duration::from_secs(9), ..arrivals[0].clone() });
        let latency = Latency::of(&commits, &arrivals).unwrap();
        assert_eq!(latency, Latency { p50: Duration::from_millis(51), p99: Duration::from_millis(100) });
        assert_eq!(Latency::of(&commits, &[]), None);
    }
}

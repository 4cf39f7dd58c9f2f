//! What was measured: samples by variant and measure, their medians, and ratios with the targets they are judged by.

mod machine;
mod table;

use serde::Serialize;

pub use machine::Machine;

/// Everything that one run of the benchmarks found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Where it ran.
    pub machine: Machine,
    /// In the order they ran.
    pub measurements: Vec<Measurement>,
}

/// One lettered measurement.
#[derive(Debug, Serialize)]
pub struct Measurement {
    /// Its letter.
    pub letter: char,
    /// What it is about.
    pub title: String,
    /// Samples by variant and measure, in the order they were first taken.
    pub figures: Vec<Figure>,
    /// Quotients and bounds, judged.
    pub verdicts: Vec<Verdict>,
}

/// All samples of one measure of one variant.
#[derive(Debug, Serialize)]
pub struct Figure {
    /// What was measured: `ours`, `baseline`, …
    pub variant: String,
    /// Which property of it.
    pub measure: Measure,
    /// One sample a round, in [`Measure`]'s unit.
    pub samples: Vec<f64>,
}

/// A property that is measured. The name carries the unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Events confirmed by the broker and removed (or read, or produced) a second.
    EventsPerSecond,
    /// Transactions committed a second.
    TransactionsPerSecond,
    /// From the start of the relay to its first confirmed event, in seconds.
    StartUpSeconds,
    /// From the start of the relay to the last removed event, in seconds.
    TotalSeconds,
    /// Processor time of the relay's process, in microseconds an event.
    RelayCpuMicrosPerEvent,
    /// Processor time of the consumer's process, in microseconds an event.
    ConsumerCpuMicrosPerEvent,
    /// Processor time of everything on the machine, in microseconds an event: the relay, PostgreSQL, Kafka and the kernel.
    MachineCpuMicrosPerEvent,
    /// Processor time of all PostgreSQL processes, in microseconds an event.
    PostgresCpuMicrosPerEvent,
    /// Index entries and rows that PostgreSQL looked at in the hot table, for each event delivered.
    RowsExaminedPerEvent,
    /// Write-ahead log, in bytes an event.
    WalBytesPerEvent,
    /// Transactions of an inbox, for 1,000 events.
    TransactionsPerThousandEvents,
    /// Statements (each its own transaction), for 1,000 events.
    StatementsPerThousandEvents,
    /// From the return of the commit to the broker's acknowledgement, half of the events, in milliseconds.
    LatencyP50Millis,
    /// The same for 99 of 100 events, in milliseconds.
    LatencyP99Millis,
    /// From the first statement of a producer's transaction to the return of its commit, half of them, in milliseconds.
    TransactionP50Millis,
    /// The same for 99 of 100 transactions, in milliseconds.
    TransactionP99Millis,
    /// Deadlocks and lock time-outs that producers saw, in all.
    LockConflicts,
    /// The most memory that the process held, in MiB.
    PeakResidentMib,
}

impl Measure {
    /// As a column of the table.
    pub fn label(self) -> &'static str {
        match self {
            Self::EventsPerSecond => "events/s",
            Self::TransactionsPerSecond => "transactions/s",
            Self::StartUpSeconds => "start-up, s",
            Self::TotalSeconds => "total, s",
            Self::RelayCpuMicrosPerEvent => "relay CPU, µs/event",
            Self::ConsumerCpuMicrosPerEvent => "consumer CPU, µs/event",
            Self::MachineCpuMicrosPerEvent => "machine CPU, µs/event",
            Self::PostgresCpuMicrosPerEvent => "PostgreSQL CPU, µs/event",
            Self::RowsExaminedPerEvent => "rows examined/event",
            Self::WalBytesPerEvent => "WAL bytes/event",
            Self::TransactionsPerThousandEvents => "transactions/1000 events",
            Self::StatementsPerThousandEvents => "statements/1000 events",
            Self::LatencyP50Millis => "latency p50, ms",
            Self::LatencyP99Millis => "latency p99, ms",
            Self::TransactionP50Millis => "transaction p50, ms",
            Self::TransactionP99Millis => "transaction p99, ms",
            Self::LockConflicts => "deadlocks and lock time-outs",
            Self::PeakResidentMib => "peak resident, MiB",
        }
    }
}

/// A figure or quotient of medians beside its target.
#[derive(Debug, Serialize)]
pub struct Verdict {
    /// What is compared.
    pub name: String,
    /// Quotient or figure.
    pub value: f64,
    /// What it should be, when something was decided.
    pub target: Option<Target>,
}

/// What a figure should be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

impl Target {
    /// Whether a value meets the target.
    pub fn is_met_by(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }
}

impl Measurement {
    /// An empty measurement.
    pub fn new(letter: char, title: impl Into<String>) -> Self {
        Self { letter, title: title.into(), figures: Vec::new(), verdicts: Vec::new() }
    }

    /// Adds a sample.
    pub fn sample(&mut self, variant: &str, measure: Measure, value: f64) {
        let known = self.figures.iter().position(|figure| figure.variant == variant && figure.measure == measure);
        let index = known.unwrap_or_else(|| {
            self.figures.push(Figure { variant: variant.to_owned(), measure, samples: Vec::new() });
            self.figures.len() - 1
        });
        self.figures[index].samples.push(value);
    }

    /// The median of a measure; `None` when it was not taken.
    pub fn median(&self, variant: &str, measure: Measure) -> Option<f64> {
        let figure = self.figures.iter().find(|figure| figure.variant == variant && figure.measure == measure)?;
        Some(figure.median())
    }

    /// Adds the quotient of the medians of two variants. Without either of them there is nothing to compare.
    pub fn quotient(&mut self, measure: Measure, over: &str, under: &str, target: Option<Target>) {
        if let (Some(a), Some(b)) = (self.median(over, measure), self.median(under, measure)) {
            let name = format!("{over} ÷ {under}, {}", measure.label());
            self.verdicts.push(Verdict { name, value: a / b, target });
        }
    }

    /// Judges a median by itself.
    pub fn judge(&mut self, measure: Measure, variant: &str, target: Target) {
        if let Some(value) = self.median(variant, measure) {
            let name = format!("{variant}, {}", measure.label());
            self.verdicts.push(Verdict { name, value, target: Some(target) });
        }
    }
}

impl Figure {
    /// The middle sample, or the mean of the two in the middle.
    pub fn median(&self) -> f64 {
        let mut sorted = self.samples.clone();
        sorted.sort_by(f64::total_cmp);
        match sorted.len() {
            0 => f64::NAN,
            n if n % 2 == 1 => sorted[n / 2],
            n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
        }
    }

    /// The smallest sample.
    pub fn min(&self) -> f64 {
        self.samples.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// The largest sample.
    pub fn max(&self) -> f64 {
        self.samples.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotients_are_of_medians_and_a_target_is_met_at_its_limit() {
        let mut measurement = Measurement::new('a', "test");
        for (ours, baseline) in [(300.0, 90.0), (330.0, 110.0), (10.0, 110.0)] {
            measurement.sample("ours", Measure::EventsPerSecond, ours);
            measurement.sample("baseline", Measure::EventsPerSecond, baseline);
        }
        measurement.quotient(Measure::EventsPerSecond, "ours", "baseline", Some(Target::AtLeast(3.0)));
        measurement.quotient(Measure::EventsPerSecond, "ours", "absent", None);
        assert_eq!(measurement.verdicts.len(), 1);
        assert!((measurement.verdicts[0].value - 300.0 / 110.0).abs() < 1e-9);
        assert!(!Target::AtLeast(3.0).is_met_by(measurement.verdicts[0].value));
        assert!(Target::AtMost(2.0).is_met_by(2.0) && Target::AtLeast(2.0).is_met_by(2.0));
    }

    #[test]
    fn an_even_number_of_samples_has_its_median_between_two() {
        let figure =
            Figure { variant: String::new(), measure: Measure::EventsPerSecond, samples: vec![4.0, 1.0, 2.0, 9.0] };
        assert_eq!((figure.median(), figure.min(), figure.max()), (3.0, 1.0, 9.0));
    }
}

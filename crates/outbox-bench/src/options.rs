//! What can be asked for on the command line.

use std::path::PathBuf;

use clap::Parser;

/// Benchmarks of the relay on real databases and brokers. Run it with `cargo xtask bench`, which starts them.
#[derive(Debug, Clone, Parser)]
pub struct Options {
    /// Which measurements, by their letters, for example `a,d`. All of them otherwise.
    #[arg(long, value_delimiter = ',', value_parser = clap::builder::PossibleValuesParser::new(LETTERS))]
    pub only: Vec<String>,
    /// Rounds of each measurement; the variants take turns within a round.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Rows of a drain.
    #[arg(long, default_value_t = 200_000, value_parser = rows)]
    pub rows: usize,
    /// Rows of the large backlog in (c) and (g).
    #[arg(long, default_value_t = 5_000_000, value_parser = rows)]
    pub backlog: usize,
    /// Rows of parked keys and scheduled rows in (h).
    #[arg(long, default_value_t = 1_000_000, value_parser = rows)]
    pub waiting: usize,
    /// Seconds of each latency and append measurement.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: u64,
    /// Rows of one read of our relay; its default otherwise.
    #[arg(long)]
    pub batch_size: Option<usize>,
    /// Messages that our relay may have in flight; its default otherwise.
    #[arg(long)]
    pub max_in_flight: Option<usize>,
    /// A property of librdkafka for every producer that is compared, as `KEY=VALUE`.
    #[arg(long, value_parser = property)]
    pub kafka: Vec<(String, String)>,
    /// Where the samples go, as JSON.
    #[arg(long, default_value = "target/bench/report.json")]
    pub json: PathBuf,
}

/// The letters of all measurements.
pub const LETTERS: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];

impl Default for Options {
    fn default() -> Self {
        Self::parse_from(["outbox-bench"])
    }
}

impl Options {
    /// Whether a measurement is wanted.
    pub fn wants(&self, letter: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|wanted| wanted == letter)
    }
}

fn rows(text: &str) -> Result<usize, String> {
    match text.replace('_', "").parse() {
        Ok(rows) if (1_000..=50_000_000).contains(&rows) => Ok(rows),
        _ => Err("it must be 1000 to 50000000".to_owned()),
    }
}

fn property(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| "it must be KEY=VALUE".to_owned())?;
    Ok((key.to_owned(), value.to_owned()))
}

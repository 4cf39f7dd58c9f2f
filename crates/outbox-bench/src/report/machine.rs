use std::fs;

use serde::Serialize;

/// Where the figures come from.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// Cores that this process may use, shared with PostgreSQL and Kafka when they run beside it.
    pub cores: usize,
    /// The processor's name, when the system tells.
    pub processor: String,
    /// PostgreSQL's version.
    pub postgres: String,
    /// librdkafka's version.
    pub librdkafka: String,
}

impl Machine {
    /// This machine, with the server's version as it says it.
    pub fn here(postgres: String) -> Self {
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor: processor().unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            postgres,
            librdkafka: rdkafka::util::get_rdkafka_version().1,
        }
    }
}

fn processor() -> Option<String> {
    let info = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, name)| name.trim().to_owned())
}

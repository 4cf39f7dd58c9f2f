use std::collections::BTreeMap;
use std::time::Duration;

use rand::RngExt as _;

/// How a relay works. Every field has a default that is right for most; see each for its unit and reason.
#[derive(Debug, Clone)]
pub struct RelayConfig {
    /// A label for people, shown in the relays' table and in logs. Two relays may have the same. Default `relay`.
    pub name: String,
    /// The longest wait between two reads while nothing arrives and nothing wakes the relay. Default 1 s; 1 ms to 1 h.
    pub polling_interval: Duration,
    /// Messages one read asks for. Default 2,000; 1 to 50,000. Larger batches amortise round trips; beyond 4,000 nothing is gained.
    pub batch_size: usize,
    /// Bytes of payload one read may load. Default 8 MiB; at least 1 KiB.
    pub batch_bytes: usize,
    /// Messages that may be read but not yet settled: the window, and so the most duplicates that one fault can make.
    /// Default 10,000; 1 to 1,000,000.
    pub max_in_flight: usize,
    /// Bytes of payload that may be read but not yet confirmed. Default 32 MiB; at least `batch_bytes`.
    pub max_in_flight_bytes: usize,
    /// A larger payload becomes a dead letter without being loaded. Default 16 MiB; at least 1 KiB.
    pub max_message_bytes: usize,
    /// Failed attempts after which a message becomes a dead letter. Default 5; 1 to 1,000.
    pub max_attempts: u32,
    /// Waits between the attempts of one message.
    pub retry: Backoff,
    /// Waits between attempts to reach a database, a broker or a paused route.
    pub reconnect: Backoff,
    /// How long a shard stays with a relay that does not renew. Default 15 s; 500 ms to 1 h. Take-over after a crash takes
    /// at most this and a heartbeat (a sixth of it).
    pub lease_duration: Duration,
    /// Between two pieces of the full sweep. Default 1 s; 10 ms to 1 h.
    pub sweep_interval: Duration,
    /// How long a drain at shutdown may take. Default 30 s.
    pub shutdown_timeout: Duration,
    /// Age of the oldest pending message above which health is degraded. Default 60 s.
    pub lag_alert: Duration,
    /// What a dead letter means for the followers of its key, unless its route says otherwise. Default `Continue`.
    pub dead_letters: DeadLetterPolicy,
    /// The same by route (topic).
    pub dead_letters_by_route: BTreeMap<String, DeadLetterPolicy>,
    /// A deliberate defect for the simulation to catch.
    #[cfg(feature = "simulation")]
    pub defect: Option<super::Defect>,
    /// Seed of the jitter, so that a simulated run replays exactly.
    #[cfg(feature = "simulation")]
    pub jitter_seed: Option<u64>,
}

/// What a dead letter means for the followers of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeadLetterPolicy {
    /// They go on. A dead letter that is replayed later is out of order.
    #[default]
    Continue,
    /// They wait until an operator replays or discards the dead letter.
    ParkKey,
}

/// Exponential backoff with jitter: attempt n (from 1) waits `initial · factor^(n-1)`, at most `max`, times a random
/// factor between `1 - jitter` and `1 + jitter`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// The first wait.
    pub initial: Duration,
    /// The longest wait, before jitter.
    pub max: Duration,
    /// Growth; at least 1.
    pub factor: f64,
    /// Share of the wait that is random; 0 to 1.
    pub jitter: f64,
}

impl Backoff {
    /// The wait after the `attempt`th failure (from 1).
    pub fn delay(&self, attempt: u32, rng: &mut impl rand::Rng) -> Duration {
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let seconds = (self.initial.as_secs_f64() * self.factor.powi(exponent)).min(self.max.as_secs_f64());
        let spread = if self.jitter > 0.0 { rng.random_range(-self.jitter..=self.jitter) } else { 0.0 };
        Duration::from_secs_f64(seconds * (1.0 + spread))
    }
}

impl Default for RelayConfig {
    fn default() -> Self {
        Self {
            name: "relay".to_owned(),
            polling_interval: Duration::from_secs(1),
            batch_size: 2_000,
            batch_bytes: 8 << 20,
            max_in_flight: 10_000,
            max_in_flight_bytes: 32 << 20,
            max_message_bytes: 16 << 20,
            max_attempts: 5,
            retry: Backoff { initial: Duration::from_secs(1), max: Duration::from_secs(300), factor: 2.0, jitter: 0.2 },
            reconnect: Backoff {
                initial: Duration::from_millis(100),
                max: Duration::from_secs(10),
                factor: 2.0,
                jitter: 0.2,
            },
            lease_duration: Duration::from_secs(15),
            sweep_interval: Duration::from_secs(1),
            shutdown_timeout: Duration::from_secs(30),
            lag_alert: Duration::from_secs(60),
            dead_letters: DeadLetterPolicy::Continue,
            dead_letters_by_route: BTreeMap::new(),
            #[cfg(feature = "simulation")]
            defect: None,
            #[cfg(feature = "simulation")]
            jitter_seed: None,
        }
    }
}

/// A configuration value that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} is {value}: it must be {allowed}")]
pub struct InvalidConfig {
    /// The key.
    pub key: &'static str,
    /// The value that was given.
    pub value: String,
    /// What is allowed.
    pub allowed: &'static str,
}

impl RelayConfig {
    /// Checks every value.
    ///
    /// # Errors
    ///
    /// The first [`InvalidConfig`] found.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        const HOUR: Duration = Duration::from_secs(3600);
        let millis = Duration::from_millis;
        let duration =
            |key, value: Duration, min, max, allowed| within(key, value, min, max, allowed, |v| format!("{v:?}"));
        let number = |key, value: usize, min, max, allowed| within(key, value, min, max, allowed, |v| v.to_string());
        within("name", self.name.chars().count(), 1, 255, "1 to 255 characters", |n| format!("{n} characters"))?;
        duration("polling_interval", self.polling_interval, millis(1), HOUR, "1 ms to 1 h")?;
        number("batch_size", self.batch_size, 1, 50_000, "1 to 50000 messages")?;
        number("batch_bytes", self.batch_bytes, 1024, 1 << 30, "1 KiB to 1 GiB")?;
        number("max_in_flight", self.max_in_flight, 1, 1_000_000, "1 to 1000000 messages")?;
        number("max_in_flight_bytes", self.max_in_flight_bytes, self.batch_bytes, 1 << 33, "batch_bytes to 8 GiB")?;
        number("max_message_bytes", self.max_message_bytes, 1024, 1 << 30, "1 KiB to 1 GiB")?;
        within("max_attempts", self.max_attempts, 1, 1_000, "1 to 1000", |v| v.to_string())?;
        duration("lease_duration", self.lease_duration, millis(500), HOUR, "500 ms to 1 h")?;
        duration("sweep_interval", self.sweep_interval, millis(10), HOUR, "10 ms to 1 h")?;
        duration("shutdown_timeout", self.shutdown_timeout, Duration::ZERO, HOUR, "0 to 1 h")?;
        duration("lag_alert", self.lag_alert, millis(1), HOUR * 24 * 365, "1 ms to 1 year")?;
        self.retry.validate("retry.initial", "retry.max", "retry.factor", "retry.jitter")?;
        self.reconnect.validate("reconnect.initial", "reconnect.max", "reconnect.factor", "reconnect.jitter")
    }

    /// The policy of a route.
    pub(super) fn policy(&self, route: &str) -> DeadLetterPolicy {
        self.dead_letters_by_route.get(route).copied().unwrap_or(self.dead_letters)
    }
}

impl Backoff {
    fn validate(
        &self,
        initial: &'static str,
        max: &'static str,
        factor: &'static str,
        jitter: &'static str,
    ) -> Result<(), InvalidConfig> {
        const DAY: Duration = Duration::from_secs(86_400);
        within(initial, self.initial, Duration::from_millis(1), DAY, "1 ms to 24 h", |v| format!("{v:?}"))?;
        within(max, self.max, self.initial, DAY, "the initial wait to 24 h", |v| format!("{v:?}"))?;
        within(factor, self.factor, 1.0, 100.0, "1 to 100", |v| v.to_string())?;
        within(jitter, self.jitter, 0.0, 1.0, "0 to 1", |v| v.to_string())
    }
}

fn within<T: PartialOrd + Copy>(
    key: &'static str,
    value: T,
    min: T,
    max: T,
    allowed: &'static str,
    show: impl Fn(T) -> String,
) -> Result<(), InvalidConfig> {
    if value >= min && value <= max { Ok(()) } else { Err(InvalidConfig { key, value: show(value), allowed }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(RelayConfig::default().validate(), Ok(()));
    }

    #[test]
    fn an_absurd_value_names_the_key_the_value_and_what_is_allowed() {
        let config = RelayConfig { batch_size: 0, ..RelayConfig::default() };
        let error = config.validate().unwrap_err().to_string();
        assert_eq!(error, "batch_size is 0: it must be 1 to 50000 messages");
        let config = RelayConfig { lease_duration: Duration::from_millis(1), ..RelayConfig::default() };
        assert_eq!(config.validate().unwrap_err().key, "lease_duration");
        let retry = Backoff { jitter: f64::NAN, ..RelayConfig::default().retry };
        assert_eq!(RelayConfig { retry, ..RelayConfig::default() }.validate().unwrap_err().key, "retry.jitter");
    }

    #[test]
    fn backoff_grows_to_its_maximum() {
        let backoff = Backoff { jitter: 0.0, ..RelayConfig::default().retry };
        let mut rng = rand::rng();
        assert_eq!(backoff.delay(1, &mut rng), Duration::from_secs(1));
        assert_eq!(backoff.delay(3, &mut rng), Duration::from_secs(4));
        assert_eq!(backoff.delay(u32::MAX, &mut rng), Duration::from_secs(300));
    }
}

use std::{collections::BTreeMap, time::Duration};

use clap::{Args, ValueEnum};
use outbox::{Backoff, DeadLetterPolicy, RelayConfig};

use crate::values::{bytes, duration};

/// Every key of the relay's configuration, as a flag and as an environment variable. The defaults are the library's; a test
/// keeps them equal.
#[derive(Args, Debug, Clone)]
#[command(next_help_heading = "Relay")]
pub(crate) struct Tuning {
    /// Label shown in the relays' table and in logs; two relays may have the same
    #[arg(long, env = "OUTBOX__NAME", default_value = "relay")]
    name: String,

    /// Longest wait between two reads while nothing arrives
    #[arg(long, env = "OUTBOX__POLLING_INTERVAL", value_name = "TIME", default_value = "1s", value_parser = duration)]
    polling_interval: Duration,

    /// Messages that one read asks for
    #[arg(long, env = "OUTBOX__BATCH_SIZE", value_name = "MESSAGES", default_value = "2000")]
    batch_size: usize,

    /// Bytes of payload that one read may load
    #[arg(long, env = "OUTBOX__BATCH_BYTES", value_name = "BYTES", default_value = "8MiB", value_parser = bytes)]
    batch_bytes: usize,

    /// Messages read but not yet settled: the most duplicates that one fault can make
    #[arg(long, env = "OUTBOX__MAX_IN_FLIGHT", value_name = "MESSAGES", default_value = "10000")]
    max_in_flight: usize,

    /// Bytes of payload read but not yet confirmed
    #[arg(long, env = "OUTBOX__MAX_IN_FLIGHT_BYTES", value_name = "BYTES", default_value = "32MiB", value_parser = bytes)]
    max_in_flight_bytes: usize,

    /// A larger payload becomes a dead letter without being loaded
    #[arg(long, env = "OUTBOX__MAX_MESSAGE_BYTES", value_name = "BYTES", default_value = "16MiB", value_parser = bytes)]
    max_message_bytes: usize,

    /// Failed attempts after which a message becomes a dead letter
    #[arg(long, env = "OUTBOX__MAX_ATTEMPTS", value_name = "ATTEMPTS", default_value = "5")]
    max_attempts: u32,

    /// How long a shard stays with a relay that does not renew: the longest pause after a crash
    #[arg(long, env = "OUTBOX__LEASE_DURATION", value_name = "TIME", default_value = "15s", value_parser = duration)]
    lease_duration: Duration,

    /// Wait between two pieces of the full sweep
    #[arg(long, env = "OUTBOX__SWEEP_INTERVAL", value_name = "TIME", default_value = "1s", value_parser = duration)]
    sweep_interval: Duration,

    /// How long a drain at shutdown may take
    #[arg(long, env = "OUTBOX__SHUTDOWN_TIMEOUT", value_name = "TIME", default_value = "30s", value_parser = duration)]
    shutdown_timeout: Duration,

    /// Age of the oldest pending message above which health is degraded
    #[arg(long, env = "OUTBOX__LAG_ALERT", value_name = "TIME", default_value = "60s", value_parser = duration)]
    lag_alert: Duration,

    /// What a dead letter means for the later messages of its key
    #[arg(long, env = "OUTBOX__DEAD_LETTERS", value_name = "POLICY", default_value = "continue")]
    dead_letters: Policy,

    /// The same for one route: a topic, or EXCHANGE/ROUTING_KEY; may be repeated
    #[arg(
        long,
        env = "OUTBOX__DEAD_LETTERS_BY_ROUTE",
        value_name = "ROUTE=POLICY",
        value_delimiter = ',',
        value_parser = route_policy
    )]
    dead_letters_by_route: Vec<(String, Policy)>,

    #[command(flatten)]
    retry: Retry,

    #[command(flatten)]
    reconnect: Reconnect,
}

#[derive(Args, Debug, Clone)]
#[command(next_help_heading = "Waits between the attempts of one message")]
struct Retry {
    /// First wait
    #[arg(long, env = "OUTBOX__RETRY__INITIAL", value_name = "TIME", default_value = "1s", value_parser = duration)]
    retry_initial: Duration,
    /// Longest wait
    #[arg(long, env = "OUTBOX__RETRY__MAX", value_name = "TIME", default_value = "5m", value_parser = duration)]
    retry_max: Duration,
    /// Growth from one wait to the next
    #[arg(long, env = "OUTBOX__RETRY__FACTOR", value_name = "NUMBER", default_value = "2")]
    retry_factor: f64,
    /// Share of a wait that is random, 0 to 1
    #[arg(long, env = "OUTBOX__RETRY__JITTER", value_name = "NUMBER", default_value = "0.2")]
    retry_jitter: f64,
}

#[derive(Args, Debug, Clone)]
#[command(next_help_heading = "Waits for a database, a broker or a topic that is away")]
struct Reconnect {
    /// First wait
    #[arg(long, env = "OUTBOX__RECONNECT__INITIAL", value_name = "TIME", default_value = "100ms", value_parser = duration)]
    reconnect_initial: Duration,
    /// Longest wait
    #[arg(long, env = "OUTBOX__RECONNECT__MAX", value_name = "TIME", default_value = "10s", value_parser = duration)]
    reconnect_max: Duration,
    /// Growth from one wait to the next
    #[arg(long, env = "OUTBOX__RECONNECT__FACTOR", value_name = "NUMBER", default_value = "2")]
    reconnect_factor: f64,
    /// Share of a wait that is random, 0 to 1
    #[arg(long, env = "OUTBOX__RECONNECT__JITTER", value_name = "NUMBER", default_value = "0.2")]
    reconnect_jitter: f64,
}

/// What a dead letter means for the followers of its key.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
enum Policy {
    /// They go on; the dead letter is out of order when it is replayed
    Continue,
    /// They wait until an operator replays or discards the dead letter
    ParkKey,
}

impl From<Policy> for DeadLetterPolicy {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::Continue => Self::Continue,
            Policy::ParkKey => Self::ParkKey,
        }
    }
}

impl Tuning {
    /// The relay's configuration, not yet checked.
    #[allow(clippy::needless_update, reason = "the simulation feature of the core adds fields")]
    pub(crate) fn config(&self) -> RelayConfig {
        let by_route: BTreeMap<String, DeadLetterPolicy> =
            self.dead_letters_by_route.iter().map(|(route, policy)| (route.clone(), (*policy).into())).collect();
        RelayConfig {
            name: self.name.clone(),
            polling_interval: self.polling_interval,
            batch_size: self.batch_size,
            batch_bytes: self.batch_bytes,
            max_in_flight: self.max_in_flight,
            max_in_flight_bytes: self.max_in_flight_bytes,
            max_message_bytes: self.max_message_bytes,
            max_attempts: self.max_attempts,
            retry: Backoff {
                initial: self.retry.retry_initial,
                max: self.retry.retry_max,
                factor: self.retry.retry_factor,
                jitter: self.retry.retry_jitter,
            },
            reconnect: Backoff {
                initial: self.reconnect.reconnect_initial,
                max: self.reconnect.reconnect_max,
                factor: self.reconnect.reconnect_factor,
                jitter: self.reconnect.reconnect_jitter,
            },
            lease_duration: self.lease_duration,
            sweep_interval: self.sweep_interval,
            shutdown_timeout: self.shutdown_timeout,
            lag_alert: self.lag_alert,
            dead_letters: self.dead_letters.into(),
            dead_letters_by_route: by_route,
            ..RelayConfig::default()
        }
    }
}

fn route_policy(text: &str) -> Result<(String, Policy), String> {
    const ALLOWED: &str = "ROUTE=continue or ROUTE=park-key";
    let (route, policy) = text.rsplit_once('=').ok_or(ALLOWED)?;
    let policy = Policy::from_str(policy, false).map_err(|_| ALLOWED)?;
    if route.is_empty() { Err(ALLOWED.to_owned()) } else { Ok((route.to_owned(), policy)) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        tuning: Tuning,
    }

    fn config(flags: &[&str]) -> RelayConfig {
        Command::try_parse_from([&["outbox"], flags].concat()).unwrap().tuning.config()
    }

    #[test]
    fn the_defaults_are_the_librarys() {
        assert_eq!(format!("{:?}", config(&[])), format!("{:?}", RelayConfig::default()));
    }

    #[test]
    fn flags_reach_the_configuration() {
        let config = config(&[
            "--polling-interval=250ms",
            "--batch-bytes=64KiB",
            "--retry-max=1h",
            "--dead-letters=park-key",
            "--dead-letters-by-route=order=continue,invoice=park-key",
        ]);
        assert_eq!(config.polling_interval, Duration::from_millis(250));
        assert_eq!(config.batch_bytes, 64 << 10);
        assert_eq!(config.retry.max, Duration::from_secs(3600));
        assert_eq!(config.dead_letters, DeadLetterPolicy::ParkKey);
        assert_eq!(config.dead_letters_by_route["order"], DeadLetterPolicy::Continue);
        assert_eq!(config.dead_letters_by_route["invoice"], DeadLetterPolicy::ParkKey);
    }
}

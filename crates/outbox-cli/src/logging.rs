//! Logs go to standard error, plain when it is no terminal.

use std::io::{IsTerminal, stderr};

use anyhow::{Context, Result};
use tracing::Level;
use tracing_subscriber::{EnvFilter, filter::filter_fn, layer::SubscriberExt, util::SubscriberInitExt};

/// Environment variable with the log filter, for example `debug` or `outbox_core=debug,warn`.
pub(crate) const FILTER_VARIABLE: &str = "OUTBOX_LOG";

/// Starts logging. `default` is the filter unless [`FILTER_VARIABLE`] says otherwise.
///
/// # Errors
///
/// When the variable holds no valid filter.
pub(crate) fn start(default: &str) -> Result<()> {
    let filter = match std::env::var(FILTER_VARIABLE) {
        Ok(text) => EnvFilter::try_new(&text).with_context(|| {
            format!("{FILTER_VARIABLE} is no log filter; allowed: for example info, or outbox_core=debug,warn")
        })?,
        Err(_) => EnvFilter::try_new(default).context("the default log filter is invalid")?,
    };
    let colors = stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = tracing_subscriber::fmt::layer().with_ansi(colors).with_target(false).with_writer(stderr);
    tracing_subscriber::registry()
        .with(filter)
        .with(filter_fn(|event| harmless(event.target(), *event.level())))
        .with(lines)
        .try_init()
        .map_err(|error| anyhow::anyhow!("cannot start logging: {error}"))
}

/// Whether a library's log line cannot hold a payload or a password, whatever the filter says: the PostgreSQL driver prints the
/// parameters of every statement at debug level, the RabbitMQ client each returned message at warn and its frames at trace.
fn harmless(target: &str, level: Level) -> bool {
    let is = |name| target.starts_with(name);
    !(is("lapin") || is("amq_protocol") || is("tokio_postgres") && level > Level::INFO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_hold_payloads_or_passwords_is_never_logged() {
        assert!(!harmless("tokio_postgres::query", Level::DEBUG) && !harmless("tokio_postgres", Level::TRACE));
        assert!(!harmless("lapin::returned_messages", Level::WARN) && !harmless("amq_protocol::frame", Level::TRACE));
        assert!(harmless("tokio_postgres::connection", Level::INFO) && harmless("outbox_core::relay", Level::TRACE));
    }
}

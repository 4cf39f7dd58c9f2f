//! Logs go to standard error, plain when it is no terminal.

use std::io::{IsTerminal, stderr};

use anyhow::{Context, Result};
use tracing_subscriber::EnvFilter;

/// Environment variable with the log filter, for example `debug` or `outbox_core=debug,warn`.
pub(crate) const FILTER_VARIABLE: &str = "OUTBOX_LOG";

/// Starts logging. `default` is the filter unless [`FILTER_VARIABLE`] says otherwise.
///
/// # Errors
///
/// When the variable holds no valid filter.
pub(crate) fn start(default: &str) -> Result<()> {
    let filter = match std::env::var(FILTER_VARIABLE) {
        Ok(text) => EnvFilter::try_new(&text)
            .with_context(|| format!("{FILTER_VARIABLE} is no log filter; allowed: for example info, or outbox_core=debug,warn"))?,
        Err(_) => EnvFilter::try_new(default).context("the default log filter is invalid")?,
    };
    let colors = stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colors)
        .with_target(false)
        .with_writer(stderr)
        .try_init()
        .map_err(|error| anyhow::anyhow!("cannot start logging: {error}"))
}

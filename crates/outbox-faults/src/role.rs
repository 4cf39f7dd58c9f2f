//! What every process of a run does that plays a part in it.

use std::{
    io::{Read as _, Write as _},
    time::Duration,
};

use anyhow::{Context, Result};
use serde::Serialize;

/// Between two times that a process says its numbers.
pub(crate) const TALLY_INTERVAL: Duration = Duration::from_millis(250);

/// Ends with the parent, and logs to the standard error stream.
pub(crate) fn begin() -> Result<()> {
    end_with_parent()?;
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    Ok(())
}

/// Says numbers, as one line.
pub(crate) fn say(tally: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_vec(tally)?;
    line.push(b'\n');
    std::io::stdout().write_all(&line).context("statistics")
}

/// No process may outlive the run, however that ends.
fn end_with_parent() -> Result<()> {
    // A stopped process cannot notice anything: only the kernel can end it.
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .context("the signal of the parent's death")?;
    std::thread::Builder::new().name("lifeline".into()).spawn(|| {
        let mut nothing = [0];
        // Nobody writes to it, so a return means the end of the other side.
        let _ = std::io::stdin().read(&mut nothing);
        std::process::exit(1);
    })?;
    Ok(())
}

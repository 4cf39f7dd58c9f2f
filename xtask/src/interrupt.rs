//! Ctrl-C and SIGTERM: remembered, so that waiting code ends early and clean-up still runs.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

static REQUESTS: AtomicU32 = AtomicU32::new(0);

/// From now on SIGINT and SIGTERM no longer end the program at once: [`requests`] counts them.
///
/// # Errors
///
/// The operating system refuses a handler or a thread.
pub fn listen() -> Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().build().context("signal handling: no runtime")?;
    // Registered before this function returns: a signal in the next instant is counted.
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (
            signal(SignalKind::interrupt()).context("signal handling: SIGINT")?,
            signal(SignalKind::terminate()).context("signal handling: SIGTERM")?,
        )
    };
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            runtime.block_on(async move {
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                    }
                    REQUESTS.fetch_add(1, Ordering::SeqCst);
                }
            });
        })
        .context("signal handling: no thread")?;
    Ok(())
}

/// How often the program was asked to end.
pub fn requests() -> u32 {
    REQUESTS.load(Ordering::SeqCst)
}

/// Passes unless the program was asked to end.
///
/// # Errors
///
/// The program was asked to end.
pub fn check() -> Result<()> {
    if requests() > 0 {
        bail!("interrupted");
    }
    Ok(())
}

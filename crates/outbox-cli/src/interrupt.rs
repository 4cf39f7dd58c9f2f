//! Ctrl-C and SIGTERM: the first drains, the second ends the program at once.

use std::future::Future;

use anyhow::{Context, Result};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

/// Exit code of a program that was interrupted.
pub(crate) const INTERRUPTED: u8 = 130;

/// Told by the first signal; clones are told too.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt {
    told: watch::Receiver<bool>,
}

impl Interrupt {
    /// Listens from now on. `farewell` runs on the second signal, before the program ends with [`INTERRUPTED`].
    ///
    /// # Errors
    ///
    /// When the operating system refuses the signal handlers.
    pub(crate) fn listen(farewell: impl FnOnce() + Send + 'static) -> Result<Self> {
        let (tell, told) = watch::channel(false);
        let mut signals = Signals {
            interrupt: signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?,
            terminate: signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?,
        };
        tokio::spawn(async move {
            signals.next().await;
            tracing::info!("draining: what is in flight is finished first; interrupt again to end at once");
            tell.send_replace(true);
            signals.next().await;
            farewell();
            std::process::exit(i32::from(INTERRUPTED));
        });
        Ok(Self { told })
    }

    /// Whether the first signal came.
    pub(crate) fn came(&self) -> bool {
        *self.told.borrow()
    }

    /// Waits for the first signal.
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub(crate) fn wait(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut told = self.told.clone();
        async move {
            // An error means that the listening task has ended, which only the end of the program does.
            let _ = told.wait_for(|told| *told).await;
        }
    }
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

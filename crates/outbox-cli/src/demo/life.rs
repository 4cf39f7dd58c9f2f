//! A part of the demo in a task of its own, which can be drained or killed.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, anyhow};
use futures_util::future::BoxFuture;
use tokio::{
    sync::oneshot,
    task::{AbortHandle, JoinError, JoinSet},
};

/// A running part. Dropping it kills it.
pub(super) struct Life<R> {
    what: &'static str,
    task: JoinSet<Result<R>>,
    handle: AbortHandle,
    stop: oneshot::Sender<()>,
}

impl<R: Send + 'static> Life<R> {
    /// Begins it; what it gets resolves when it shall drain.
    pub(super) fn begin<F>(what: &'static str, run: impl FnOnce(BoxFuture<'static, ()>) -> F) -> Self
    where
        F: Future<Output = Result<R>> + Send + 'static,
    {
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = Box::pin(async {
            // A dropped sender stops it too.
            let _ = stopped.await;
        });
        let mut task = JoinSet::new();
        let handle = task.spawn(run(shutdown));
        Self { what, task, handle, stop }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.handle.is_finished()
    }

    /// Drains it.
    pub(super) async fn drain(mut self) -> Result<R> {
        drop(self.stop);
        joined(self.what, self.task.join_next().await)?.ok_or_else(|| anyhow!("the {} was killed", self.what))
    }

    /// Drops its future wherever that stands, which is what a crash is to everybody else: transactions roll back, connections close,
    /// nothing more is confirmed or given back.
    ///
    /// # Errors
    ///
    /// It had failed by itself before.
    pub(super) async fn kill(mut self) -> Result<()> {
        self.handle.abort();
        joined(self.what, self.task.join_next().await).map(drop)
    }
}

/// What a part came to; `None` when it was killed.
fn joined<R>(what: &str, ended: Option<Result<Result<R>, JoinError>>) -> Result<Option<R>> {
    match ended {
        Some(Ok(ended)) => ended.map(Some),
        Some(Err(error)) if !error.is_cancelled() => Err(anyhow!("the {what} panicked")),
        Some(Err(_)) | None => Ok(None),
    }
}

/// The handle of whatever lives at the moment: a killed part is replaced.
#[derive(Debug)]
pub(super) struct Current<H>(Arc<Mutex<H>>);

impl<H: Clone> Current<H> {
    pub(super) fn new(handle: H) -> Self {
        Self(Arc::new(Mutex::new(handle)))
    }

    pub(super) fn get(&self) -> H {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn replace(&self, handle: H) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = handle;
    }
}

impl<H> Clone for Current<H> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_drained_part_ends_by_itself_and_says_what_it_did() {
        let life = Life::begin("test", async |shutdown| {
            shutdown.await;
            Ok(7)
        });
        assert!(!life.has_ended());
        assert_eq!(life.drain().await.unwrap(), 7);
    }

    #[tokio::test]
    async fn a_killed_part_drops_what_it_held() {
        let held = Arc::new(());
        let inside = held.clone();
        let life = Life::<()>::begin("test", async move |_| {
            let _inside = inside;
            std::future::pending().await
        });
        life.kill().await.unwrap();
        assert_eq!(Arc::strong_count(&held), 1);
    }

    #[tokio::test]
    async fn a_part_that_failed_before_it_was_killed_tells() {
        let life = Life::<()>::begin("test", async |_| Err(anyhow!("no tables")));
        while !life.has_ended() {
            tokio::task::yield_now().await;
        }
        assert_eq!(life.kill().await.unwrap_err().to_string(), "no tables");
    }
}

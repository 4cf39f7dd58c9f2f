//! A small pool of connections for one kind of work, with a limit on every wait.

use std::time::{Duration, Instant};

use deadpool::managed::{Manager, Metrics, Object, Pool as DeadPool, PoolError, RecycleError, RecycleResult};
use outbox_core::ports::{StorageError, StorageErrorKind};
use rand::RngExt;

use super::connector::{Connector, Isolation, Limits};
use super::error::timed_out;
use super::session::{ResultSet, Session};

/// What a client waits past the server's own limit, so that the server's answer comes first when it lives.
const GRACE: Duration = Duration::from_secs(2);

/// A connection that was idle for longer is asked whether it lives before a statement is sent: the server, or what is between, may
/// have closed it meanwhile.
const IDLE: Duration = Duration::from_secs(1);

/// How long that question may take.
const PING: Duration = Duration::from_secs(2);

/// Attempts at a statement that meets a deadlock or a lock time-out.
const ATTEMPTS: u32 = 4;

/// The longest wait before the second attempt; it doubles with each.
const BACK_OFF_MS: u64 = 20;

/// Connections for one kind of work. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Pool {
    sessions: DeadPool<Sessions>,
    timeout: Duration,
}

impl Pool {
    pub(crate) fn new(connector: Connector, size: usize, limits: Limits) -> Result<Self, StorageError> {
        let sessions = DeadPool::builder(Sessions { connector, limits }).max_size(size).build().map_err(|error| {
            StorageError::new(StorageErrorKind::Other, "the connection pool cannot be made").with_source(error)
        })?;
        Ok(Self { sessions, timeout: limits.statement + GRACE })
    }

    /// Runs a text of one or more statements. `what` completes "cannot …".
    ///
    /// When the future is dropped, the connection is closed: a later statement must neither wait behind this one nor meet what it
    /// left.
    pub(crate) async fn run(&self, what: &str, text: &str) -> Result<Vec<ResultSet>, StorageError> {
        self.run_within(what, self.timeout, text).await
    }

    /// As [`run`](Self::run), with a limit of its own for everything, the connection included.
    pub(crate) async fn run_within(
        &self,
        what: &str,
        limit: Duration,
        text: &str,
    ) -> Result<Vec<ResultSet>, StorageError> {
        let work = async {
            let mut checkout = self.checkout(what).await?;
            let sets = checkout.session().run(what, limit, text).await;
            checkout.give_back();
            sets
        };
        tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(timed_out(what, limit)))
    }

    /// As [`run`](Self::run), again when another transaction was in the way. For texts that may be repeated.
    pub(crate) async fn run_repeated(&self, what: &str, text: &str) -> Result<Vec<ResultSet>, StorageError> {
        let mut attempt = 1;
        loop {
            match self.run(what, text).await {
                Err(error) if error.kind() == StorageErrorKind::Conflict && attempt < ATTEMPTS => {
                    let wait_ms = rand::rng().random_range(1..=BACK_OFF_MS << attempt);
                    tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    /// How long a statement may take, its connection included.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// A connection for more than one statement; it is closed when dropped without [`give_back`](Checkout::give_back).
    pub(crate) async fn checkout(&self, what: &str) -> Result<Checkout, StorageError> {
        match self.sessions.get().await {
            Ok(object) => Ok(Checkout { object: Some(object) }),
            Err(PoolError::Backend(error)) => {
                Err(StorageError::new(error.kind(), format!("cannot {what}")).with_source(error))
            }
            Err(other) => {
                Err(StorageError::new(StorageErrorKind::Unavailable, format!("cannot {what}: no connection is free"))
                    .with_source(other))
            }
        }
    }
}

/// Makes and checks the connections of a pool.
struct Sessions {
    connector: Connector,
    limits: Limits,
}

impl Manager for Sessions {
    type Type = Session;
    type Error = StorageError;

    async fn create(&self) -> Result<Session, StorageError> {
        let conn = self.connector.connect("connect", Isolation::ReadCommitted, self.limits).await?;
        Ok(Session::new(conn))
    }

    async fn recycle(&self, session: &mut Session, metrics: &Metrics) -> RecycleResult<StorageError> {
        let lost = || Err(RecycleError::message("the connection was lost"));
        if !session.is_usable() {
            return lost();
        }
        if Instant::now().duration_since(metrics.recycled.unwrap_or(metrics.created)) < IDLE {
            return Ok(());
        }
        match tokio::time::timeout(PING, session.ping()).await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => lost(),
        }
    }
}

/// A connection that is out of the pool.
pub(crate) struct Checkout {
    object: Option<Object<Sessions>>,
}

impl Checkout {
    pub(crate) fn session(&mut self) -> &mut Session {
        self.object.as_mut().expect("the connection is there until it is given back")
    }

    /// A connection that was lost does not come out of the pool again.
    pub(crate) fn give_back(mut self) {
        self.object = None;
    }
}

impl Drop for Checkout {
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            drop(Object::take(object));
        }
    }
}

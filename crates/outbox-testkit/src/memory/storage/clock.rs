use time::{Duration, OffsetDateTime};
use tokio::time::Instant;

/// The database's clock: tokio's, plus the steps that a test made.
#[derive(Debug)]
pub(in crate::memory) struct Clock {
    started: Instant,
    wall_at_start: OffsetDateTime,
    stepped: Duration,
}

impl Clock {
    pub(in crate::memory) fn new() -> Self {
        Self { started: Instant::now(), wall_at_start: OffsetDateTime::now_utc(), stepped: Duration::ZERO }
    }

    pub(in crate::memory) fn now(&self) -> OffsetDateTime {
        self.wall_at_start + self.started.elapsed() + self.stepped
    }

    pub(in crate::memory) fn step(&mut self, by: Duration) {
        self.stepped += by;
    }
}

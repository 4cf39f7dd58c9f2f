use time::{Duration, OffsetDateTime};
use tokio::time::Instant;

/// The database's clock: tokio's, plus the steps that a test made.
#[derive(Debug)]
pub(super) struct Clock {
    started: Instant,
    wall_at_start: OffsetDateTime,
    stepped: Duration,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self { started: Instant::now(), wall_at_start: OffsetDateTime::now_utc(), stepped: Duration::ZERO }
    }

    pub(super) fn now(&self) -> OffsetDateTime {
        self.wall_at_start + self.started.elapsed() + self.stepped
    }

    pub(super) fn step(&mut self, by: Duration) {
        self.stepped += by;
    }
}

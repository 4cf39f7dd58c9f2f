//! The processes that run the relay, and what can happen to a process: it crashes at any poll, it is paused, it leaves.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt as _;
use outbox_core::relay::{Relay, RelayError, RelayReport};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::ViolationKind;
use super::broker::SimTransport;
use super::storage::SimStorage;
use super::world::{Control, World};

/// Polls at one moment of virtual time that no healthy relay needs.
const SPINNING: u64 = 50_000;

/// Starts one more relay. When it crashes, another takes its place after a while.
pub(super) fn start(world: &Arc<World>) {
    let (leave, asked_to_leave) = oneshot::channel();
    let number = world.step(|state| {
        state.relays_started += 1;
        state.coming_back = state.coming_back.saturating_sub(1);
        let number = state.relays_started;
        state.relays.insert(number, Control { leave: Some(leave), ..Control::default() });
        state.note(|| format!("relay {number} starts"));
        number
    });
    tokio::spawn(live(world.clone(), number, asked_to_leave));
}

fn live(
    world: Arc<World>,
    number: usize,
    asked_to_leave: oneshot::Receiver<()>,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        let process = Process {
            relay: Some(Box::pin(run(world.clone(), number, asked_to_leave))),
            world,
            number,
            pause: None,
            polls: (Instant::now(), 0),
        };
        let world = process.world.clone();
        let end = AssertUnwindSafe(process).catch_unwind().await;
        world.step(|state| {
            state.relays.remove(&number);
            let what = match &end {
                Ok(End::Left(Ok(report))) => {
                    let drained = report.drained;
                    if state.ending && !drained {
                        let held = report.stats.in_flight;
                        let what = format!("relay {number} holds {held} messages though all are delivered");
                        state.ledger.violated(ViolationKind::Stuck, what);
                    }
                    return state.note(|| format!("relay {number} left, drained: {drained}"));
                }
                Ok(End::Crashed) => {
                    state.coming_back += 1;
                    return;
                }
                Ok(End::Left(Err(error))) => format!("relay {number} ended: {error}"),
                Ok(End::Spins) => format!("relay {number} spins without waiting"),
                Err(_) => format!("relay {number} panicked"),
            };
            state.ledger.violated(ViolationKind::Broken, what);
        });
        if matches!(end, Ok(End::Crashed)) {
            let gap = world.roll(|dice| dice.millis(1, 2_000));
            sleep(gap).await;
            if !world.lock().ending {
                start(&world);
            }
        }
    })
}

async fn run(
    world: Arc<World>,
    number: usize,
    asked_to_leave: oneshot::Receiver<()>,
) -> Result<RelayReport, RelayError> {
    let mut config = world.scenario.relay.clone();
    config.jitter_seed = config.jitter_seed.map(|seed| seed.wrapping_add(number as u64));
    let storage = SimStorage::new(world.clone(), number);
    let transport = SimTransport { world: world.clone(), relay: number };
    match Relay::builder(storage, transport).config(config).build() {
        Ok(relay) => {
            world.step(|state| {
                if let Some(control) = state.relays.get_mut(&number) {
                    control.handle = Some(relay.handle());
                }
            });
            relay.run(async move { drop(asked_to_leave.await) }).await
        }
        Err(invalid) => {
            world.violated(ViolationKind::Broken, invalid.to_string());
            std::future::pending().await
        }
    }
}

enum End {
    Left(Result<RelayReport, RelayError>),
    Crashed,
    Spins,
}

/// A relay's process: polls the relay unless it is paused, and drops it when it crashes.
struct Process<F> {
    relay: Option<F>,
    world: Arc<World>,
    number: usize,
    pause: Option<Pin<Box<Sleep>>>,
    polls: (Instant, u64),
}

impl<F: Future<Output = Result<RelayReport, RelayError>>> Process<F> {
    fn is_crashing(&self) -> bool {
        self.world.lock().relays.get(&self.number).is_some_and(|control| control.crashed)
    }

    fn spins(&mut self) -> bool {
        let now = Instant::now();
        if self.polls.0 != now {
            self.polls = (now, 0);
        }
        self.polls.1 += 1;
        self.polls.1 > SPINNING
    }
}

impl<F: Future<Output = Result<RelayReport, RelayError>>> Future for Process<Pin<Box<F>>> {
    type Output = End;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<End> {
        let this = &mut *self;
        let number = this.number;
        let paused_until = this.world.step(|state| {
            let control = state.relays.get_mut(&number)?;
            control.waker = Some(context.waker().clone());
            if let Some(left) = &mut control.polls_left {
                *left = left.saturating_sub(1);
                if *left == 0 {
                    state.ledger.fault(1);
                    state.crash(number);
                }
            }
            let control = state.relays.get(&number)?;
            control.paused_until.filter(|until| !control.crashed && Instant::now() < *until)
        });
        if let Some(until) = paused_until {
            let pause = this.pause.insert(Box::pin(sleep_until(until)));
            if pause.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
        if !this.is_crashing() {
            let Some(relay) = &mut this.relay else { return Poll::Ready(End::Crashed) };
            match relay.as_mut().poll(context) {
                Poll::Ready(ended) => return Poll::Ready(End::Left(ended)),
                Poll::Pending if this.spins() => return Poll::Ready(End::Spins),
                Poll::Pending if !this.is_crashing() => return Poll::Pending,
                Poll::Pending => {}
            }
        }
        this.relay = None;
        Poll::Ready(End::Crashed)
    }
}

/// Asks every relay to leave and waits until all are gone.
pub(super) async fn all_leave(world: &Arc<World>) {
    world.step(|state| {
        state.ending = true;
        for control in state.relays.values_mut() {
            drop(control.leave.take());
        }
    });
    let limit = world.scenario.relay.shutdown_timeout + Duration::from_secs(5);
    if !world.until(limit, |state| state.relays.is_empty()).await {
        world.violated(ViolationKind::Stuck, "a relay did not end within its shutdown's deadline".to_owned());
    }
}

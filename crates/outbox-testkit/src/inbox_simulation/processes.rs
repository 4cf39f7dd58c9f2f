//! The processes that run the inbox, and what can happen to a process: it crashes at any poll, it stands still, it leaves.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt as _;
use outbox_inbox::{Delivery, Inbox, InboxError, InboxReport};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::ViolationKind;
use super::handler::handle;
use super::storage::SimInbox;
use super::world::{Control, World};
use crate::memory::MemoryConnection;

/// Polls at one moment of virtual time that no healthy inbox needs.
const SPINNING: u64 = 50_000;

/// Starts one more process. When it crashes, another takes its place after a while.
pub(super) fn start(world: &Arc<World>) {
    let (leave, asked_to_leave) = oneshot::channel();
    let number = {
        let mut state = world.lock();
        state.summary.processes += 1;
        state.coming_back = state.coming_back.saturating_sub(1);
        let number = usize::try_from(state.summary.processes).unwrap_or(usize::MAX);
        state.processes.insert(number, Control { leave: Some(leave), ..Control::default() });
        number
    };
    tokio::spawn(live(world.clone(), number, asked_to_leave));
}

fn live(
    world: Arc<World>,
    number: usize,
    asked_to_leave: oneshot::Receiver<()>,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        let process = Process {
            inbox: Some(Box::pin(run(world.clone(), number, asked_to_leave))),
            world: world.clone(),
            number,
            pause: None,
            polls: (Instant::now(), 0),
        };
        let end = AssertUnwindSafe(process).catch_unwind().await;
        world.lock().processes.remove(&number);
        let what = match end {
            Ok(End::Left(Ok(_))) => return,
            Ok(End::Crashed) => {
                world.lock().coming_back += 1;
                sleep(world.roll(|dice| dice.millis(1, 2_000))).await;
                if !world.lock().ending {
                    start(&world);
                }
                return;
            }
            Ok(End::Left(Err(error))) => format!("process {number} ended: {error}"),
            Ok(End::Spins) => format!("process {number} spins without waiting"),
            Err(_) => format!("process {number} panicked"),
        };
        world.violated(ViolationKind::Broken, what);
    })
}

async fn run(
    world: Arc<World>,
    number: usize,
    asked_to_leave: oneshot::Receiver<()>,
) -> Result<InboxReport, InboxError> {
    let mut config = world.scenario.inbox.clone();
    config.seed = config.seed.map(|seed| seed.wrapping_mul(31).wrapping_add(number as u64));
    let storage = SimInbox::new(world.clone(), number);
    let inbox = Inbox::builder(storage, world.consumer.as_str())
        .config(config)
        .on_raw_with(
            "order.placed",
            world.clone(),
            async |world: &Arc<World>, conn: &mut MemoryConnection, delivery: &Delivery| {
                handle(world, conn, delivery).await
            },
        )
        .source(world.source.clone())
        .build()
        .expect("a valid configuration");
    world.lock().handles.push(inbox.handle());
    inbox.run(async move { drop(asked_to_leave.await) }).await
}

enum End {
    Left(Result<InboxReport, InboxError>),
    Crashed,
    Spins,
}

/// A process: polls the inbox unless it stands still, and drops it when it crashes.
struct Process<F> {
    inbox: Option<F>,
    world: Arc<World>,
    number: usize,
    pause: Option<Pin<Box<Sleep>>>,
    polls: (Instant, u64),
}

impl<F> Process<F> {
    fn is_crashing(&self) -> bool {
        self.world.lock().processes.get(&self.number).is_some_and(|control| control.crashed)
    }

    fn spins(&mut self) -> bool {
        let now = Instant::now();
        if self.polls.0 != now {
            self.polls = (now, 0);
        }
        self.polls.1 += 1;
        self.polls.1 > SPINNING
    }

    /// Until when it stands still.
    fn paused_until(&self, context: &Context<'_>) -> Option<Instant> {
        let mut state = self.world.lock();
        let control = state.processes.get_mut(&self.number)?;
        control.waker = Some(context.waker().clone());
        if let Some(left) = &mut control.polls_left {
            *left = left.saturating_sub(1);
            control.crashed |= *left == 0;
        }
        control.paused_until.filter(|until| !control.crashed && Instant::now() < *until)
    }
}

impl<F: Future<Output = Result<InboxReport, InboxError>>> Future for Process<Pin<Box<F>>> {
    type Output = End;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<End> {
        let this = &mut *self;
        if let Some(until) = this.paused_until(context) {
            let pause = this.pause.insert(Box::pin(sleep_until(until)));
            if pause.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
        if !this.is_crashing() {
            let Some(inbox) = &mut this.inbox else { return Poll::Ready(End::Crashed) };
            match inbox.as_mut().poll(context) {
                Poll::Ready(ended) => return Poll::Ready(End::Left(ended)),
                Poll::Pending if this.spins() => return Poll::Ready(End::Spins),
                Poll::Pending if !this.is_crashing() => return Poll::Pending,
                Poll::Pending => {}
            }
        }
        this.inbox = None;
        Poll::Ready(End::Crashed)
    }
}

/// Asks every process to leave and waits until all are gone.
pub(super) async fn all_leave(world: &Arc<World>) {
    {
        let mut state = world.lock();
        state.ending = true;
        for control in state.processes.values_mut() {
            drop(control.leave.take());
        }
    }
    let limit = world.scenario.inbox.shutdown_timeout + Duration::from_secs(15);
    if !world.until(limit, || world.lock().processes.is_empty()).await {
        world.violated(ViolationKind::Stuck, "a process did not end within its shutdown's deadline".to_owned());
    }
}

use std::sync::Arc;

use outbox_inbox::{Delivery, Failure};
use tokio::time::sleep;

use super::world::World;
use crate::memory::{MemoryConnection, MemoryInboxError};

/// What a message's handler does beside its effect.
enum Whim {
    Fails,
    Panics,
    Hangs,
    Nothing,
}

/// Writes the message's id to the ledger, and fails, hangs and deadlocks as the world wants.
pub(super) async fn handle(
    world: &Arc<World>,
    conn: &mut MemoryConnection,
    delivery: &Delivery,
) -> Result<(), Failure> {
    let id = delivery.identity.id();
    let (whim, deadlocks, swallows, think) = {
        let mut state = world.lock();
        state.summary.calls += 1;
        let fails = state.failing.get_mut(id).filter(|left| **left > 0);
        let whim = match fails.map(|left| *left -= 1) {
            None => Whim::Nothing,
            Some(()) if state.dice.once_in(8) => Whim::Panics,
            Some(()) if state.dice.once_in(10) => Whim::Hangs,
            Some(()) => Whim::Fails,
        };
        let deadlocks = state.dice.once_in(world.scenario.deadlocking_every);
        (whim, deadlocks, state.dice.once_in(3), state.dice.millis(0, 4))
    };
    conn.write(id).await?;
    if !think.is_zero() {
        sleep(think).await;
    }
    if deadlocks && let Err(error) = update_two_rows(world, conn).await {
        // a handler that swallows an error: the transaction must not commit as if nothing had been
        if !swallows || error != MemoryInboxError::Deadlock {
            return Err(error.into());
        }
    }
    match whim {
        Whim::Nothing => Ok(()),
        Whim::Fails => Err("the card was refused".into()),
        Whim::Panics => std::panic::resume_unwind(Box::new("no such card")),
        Whim::Hangs => std::future::pending().await,
    }
}

async fn update_two_rows(world: &World, conn: &mut MemoryConnection) -> Result<(), MemoryInboxError> {
    let rows = if world.roll(|dice| dice.once_in(2)) { ["a", "b"] } else { ["b", "a"] };
    conn.add(rows[0], 1).await?;
    sleep(world.roll(|dice| dice.millis(1, 6))).await;
    conn.add(rows[1], 1).await
}

//! The operator: parks keys and lets them go, and settles the dead letters that have parked one.

use std::sync::Arc;

use outbox_core::inbox::{InboxAdmin, InboxDeadLetter, InboxStorage as _, OrderingKey, ParkedBy};
use outbox_core::relay::DeadLetterPolicy;
use tokio::time::sleep;

use super::world::{STREAM, World};

/// Works until the end of the run.
pub(super) async fn work(world: Arc<World>) {
    while !world.lock().ending {
        sleep(world.roll(|dice| dice.millis(20, 900))).await;
        if world.scenario.inbox.dead_letters == DeadLetterPolicy::ParkKey {
            settle_dead_letters(&world).await;
        }
        let admin = world.database.admin();
        if world.lock().calm {
            unpark_all(&world, admin).await;
        } else if world.scenario.parks_keys {
            let key = world.roll(|dice| format!("k{}", dice.between(0, world.scenario.keys)));
            let key = OrderingKey::of(STREAM, key.as_bytes());
            if world.roll(|dice| dice.once_in(2)) {
                drop(admin.park(&world.consumer, &key).await);
            } else {
                drop(admin.unpark(&world.consumer, &key).await);
            }
        }
    }
}

/// Replays most, which then succeed, lets others pass some, and discards those and some more.
async fn settle_dead_letters(world: &World) {
    let admin = world.database.admin();
    let letters: Vec<InboxDeadLetter> = admin.dead_letters(&world.consumer, 0, 1_000).await.unwrap_or_default();
    for letter in letters {
        let Some(id) = letter.identity.map(|identity| identity.id().to_owned()) else { continue };
        if world.roll(|dice| dice.once_in(6)) && admin.pass(&world.consumer, letter.seq).await.unwrap_or(false) {
            // what follows may be applied by now: a replay would come after it
            world.lock().passed.insert(id);
        } else if world.lock().passed.contains(&id) || world.roll(|dice| dice.once_in(4)) {
            world.lock().discarded.insert(id.clone());
            if !admin.discard(&world.consumer, letter.seq).await.unwrap_or(false) {
                world.lock().discarded.remove(&id);
            }
        } else {
            world.lock().failing.remove(&id);
            if admin.replay(&world.consumer, letter.seq).await.unwrap_or(false) {
                world.lock().summary.replayed += 1;
            }
        }
    }
}

async fn unpark_all(world: &World, admin: &dyn InboxAdmin) {
    let parked = admin.parked_keys(&world.consumer, None, 1_000).await.unwrap_or_default();
    for key in parked.into_iter().filter(|key| key.by == ParkedBy::Operator) {
        drop(admin.unpark(&world.consumer, &key.key).await);
    }
}

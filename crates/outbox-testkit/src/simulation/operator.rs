use uuid::Uuid;

use super::database::Key;
use super::world::State;

/// What an operator does changes the database and what the ledger expects of the key, in one step.
impl State {
    pub(super) fn replay(&mut self, id: Uuid) -> bool {
        let done = self.database.replay(id);
        if done {
            self.note(|| "an operator replays a dead letter".to_owned());
            self.ledger.replayed(id);
            self.key_goes_on(id);
        }
        done
    }

    pub(super) fn discard(&mut self, id: Uuid) -> bool {
        let done = self.database.discard(id);
        if done {
            self.note(|| "an operator discards a dead letter".to_owned());
            self.ledger.discarded(id);
            self.key_goes_on(id);
        }
        done
    }

    pub(super) fn unpark(&mut self, key: &Key) -> bool {
        let done = self.database.unpark(key);
        if done {
            self.note(|| format!("an operator unparks {key:?}"));
            self.ledger.unparked(key);
        }
        done
    }

    fn key_goes_on(&mut self, id: Uuid) {
        let record = self.ledger.find(id);
        if let Some(key) = record.and_then(|record| record.key.clone()) {
            let seq = record.map_or(0, |record| record.seq);
            self.note(|| format!("  it is {seq} of {key:?}"));
            if !self.database.parked().any(|parked| *parked == key) {
                self.ledger.unparked(&key);
            }
        }
    }
}

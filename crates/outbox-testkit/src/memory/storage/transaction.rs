use outbox_core::event::ToMessage;
use outbox_core::message::{InvalidMessage, Limits, NewMessage};
use time::OffsetDateTime;
use uuid::Uuid;

use super::MemoryStorage;

/// A transaction of a service. Dropping it rolls it back.
#[derive(Debug)]
pub struct MemoryTransaction {
    storage: MemoryStorage,
    appended: Vec<(NewMessage, OffsetDateTime)>,
}

impl MemoryTransaction {
    pub(super) fn new(storage: MemoryStorage) -> Self {
        Self { storage, appended: Vec::new() }
    }

    /// Appends a message or an event; returns the message's id.
    ///
    /// # Errors
    ///
    /// [`InvalidMessage`] when the message is over a limit. The transaction can go on.
    pub fn append(&mut self, item: &impl ToMessage) -> Result<Uuid, InvalidMessage> {
        let message = item.to_message()?;
        Limits::default().check(&message)?;
        self.appended.push((message.clone().into_owned(), self.storage.now()));
        Ok(message.id)
    }

    /// Commits: from now on the messages are pending.
    pub fn commit(self) {
        let mut state = self.storage.state();
        for (message, appended_at) in self.appended {
            state.tables.insert(message, appended_at);
        }
        drop(state);
        self.storage.shared.commits.send_replace(());
    }
}

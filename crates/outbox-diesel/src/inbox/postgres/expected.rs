use std::collections::{BTreeMap, BTreeSet};

use outbox_core::inbox::{Identity, OrderingKey};
use outbox_core::ports::{StorageError, StorageErrorKind};

use crate::inbox::shared::Status;

/// What a transaction must find when it reads its rows back.
#[derive(Debug, Default)]
pub(super) struct Expected {
    /// The transaction's id, once it has one: a handler that ended the transaction goes on in another.
    pub(super) xid: Option<String>,
    /// The status of dedup rows.
    pub(super) messages: BTreeMap<Identity, Status>,
    pub(super) held: Vec<i64>,
    pub(super) dead: Vec<i64>,
    /// Held messages that are there no more.
    pub(super) completed: Vec<i64>,
    pub(super) parked: BTreeSet<OrderingKey>,
}

impl Expected {
    /// A statement told the transaction's id.
    pub(super) fn saw(&mut self, what: &str, xid: Option<String>) -> Result<(), StorageError> {
        if self.xid.is_some() && self.xid != xid {
            let message =
                format!("cannot {what}: the transaction was ended by a handler, or by an error that it swallowed");
            return Err(StorageError::new(StorageErrorKind::Other, message));
        }
        self.xid = xid;
        Ok(())
    }
}

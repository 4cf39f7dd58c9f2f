use diesel::{
    QueryableByName,
    sql_types::{BigInt, Text},
};
use outbox::{InvalidMessage, NewMessage};
use uuid::Uuid;

use super::super::{event::OrderChanged, verify::Recorded};

/// The business statements. They hold numbers and UUIDs of the demo's own only, so nothing needs a bind.
pub(super) struct Sql {
    orders: String,
    changes: String,
}

/// An order's version after a change.
#[derive(QueryableByName)]
pub(super) struct Version {
    #[diesel(sql_type = BigInt)]
    order_id: i64,
    #[diesel(sql_type = BigInt)]
    version: i64,
}

/// A row of the record.
#[derive(QueryableByName)]
pub(super) struct Change {
    #[diesel(sql_type = Text)]
    event_id: String,
    #[diesel(sql_type = BigInt)]
    order_id: i64,
    #[diesel(sql_type = BigInt)]
    version: i64,
}

impl Sql {
    pub(super) fn new(prefix: &str) -> Self {
        Self { orders: format!("{prefix}orders"), changes: format!("{prefix}order_changes") }
    }

    pub(super) fn create(&self) -> String {
        format!(
            "CREATE TABLE {} (order_id bigint PRIMARY KEY, version bigint NOT NULL);
             CREATE TABLE {} (event_id char(36) PRIMARY KEY, order_id bigint NOT NULL, version bigint NOT NULL,
                              UNIQUE (order_id, version));",
            self.orders, self.changes
        )
    }

    pub(super) fn remove(&self) -> String {
        format!("DROP TABLE IF EXISTS {}; DROP TABLE IF EXISTS {};", self.changes, self.orders)
    }

    /// Changes the orders and returns their versions. The row locks that it takes make the writers of one order follow each other.
    pub(super) fn change(&self, orders: &[i64]) -> String {
        format!(
            "{} ON CONFLICT (order_id) DO UPDATE SET version = {}.version + 1 RETURNING order_id, version",
            self.place(orders),
            self.orders,
        )
    }

    /// The same in MySQL's words, which return nothing: [`versions`](Self::versions) reads what was made.
    pub(super) fn change_on_mysql(&self, orders: &[i64]) -> String {
        format!("{} ON DUPLICATE KEY UPDATE version = version + 1", self.place(orders))
    }

    /// The versions of orders that this transaction has locked.
    pub(super) fn versions(&self, orders: &[i64]) -> String {
        let ids: Vec<String> = orders.iter().map(i64::to_string).collect();
        format!(
            "SELECT order_id, version FROM {} WHERE order_id IN ({}) ORDER BY order_id",
            self.orders,
            ids.join(", ")
        )
    }

    fn place(&self, orders: &[i64]) -> String {
        let values: Vec<String> = orders.iter().map(|order| format!("({order}, 1)")).collect();
        format!("INSERT INTO {} (order_id, version) VALUES {}", self.orders, values.join(", "))
    }

    /// Records the changes beside the outbox, in the same transaction.
    pub(super) fn record(&self, versions: &[Version], ids: &[Uuid]) -> String {
        let row = |(version, id): (&Version, &Uuid)| format!("('{id}', {}, {})", version.order_id, version.version);
        let values: Vec<String> = versions.iter().zip(ids).map(row).collect();
        format!("INSERT INTO {} (event_id, order_id, version) VALUES {}", self.changes, values.join(", "))
    }

    pub(super) fn read_record(&self) -> String {
        format!("SELECT event_id, order_id, version FROM {}", self.changes)
    }
}

/// The events of the changes.
pub(super) fn messages(versions: &[Version]) -> Result<Vec<NewMessage>, InvalidMessage> {
    versions.iter().map(|row| NewMessage::of(&OrderChanged::new(row.order_id, row.version))).collect()
}

/// The record as the verification wants it.
pub(super) fn recorded(rows: Vec<Change>) -> anyhow::Result<Vec<Recorded>> {
    rows.into_iter()
        .map(|row| Ok(Recorded { id: Uuid::try_parse(&row.event_id)?, order_id: row.order_id, version: row.version }))
        .collect()
}

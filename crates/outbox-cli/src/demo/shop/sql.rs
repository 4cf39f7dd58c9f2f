use diesel::{
    QueryableByName,
    sql_types::{BigInt, Text},
};
use outbox::{InvalidMessage, NewMessage};
use uuid::Uuid;

use super::super::{books::Account, event::OrderChanged, verify::Recorded};

/// The business statements. They hold numbers and UUIDs of the demo's own only, so nothing needs a bind.
pub(super) struct Sql {
    orders: String,
    changes: String,
    balances: String,
    /// What a 64-bit integer is called in a cast.
    integer: &'static str,
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
    #[diesel(sql_type = BigInt)]
    cents: i64,
}

/// An account, by the record or by the balances.
#[derive(QueryableByName)]
pub(super) struct AccountRow {
    #[diesel(sql_type = BigInt)]
    account: i64,
    #[diesel(sql_type = BigInt)]
    cents: i64,
    #[diesel(sql_type = BigInt)]
    events: i64,
    #[diesel(sql_type = BigInt)]
    version: i64,
    #[diesel(sql_type = BigInt)]
    missteps: i64,
}

/// A number of events.
#[derive(QueryableByName)]
pub(super) struct Events {
    #[diesel(sql_type = BigInt)]
    pub(super) events: i64,
}

impl Sql {
    pub(super) fn new(prefix: &str, integer: &'static str) -> Self {
        let table = |name| format!("{prefix}{name}");
        Self { orders: table("orders"), changes: table("order_changes"), balances: table("balances"), integer }
    }

    pub(super) fn create(&self) -> String {
        format!(
            "CREATE TABLE {} (order_id bigint PRIMARY KEY, version bigint NOT NULL);
             CREATE TABLE {} (event_id char(36) PRIMARY KEY, order_id bigint NOT NULL, version bigint NOT NULL,
                              cents bigint NOT NULL, UNIQUE (order_id, version));
             CREATE TABLE {} (account bigint PRIMARY KEY, cents bigint NOT NULL, events bigint NOT NULL,
                              version bigint NOT NULL, missteps bigint NOT NULL);",
            self.orders, self.changes, self.balances
        )
    }

    pub(super) fn remove(&self) -> String {
        let tables = [&self.balances, &self.changes, &self.orders];
        tables.map(|table| format!("DROP TABLE IF EXISTS {table};")).concat()
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
        let row = |(version, id): (&Version, &Uuid)| {
            let OrderChanged { order_id, version, amount_cents, .. } = version.event();
            format!("('{id}', {order_id}, {version}, {amount_cents})")
        };
        let values: Vec<String> = versions.iter().zip(ids).map(row).collect();
        format!("INSERT INTO {} (event_id, order_id, version, cents) VALUES {}", self.changes, values.join(", "))
    }

    pub(super) fn read_record(&self) -> String {
        format!("SELECT event_id, order_id, version, cents FROM {}", self.changes)
    }

    /// What the consumer does with an event, once: a second time would add to it again.
    pub(super) fn apply(&self, event: &OrderChanged) -> String {
        let balances = &self.balances;
        format!(
            "{} ON CONFLICT (account) DO UPDATE SET cents = {balances}.cents + excluded.cents, events = {balances}.events + 1, \
             version = excluded.version, missteps = {balances}.missteps + \
             CASE WHEN excluded.version = {balances}.version + 1 THEN 0 ELSE 1 END",
            self.open(event)
        )
    }

    /// The same in MySQL's words, which assign from left to right.
    pub(super) fn apply_on_mysql(&self, event: &OrderChanged) -> String {
        format!(
            "{} ON DUPLICATE KEY UPDATE cents = cents + VALUES(cents), events = events + 1, \
             missteps = missteps + CASE WHEN VALUES(version) = version + 1 THEN 0 ELSE 1 END, version = VALUES(version)",
            self.open(event)
        )
    }

    fn open(&self, event: &OrderChanged) -> String {
        let OrderChanged { order_id, version, amount_cents, .. } = event;
        let missteps = i64::from(*version != 1);
        format!(
            "INSERT INTO {} (account, cents, events, version, missteps) \
             VALUES ({order_id}, {amount_cents}, 1, {version}, {missteps})",
            self.balances
        )
    }

    /// How many events the balances hold.
    pub(super) fn applied(&self) -> String {
        format!("SELECT CAST(coalesce(sum(events), 0) AS {}) AS events FROM {}", self.integer, self.balances)
    }

    pub(super) fn balances(&self) -> String {
        format!("SELECT account, cents, events, version, missteps FROM {}", self.balances)
    }

    /// What the balances must be, by the record of the committed changes.
    pub(super) fn expected_balances(&self) -> String {
        let (integer, changes) = (self.integer, &self.changes);
        format!(
            "SELECT order_id AS account, CAST(sum(cents) AS {integer}) AS cents, count(*) AS events, \
             max(version) AS version, CAST(0 AS {integer}) AS missteps FROM {changes} GROUP BY order_id"
        )
    }
}

impl Version {
    fn event(&self) -> OrderChanged {
        OrderChanged::new(self.order_id, self.version)
    }
}

/// The events of the changes.
pub(super) fn messages(versions: &[Version]) -> Result<Vec<NewMessage>, InvalidMessage> {
    versions.iter().map(|row| NewMessage::of(&row.event())).collect()
}

/// The record as the verification wants it.
pub(super) fn recorded(rows: Vec<Change>) -> anyhow::Result<Vec<Recorded>> {
    rows.into_iter()
        .map(|Change { event_id, order_id, version, cents }| {
            Ok(Recorded { id: Uuid::try_parse(&event_id)?, order_id, version, cents })
        })
        .collect()
}

/// Accounts as the audit wants them.
pub(super) fn accounts(rows: Vec<AccountRow>) -> Vec<Account> {
    let account = |AccountRow { account, cents, events, version, missteps }| Account {
        account,
        cents,
        events,
        version,
        missteps,
    };
    rows.into_iter().map(account).collect()
}

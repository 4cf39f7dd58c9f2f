//! What is compared: an inbox, and consumers that do without.

mod child;
mod ours;
mod plain;

pub use child::{ChildConsumer, ConsumerProcess};
pub use ours::consume;
pub use plain::{Committing, consume_plainly};

use diesel::ExpressionMethods as _;
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};

use crate::services::bench_effects;

/// The effect of a message: one row.
async fn apply(conn: &mut AsyncPgConnection, id: &str, account: &str) -> Result<(), diesel::result::Error> {
    let row = (bench_effects::id.eq(id), bench_effects::account.eq(account));
    diesel::insert_into(bench_effects::table).values(row).execute(conn).await.map(drop)
}

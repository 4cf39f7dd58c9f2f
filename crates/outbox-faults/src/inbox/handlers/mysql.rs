use diesel::{
    sql_query,
    sql_types::{BigInt, Text},
};
use diesel_async::{AsyncMysqlConnection, RunQueryDsl as _};
use outbox::{Delivery, Failure};

use super::{Whims, shared_rows};
use crate::inbox::stream::Body;

const COUNT: &str = "INSERT INTO applied (id, times) VALUES (?, 1) ON DUPLICATE KEY UPDATE times = times + 1";
const PLACE: &str = "UPDATE key_counters SET n = n + 1 WHERE name = ?";
const LOG: &str = "INSERT INTO effects (name, place, id, n) SELECT name, n, ?, ? FROM key_counters WHERE name = ?";
const SHARED: &str = "UPDATE shared_counters SET n = n + 1 WHERE name = ?";

/// Applies a message.
pub(in crate::inbox) async fn apply(
    whims: &Whims,
    conn: &mut AsyncMysqlConnection,
    event: Body,
    delivery: &Delivery,
) -> Result<(), Failure> {
    let id = delivery.identity.id();
    sql_query(COUNT).bind::<Text, _>(id).execute(conn).await?;
    sql_query(PLACE).bind::<Text, _>(&event.key).execute(conn).await?;
    let log = sql_query(LOG).bind::<Text, _>(id).bind::<BigInt, _>(event.n).bind::<Text, _>(&event.key);
    if log.execute(conn).await? != 1 {
        return Err(format!("the key {} has no counter", event.key).into());
    }
    if whims.deadlocks {
        for name in shared_rows() {
            sql_query(SHARED).bind::<Text, _>(name).execute(conn).await?;
        }
    }
    if delivery.attempts < event.failures {
        return Err("this message is to fail".into());
    }
    Ok(())
}

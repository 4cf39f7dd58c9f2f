use diesel::{
    sql_query,
    sql_types::{BigInt, Text},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use outbox::{Delivery, Failure};

use super::{Whims, shared_rows};
use crate::inbox::stream::Body;

const COUNT: &str =
    "INSERT INTO applied AS a (id, times) VALUES ($1, 1) ON CONFLICT (id) DO UPDATE SET times = a.times + 1";
const LOG: &str = "WITH place AS (UPDATE key_counters SET n = n + 1 WHERE name = $1 RETURNING n) \
    INSERT INTO effects (name, place, id, n) SELECT $1, place.n, $2, $3 FROM place";
const SHARED: &str = "UPDATE shared_counters SET n = n + 1 WHERE name = $1";

/// Applies a message.
pub(in crate::inbox) async fn apply(
    whims: &Whims,
    conn: &mut AsyncPgConnection,
    event: Body,
    delivery: &Delivery,
) -> Result<(), Failure> {
    let id = delivery.identity.id();
    sql_query(COUNT).bind::<Text, _>(id).execute(conn).await?;
    let log = sql_query(LOG).bind::<Text, _>(&event.key).bind::<Text, _>(id).bind::<BigInt, _>(event.n);
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

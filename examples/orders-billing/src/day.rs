//! Control totals of a day against what a service has, by SQL.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use diesel::{
    QueryableByName, sql_query,
    sql_types::{BigInt, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use tokio::time::sleep;
use uuid::Uuid;

/// How long nothing may change before a service gives up. Long enough to start the others by hand.
const PATIENCE: Duration = Duration::from_secs(300);
const LOOK: Duration = Duration::from_millis(50);

/// The table of the days that were closed, with what was said of them.
pub const TABLE: &str = "CREATE TABLE IF NOT EXISTS days \
    (day uuid PRIMARY KEY, items bigint NOT NULL, total_cents bigint NOT NULL, verified boolean NOT NULL DEFAULT false);";

/// A day that was closed: what was said of it, and what is there.
#[derive(QueryableByName, Debug, Clone, PartialEq, Eq)]
pub struct Day {
    /// Which day.
    #[diesel(sql_type = SqlUuid)]
    pub day: Uuid,
    /// How many items it has, by its control totals.
    #[diesel(sql_type = BigInt)]
    pub items: i64,
    /// What they come to, by its control totals.
    #[diesel(sql_type = BigInt)]
    pub total_cents: i64,
    #[diesel(sql_type = BigInt)]
    found: i64,
    #[diesel(sql_type = BigInt)]
    found_cents: i64,
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// Waits until a day is closed and the rows of `items` (with `day` and `total_cents`) are what its control totals say.
///
/// # Errors
///
/// There are more rows than orders, the amounts are others, or nothing changes any more.
pub async fn complete(conn: &mut AsyncPgConnection, items: &str) -> Result<Day> {
    let sql = format!(
        "SELECT d.day, d.items, d.total_cents, count(i.day) AS found, coalesce(sum(i.total_cents), 0)::bigint AS found_cents \
         FROM days AS d LEFT JOIN {items} AS i ON i.day = d.day WHERE NOT d.verified GROUP BY d.day ORDER BY d.day"
    );
    let mut last = (Vec::new(), Instant::now());
    loop {
        let days: Vec<Day> = sql_query(&sql).load(conn).await?;
        for day in &days {
            ensure!(day.found <= day.items, "{items}: {} of {} orders of {}", day.found, day.items, day.day);
            if day.found == day.items {
                let (found, told) = (day.found_cents, day.total_cents);
                ensure!(found == told, "{items} of {} come to {found} cents, not to {told}", day.day);
                sql_query("UPDATE days SET verified = true WHERE day = $1")
                    .bind::<SqlUuid, _>(day.day)
                    .execute(conn)
                    .await?;
                return Ok(day.clone());
            }
        }
        if days != last.0 {
            last = (days, Instant::now());
        } else if last.1.elapsed() > PATIENCE {
            let dead = count(conn, "inbox_dead_letters").await?;
            bail!(
                "nothing new for {} s; days that are not complete: {}; dead letters of the inbox: {dead}",
                PATIENCE.as_secs(),
                last.0.len()
            );
        }
        sleep(LOOK).await;
    }
}

/// Waits until the relay has delivered everything.
///
/// # Errors
///
/// Something is a dead letter, or nothing moves any more.
pub async fn delivered(conn: &mut AsyncPgConnection) -> Result<()> {
    let mut last = (0, Instant::now());
    loop {
        let pending = count(conn, "outbox_messages").await?;
        if pending == 0 {
            let dead = count(conn, "outbox_dead_letters").await?;
            ensure!(dead == 0, "{dead} dead letters in the outbox");
            return Ok(());
        }
        if pending != last.0 {
            last = (pending, Instant::now());
        }
        ensure!(last.1.elapsed() <= PATIENCE, "{pending} events were not delivered for {} s", PATIENCE.as_secs());
        sleep(LOOK).await;
    }
}

async fn count(conn: &mut AsyncPgConnection, table: &str) -> Result<i64> {
    let counted: Count = sql_query(format!("SELECT count(*) AS count FROM {table}")).get_result(conn).await?;
    Ok(counted.count)
}

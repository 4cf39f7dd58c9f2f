//! The roles of `docs/roles.md`.

use std::time::Duration;

use diesel_async::SimpleAsyncConnection;
use outbox_core::ports::{Burial, DeadReason, Fenced, ReadLimits, RelayId, ShardId, Storage};
use outbox_diesel::Tables;
use outbox_diesel::migrations::{EXPECTED_VERSION, postgres};
use outbox_diesel::postgres::{PostgresOutbox, PostgresStorage};
use uuid::Uuid;

use super::message;
use super::postgres_schema::{Schema, connect, url};

const PAGE: &str = include_str!("../../../../docs/roles.md");
const NAMES: [&str; 3] = ["orders_writer", "events_relay", "events_operator"];

/// The SQL of the page, for this schema and with roles of this test alone.
fn statements(schema: &str, suffix: &str) -> String {
    let postgres = PAGE.split("\n## MySQL and MariaDB\n").next().unwrap();
    let mut sql: String = postgres.split("```sql\n").skip(1).map(|part| part.split("```").next().unwrap()).collect();
    for name in NAMES {
        sql = sql.replace(name, &format!("{name}_{suffix}"));
    }
    format!("SET search_path TO {schema}; {}", sql.replace("SCHEMA public", &format!("SCHEMA {schema}")))
}

fn storage_as(role: &str, tables: &Tables) -> PostgresStorage {
    let url = url();
    let separator = if url.contains('?') { '&' } else { '?' };
    PostgresStorage::builder(format!("{url}{separator}options=-crole%3D{role}")).tables(tables.clone()).build().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_of_the_docs() {
    let suffix = Uuid::new_v4().simple().to_string();
    let schema = Schema { tables: Tables::new(Some(&format!("t_{suffix}")), "outbox_").unwrap() };
    let tables = schema.tables.clone();
    postgres::up(&mut connect().await, &tables, EXPECTED_VERSION).await.unwrap();
    let [writer, relay, operator] = NAMES.map(|name| format!("{name}_{suffix}"));
    let sql = statements(schema.name(), &suffix);
    connect().await.batch_execute(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));

    let mut conn = connect().await;
    conn.batch_execute(&format!("SET ROLE {writer}")).await.unwrap();
    let outbox = PostgresOutbox::new(tables.clone());
    outbox.append(&mut conn, &message("1")).await.unwrap();
    outbox.append_all(&mut conn, &[message("1"), message("2")]).await.unwrap();
    for forbidden in [
        "SELECT * FROM {{messages}}",
        "DELETE FROM {{messages}}",
        "INSERT INTO {{messages}} (seq, aggregate_type, event_type, payload) VALUES (1, 'order', 'order.placed', '')",
    ] {
        let error = conn.batch_execute(&tables.render(forbidden)).await.expect_err(forbidden);
        assert!(error.to_string().contains("permission denied"), "{forbidden}: {error}");
    }

    let storage = storage_as(&relay, &tables);
    let profile = storage.check().await.unwrap();
    let id = RelayId { owner: Uuid::new_v4(), name: "relay".to_owned() };
    storage.leases().heartbeat(&id, Duration::from_secs(60), true).await.unwrap();
    let leases = storage.leases().acquire(&id, Duration::from_secs(60), profile.shards.into()).await.unwrap();
    let mut reader = storage.reader().await.unwrap();
    reader.assign(&(0..profile.shards).map(ShardId).collect::<Vec<_>>());
    let limits = ReadLimits { rows: 2_000, bytes: 1 << 20, max_message_bytes: 1 << 20 };
    let messages = reader.read(&limits).await.unwrap().messages;
    assert_eq!(messages.len(), 3);
    let dead = messages[0].position();
    let burial = Burial {
        position: dead,
        attempts: 1,
        reason: DeadReason::Rejected,
        error: "refused".to_owned(),
        outcome_unknown: false,
        park_key: true,
    };
    let lease = leases.iter().find(|lease| lease.shard == dead.shard).unwrap();
    assert_eq!(storage.settler().bury(id.owner, lease, &burial).await.unwrap(), Fenced::Done);
    storage.settler().settle(&[messages[1].position(), messages[2].position()]).await.unwrap();

    let operators = storage_as(&operator, &tables);
    let admin = operators.admin();
    assert_eq!(admin.dead_letters(0, 10).await.unwrap().len(), 1);
    assert!(admin.replay(dead.id).await.unwrap());
    assert!(admin.park("order", "9").await.unwrap());
    assert!(admin.unpark("order", "9").await.unwrap());
    assert_eq!(schema.messages().await, 1);

    drop((storage, operators, reader, conn));
    drop(schema);
    let roles = [writer, relay, operator].join(", ");
    connect().await.batch_execute(&format!("DROP ROLE {roles}")).await.unwrap();
}

//! Least-privilege accounts: a writer that can only append, and a relay that can do no more than deliver.

use diesel_async::SimpleAsyncConnection;
use outbox_core::NewMessage;
use outbox_core::ports::{RelayId, Storage, StorageErrorKind};
use outbox_diesel::postgres::{PostgresOutbox, PostgresStorage};
use uuid::Uuid;

use crate::database::{Database, LIMITS, connect, reader, server_url};

struct Roles {
    writer: String,
    relay: String,
}

impl Roles {
    async fn create(database: &Database) -> Self {
        let suffix = Uuid::new_v4().simple().to_string();
        let roles = Self { writer: format!("writer_{suffix}"), relay: format!("relay_{suffix}") };
        let Self { writer, relay } = &roles;
        database
            .execute(&format!(
                "CREATE ROLE {writer} LOGIN; CREATE ROLE {relay} LOGIN; \
                 GRANT INSERT ON outbox_messages TO {writer}; GRANT USAGE ON SEQUENCE outbox_messages_seq TO {writer}; \
                 GRANT SELECT, UPDATE, DELETE ON outbox_messages TO {relay}; \
                 GRANT SELECT ON outbox_messages_seq, outbox_schema TO {relay}; \
                 GRANT SELECT, UPDATE ON outbox_leases TO {relay}; \
                 GRANT SELECT, INSERT, UPDATE, DELETE ON outbox_relays TO {relay}; \
                 GRANT SELECT, INSERT ON outbox_dead_letters, outbox_parked_keys TO {relay}"
            ))
            .await;
        roles
    }

    async fn drop(self, database: Database) {
        drop(database);
        let mut server = connect(&server_url()).await;
        server.batch_execute(&format!("DROP ROLE {}; DROP ROLE {}", self.writer, self.relay)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_writer_appends_and_the_relay_delivers_with_their_grants_alone() {
    let database = Database::create().await;
    let roles = Roles::create(&database).await;
    let mut writer = connect(&database.url_of(&roles.writer)).await;
    let message = NewMessage::new("order", "order.placed", b"{}".to_vec()).aggregate_id("1");
    PostgresOutbox::default().append(&mut writer, &message).await.unwrap();
    writer.batch_execute("SELECT * FROM outbox_messages").await.expect_err("a writer cannot read");

    let storage = PostgresStorage::connect(&database.url_of(&roles.relay)).await.unwrap();
    storage.check().await.unwrap();
    let relay = RelayId { owner: Uuid::new_v4(), name: "relay".into() };
    let lease = std::time::Duration::from_secs(30);
    storage.leases().heartbeat(&relay, lease, true).await.unwrap();
    let leases = storage.leases().acquire(&relay, lease, 64).await.unwrap();
    let batch = reader(&storage).await.read(&LIMITS).await.unwrap();
    let position = batch.messages[0].position();
    let held = leases.iter().find(|lease| lease.shard == position.shard).unwrap();
    let mark = outbox_core::ports::FailureMark {
        position,
        attempts: 1,
        delay: std::time::Duration::ZERO,
        error: "test".into(),
    };
    storage.settler().retry_later(relay.owner, held, &mark).await.unwrap();
    let burial = outbox_core::ports::Burial {
        position,
        attempts: 1,
        reason: outbox_core::ports::DeadReason::Rejected,
        error: "test".into(),
        outcome_unknown: false,
        park_key: true,
    };
    storage.settler().bury(relay.owner, held, &burial).await.unwrap();
    storage.settler().parked_keys(&[position.shard]).await.unwrap();
    assert_eq!(storage.settler().backlog().await.unwrap().dead_letters, 1);
    storage.settler().settle(&[position]).await.unwrap();
    storage.leases().release(&relay, &leases).await.unwrap();
    storage.leases().resign(&relay).await.unwrap();
    drop(storage);
    roles.drop(database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_grant_is_refused_with_the_role_the_table_and_the_command() {
    let database = Database::create().await;
    let roles = Roles::create(&database).await;
    database.execute(&format!("REVOKE DELETE ON outbox_messages FROM {}", roles.relay)).await;
    let storage = PostgresStorage::connect(&database.url_of(&roles.relay)).await.unwrap();
    let error = storage.check().await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Refused);
    let command = format!("GRANT DELETE ON \"outbox_messages\" TO \"{}\"", roles.relay);
    assert!(error.to_string().contains(&command), "{error}");
    drop(storage);
    roles.drop(database).await;
}

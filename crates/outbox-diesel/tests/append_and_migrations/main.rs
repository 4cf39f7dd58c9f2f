//! Appending in the caller's transaction, and the migrations, on real databases.
#![allow(unreachable_pub)]

#[cfg(feature = "mysql")]
mod append_mysql;
#[cfg(feature = "mysql")]
mod append_mysql_bulk;
#[cfg(feature = "postgres")]
mod append_postgres;
#[cfg(feature = "postgres")]
mod append_postgres_bulk;
#[cfg(feature = "sqlite")]
mod append_sqlite;
#[cfg(feature = "mysql")]
mod migrations_mysql;
#[cfg(feature = "mysql")]
mod migrations_mysql_stopped;
#[cfg(feature = "postgres")]
mod migrations_postgres;
#[cfg(feature = "sqlite")]
mod migrations_sqlite;
#[cfg(feature = "mysql")]
mod mysql_schema;
#[cfg(feature = "mysql")]
mod plain_inserts_mysql;
#[cfg(feature = "postgres")]
mod postgres_schema;
#[cfg(feature = "postgres")]
mod roles;
#[cfg(feature = "mysql")]
mod roles_mysql;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
mod statements;

#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
fn message(key: &str) -> outbox_core::NewMessage {
    outbox_core::NewMessage::new("order", "order.placed", b"{\"secret\":\"pa55word\"}".to_vec()).aggregate_id(key)
}

/// Messages that no database may see, and the field that the error names.
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
fn invalid_messages() -> Vec<(outbox_core::NewMessage, &'static str)> {
    vec![
        (message("a\0b"), "NUL"),
        (message(&"k".repeat(256)), "aggregate_id has 256 characters, the limit is 255"),
        (message(""), "aggregate_id is empty"),
        (message("1").header("ce_id", "x"), "\"ce_id\" is reserved"),
        (message("1").header("h", "x".repeat(20_000)), "headers has 20001 bytes, the limit is 16384"),
        (
            outbox_core::NewMessage::new("order", "order.placed", vec![0; 1_000_001]),
            "payload has 1000001 bytes, the limit is 1000000",
        ),
    ]
}

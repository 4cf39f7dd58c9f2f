//! TLS: the server's certificate and name are verified.

use outbox_core::ports::{Storage, StorageErrorKind};
use outbox_diesel::postgres::PostgresStorage;

use crate::database::Database;

fn ca() -> String {
    std::env::var("OUTBOX_TEST_POSTGRES_CA")
        .expect("OUTBOX_TEST_POSTGRES_CA names no CA file: run the tests with `cargo xtask test`")
}

/// The URL by another host name of the same address.
fn at(url: &str, host: &str) -> String {
    let (scheme, rest) = url.split_once("://").expect("a URL");
    let (account, place) = rest.split_once('@').expect("an account");
    let (address, database) = place.split_once('/').expect("a database");
    let (_, port) = address.rsplit_once(':').expect("a port");
    format!("{scheme}://{account}@{host}:{port}/{database}")
}

#[tokio::test]
async fn the_right_ca_connects_with_encryption() {
    let database = Database::create().await;
    let storage = PostgresStorage::builder(at(&database.url(), "localhost"))
        .tls_root_ca(ca())
        .application_name("encrypted")
        .build()
        .unwrap();
    storage.check().await.unwrap();
    let encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
        WHERE ssl AND application_name = 'encrypted'";
    assert!(database.number(encrypted).await > 0);
}

#[tokio::test]
async fn the_ca_may_come_with_the_url() {
    let database = Database::create().await;
    let url = format!("{}?sslmode=verify-full&sslrootcert={}", at(&database.url(), "localhost"), ca());
    PostgresStorage::connect(&url).await.unwrap().check().await.unwrap();
}

#[tokio::test]
async fn a_certificate_of_an_unknown_ca_is_refused_by_name() {
    let database = Database::create().await;
    for mode in ["require", "verify-full"] {
        let url = format!("{}?sslmode={mode}", at(&database.url(), "localhost"));
        let error = PostgresStorage::connect(&url).await.unwrap_err();
        assert_eq!(error.kind(), StorageErrorKind::Refused, "{error}");
        assert!(error.to_string().contains("UnknownIssuer") && error.to_string().contains("sslrootcert"), "{error}");
    }
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let database = Database::create().await;
    let url = format!("{}?sslrootcert={}", at(&database.url(), "127.0.0.1"), ca());
    let error = PostgresStorage::connect(&url).await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Refused, "{error}");
    assert!(error.to_string().contains("not valid for"), "{error}");
}

#[tokio::test]
async fn a_ca_file_that_is_not_there_is_refused() {
    let error = PostgresStorage::builder("postgres://u@localhost/d").tls_root_ca("/no/such/file").build().unwrap_err();
    assert!(error.to_string().contains("/no/such/file cannot be read"), "{error}");
}

//! TLS: the server's certificate and name are verified.

use outbox_core::ports::{Storage, StorageErrorKind};
use outbox_diesel::mysql::MysqlStorage;
use uuid::Uuid;

use crate::database::{Database, connect, server_url};

fn ca() -> String {
    std::env::var("OUTBOX_TEST_MYSQL_CA")
        .expect("OUTBOX_TEST_MYSQL_CA names no CA file: run the tests with `cargo xtask test`")
}

/// The URL by another host name of the same address.
fn at(url: &str, host: &str) -> String {
    let (scheme, rest) = url.split_once("://").expect("a URL");
    let (account, place) = rest.split_once('@').expect("an account");
    let (address, database) = place.split_once('/').expect("a database");
    let (_, port) = address.rsplit_once(':').expect("a port");
    format!("{scheme}://{account}@{host}:{port}/{database}")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_right_ca_connects_with_encryption() {
    let database = Database::create().await;
    let account = format!("tls_{}", &Uuid::new_v4().simple().to_string()[..20]);
    database
        .execute(&format!(
            "CREATE USER {account} IDENTIFIED BY 'secret' REQUIRE SSL; GRANT ALL ON {}.* TO {account}",
            database.name
        ))
        .await;
    let url = at(&database.url_of(&format!("{account}:secret")), "localhost");
    let plain = MysqlStorage::connect(&url).await.unwrap_err();
    assert_eq!(plain.kind(), StorageErrorKind::Refused, "{plain}");
    let storage = MysqlStorage::builder(url.as_str()).tls_root_ca(ca()).build().unwrap();
    storage.check().await.unwrap();
    let by_url = MysqlStorage::connect(&format!("{url}?ssl-mode=verify_identity&ssl-ca={}", ca())).await.unwrap();
    by_url.check().await.unwrap();
    drop((storage, by_url, database));
    let mut server = connect(&server_url()).await;
    let dropped = format!("DROP USER {account}");
    diesel_async::SimpleAsyncConnection::batch_execute(&mut server, &dropped).await.unwrap();
}

#[tokio::test]
async fn a_certificate_of_an_unknown_ca_is_refused_by_name() {
    let database = Database::create().await;
    for mode in ["required", "verify_identity"] {
        let url = format!("{}?ssl-mode={mode}", at(&database.url(), "localhost"));
        let error = MysqlStorage::connect(&url).await.unwrap_err();
        assert_eq!(error.kind(), StorageErrorKind::Refused, "{error:?}");
        assert!(format!("{error:?}").contains("UnknownIssuer"), "{error:?}");
        assert!(format!("{error:?}").contains("ssl-ca"), "{error:?}");
    }
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let database = Database::create().await;
    let url = format!("{}?ssl-ca={}", at(&database.url(), "127.0.0.1"), ca());
    let error = MysqlStorage::connect(&url).await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Refused, "{error:?}");
    assert!(format!("{error:?}").contains("NotValidForName"), "{error:?}");
}

#[tokio::test]
async fn a_ca_file_that_is_not_there_is_refused() {
    let error = MysqlStorage::builder("mysql://u@localhost/d").tls_root_ca("/no/such/file").build().unwrap_err();
    assert!(error.to_string().contains("/no/such/file cannot be read"), "{error}");
}

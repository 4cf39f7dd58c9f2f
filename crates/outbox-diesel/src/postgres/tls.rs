//! TLS to PostgreSQL: off, or on with the certificate and the host name verified.

use std::path::Path;

use diesel_async::AsyncPgConnection;
use outbox_core::ports::StorageError;
use tokio_postgres::NoTls;

use super::connector::ConnectFailure;
use super::url::{PostgresUrl, TlsMode, refused};

/// How connections are encrypted.
#[derive(Clone)]
pub(crate) enum Tls {
    Off,
    #[cfg(feature = "postgres-tls")]
    VerifyFull(tokio_postgres_rustls::MakeRustlsConnect),
}

impl Tls {
    /// TLS as the URL and the builder's CA say: on when `sslmode` asks for it or a CA is given.
    pub(crate) fn of(url: &PostgresUrl, builder_ca: Option<&Path>) -> Result<Self, StorageError> {
        let root_ca = builder_ca.or(url.root_ca.as_deref());
        match (url.tls, root_ca) {
            (Some(TlsMode::Disable), Some(_)) => {
                Err(refused("sslmode=disable together with a root CA: remove one of them".to_owned()))
            }
            (Some(TlsMode::Disable) | None, None) => Ok(Self::Off),
            (Some(TlsMode::VerifyFull) | None, root_ca) => Self::verify_full(root_ca),
        }
    }

    pub(crate) fn is_on(&self) -> bool {
        !matches!(self, Self::Off)
    }

    #[cfg(not(feature = "postgres-tls"))]
    fn verify_full(_: Option<&Path>) -> Result<Self, StorageError> {
        Err(refused(
            "TLS is asked for, and this program was built without it: enable the feature `postgres-tls`".to_owned(),
        ))
    }

    #[cfg(feature = "postgres-tls")]
    fn verify_full(root_ca: Option<&Path>) -> Result<Self, StorageError> {
        use std::sync::Arc;

        let mut roots = rustls::RootCertStore::empty();
        match root_ca {
            Some(path) => add_pem_file(&mut roots, path)?,
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        }
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| refused("TLS cannot be set up".to_owned()).with_source(error))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self::VerifyFull(tokio_postgres_rustls::MakeRustlsConnect::new(config)))
    }

    /// A connection on which `LISTEN` works too: its notifications are passed on.
    pub(crate) async fn connect(&self, config: &tokio_postgres::Config) -> Result<AsyncPgConnection, ConnectFailure> {
        let connected = match self {
            Self::Off => {
                let (client, connection) = config.connect(NoTls).await.map_err(ConnectFailure::Server)?;
                AsyncPgConnection::try_from_client_and_connection(client, connection).await
            }
            #[cfg(feature = "postgres-tls")]
            Self::VerifyFull(tls) => {
                let (client, connection) = config.connect(tls.clone()).await.map_err(ConnectFailure::Server)?;
                AsyncPgConnection::try_from_client_and_connection(client, connection).await
            }
        };
        connected.map_err(ConnectFailure::Setup)
    }
}

#[cfg(feature = "postgres-tls")]
fn add_pem_file(roots: &mut rustls::RootCertStore, path: &Path) -> Result<(), StorageError> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    let failed = |what: &str| refused(format!("root CA file {} {what}", path.display()));
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| failed("cannot be read").with_source(error))?;
    if certificates.is_empty() {
        return Err(failed("holds no certificate: give a PEM file"));
    }
    for certificate in certificates {
        roots.add(certificate).map_err(|error| failed("holds a certificate that cannot be used").with_source(error))?;
    }
    Ok(())
}

//! TLS to the server: off, or on with the certificate and the host name verified.

use std::path::Path;

use mysql_async::SslOpts;
use outbox_core::ports::StorageError;

use super::error::refused;
use super::url::{MysqlUrl, TlsMode};

/// TLS as the URL and the builder's CA say: on when `ssl-mode` asks for it or a CA is given. `None`: off.
pub(crate) fn options(url: &MysqlUrl, builder_ca: Option<&Path>) -> Result<Option<SslOpts>, StorageError> {
    let root_ca = builder_ca.or(url.root_ca.as_deref());
    match (url.tls, root_ca) {
        (Some(TlsMode::Disabled), Some(_)) => {
            Err(refused("ssl-mode=disabled together with a root CA: remove one of them".to_owned()))
        }
        (Some(TlsMode::Disabled) | None, None) => Ok(None),
        (Some(TlsMode::VerifyIdentity) | None, root_ca) => verify_identity(root_ca).map(Some),
    }
}

#[cfg(not(feature = "mysql-tls"))]
fn verify_identity(_: Option<&Path>) -> Result<SslOpts, StorageError> {
    Err(refused("TLS is asked for, and this program was built without it: enable the feature `mysql-tls`".to_owned()))
}

#[cfg(feature = "mysql-tls")]
fn verify_identity(root_ca: Option<&Path>) -> Result<SslOpts, StorageError> {
    // The driver takes the provider of the process. One that the program installed before stands.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match root_ca {
        None => Ok(SslOpts::default()),
        Some(path) => {
            let pem = certificates(path)?;
            Ok(SslOpts::default().with_disable_built_in_roots(true).with_root_certs(vec![pem.into()]))
        }
    }
}

/// The file's content, once every certificate in it was found usable.
#[cfg(feature = "mysql-tls")]
fn certificates(path: &Path) -> Result<Vec<u8>, StorageError> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    let failed = |what: &str| refused(format!("root CA file {} {what}", path.display()));
    let pem = std::fs::read(path).map_err(|error| failed("cannot be read").with_source(error))?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| failed("cannot be read").with_source(error))?;
    if certificates.is_empty() {
        return Err(failed("holds no certificate: give a PEM file"));
    }
    let mut roots = rustls::RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate).map_err(|error| failed("holds a certificate that cannot be used").with_source(error))?;
    }
    Ok(pem)
}

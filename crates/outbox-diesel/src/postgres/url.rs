//! Connection URLs: what `tokio-postgres` does not know is taken out and checked here.

use std::path::PathBuf;

use outbox_core::ports::{StorageError, StorageErrorKind};

/// A parsed `postgres://` URL.
#[derive(Clone)]
pub(crate) struct PostgresUrl {
    pub(crate) config: tokio_postgres::Config,
    pub(crate) tls: Option<TlsMode>,
    pub(crate) root_ca: Option<PathBuf>,
}

/// What `sslmode` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TlsMode {
    Disable,
    VerifyFull,
}

impl PostgresUrl {
    /// Parses a URL; the error never holds any part of it that could be a password.
    pub(crate) fn parse(url: &str) -> Result<Self, StorageError> {
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(refused("the database URL does not start with postgres://".to_owned()));
        }
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let (mut tls, mut root_ca, mut kept) = (None, None, Vec::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("sslmode", mode)) => tls = Some(TlsMode::parse(mode)?),
                Some(("sslrootcert", path)) => root_ca = Some(PathBuf::from(percent_decoded(path)?)),
                _ => kept.push(pair),
            }
        }
        let rest = if kept.is_empty() { base.to_owned() } else { format!("{base}?{}", kept.join("&")) };
        let config = rest
            .parse::<tokio_postgres::Config>()
            .map_err(|error| refused("the database URL cannot be parsed".to_owned()).with_source(error))?;
        if config.get_hosts().is_empty() {
            return Err(refused("the database URL names no host".to_owned()));
        }
        Ok(Self { config, tls, root_ca })
    }

    /// User, host, port and database, without the password.
    pub(crate) fn redacted(&self) -> String {
        use tokio_postgres::config::Host;
        let host = match self.config.get_hosts().first() {
            Some(Host::Tcp(host)) => host.clone(),
            #[cfg(unix)]
            Some(Host::Unix(path)) => path.display().to_string(),
            None => String::new(),
        };
        let port = self.config.get_ports().first().copied().unwrap_or(5432);
        let user = self.config.get_user().unwrap_or("?");
        let database = self.config.get_dbname().unwrap_or(user);
        format!("postgres://{user}@{host}:{port}/{database}")
    }
}

impl std::fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.redacted())
    }
}

impl TlsMode {
    fn parse(mode: &str) -> Result<Self, StorageError> {
        match mode {
            "disable" => Ok(Self::Disable),
            // Encryption without verification protects against nobody who can sit in between, so both mean the same.
            "require" | "verify-full" => Ok(Self::VerifyFull),
            _ => Err(refused(format!(
                "sslmode {mode:?} is not supported: use disable, require or verify-full (require verifies too)"
            ))),
        }
    }
}

fn percent_decoded(text: &str) -> Result<String, StorageError> {
    let invalid = || refused("sslrootcert in the database URL is not percent-encoded correctly".to_owned());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next().ok_or_else(invalid)?, rest.next().ok_or_else(invalid)?];
        let digits = std::str::from_utf8(&digits).map_err(|_| invalid())?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| invalid())?);
    }
    String::from_utf8(bytes).map_err(|_| invalid())
}

pub(crate) fn refused(message: String) -> StorageError {
    StorageError::new(StorageErrorKind::Refused, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_parameters_are_taken_out_and_the_rest_is_kept() {
        let url =
            "postgres://u:secret@db.example:6432/shop?sslmode=require&sslrootcert=%2Fca%20file.pem&connect_timeout=3";
        let parsed = PostgresUrl::parse(url).unwrap();
        assert_eq!(parsed.tls, Some(TlsMode::VerifyFull));
        assert_eq!(parsed.root_ca.as_deref(), Some(std::path::Path::new("/ca file.pem")));
        assert_eq!(parsed.config.get_connect_timeout(), Some(&std::time::Duration::from_secs(3)));
        assert_eq!(parsed.redacted(), "postgres://u@db.example:6432/shop");
    }

    #[test]
    fn a_wrong_url_is_refused_and_its_password_is_not_shown() {
        for url in [
            "mysql://u:secret@h/d",
            "host=h password=secret",
            "postgres://u:secret@h:port/d",
            "postgres://u:secret@h/d?sslmode=prefer",
            "postgres://u:secret@h/d?sslrootcert=%zz",
            "postgres://",
        ] {
            let error = PostgresUrl::parse(url).unwrap_err();
            assert_eq!(error.kind(), StorageErrorKind::Refused, "{url}");
            let shown = format!("{} {error:?}", crate::postgres::error::with_causes(&error));
            assert!(!shown.contains("secret"), "{shown}");
        }
        let parsed = PostgresUrl::parse("postgres://u:secret@h/d").unwrap();
        assert!(!format!("{parsed:?}").contains("secret"));
    }
}

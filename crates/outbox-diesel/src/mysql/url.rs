//! Connection URLs: parsed here, so that every part is checked and none is shown by accident.

use std::path::PathBuf;

use mysql_async::Opts;
use outbox_core::ports::StorageError;

use super::error::refused;

/// A parsed `mysql://` URL.
#[derive(Clone)]
pub(crate) struct MysqlUrl {
    pub(crate) options: Opts,
    pub(crate) tls: Option<TlsMode>,
    pub(crate) root_ca: Option<PathBuf>,
}

/// What `ssl-mode` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TlsMode {
    Disabled,
    VerifyIdentity,
}

impl MysqlUrl {
    /// Parses a URL; the error never holds any part of it that could be a password.
    pub(crate) fn parse(url: &str) -> Result<Self, StorageError> {
        let rest = url.strip_prefix("mysql://").or_else(|| url.strip_prefix("mariadb://"));
        let rest = rest.ok_or_else(|| refused("the database URL does not start with mysql://".to_owned()))?;
        let (base, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (mut tls, mut root_ca) = (None, None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("ssl-mode", mode)) => tls = Some(TlsMode::parse(mode)?),
                Some(("ssl-ca", path)) => root_ca = Some(PathBuf::from(percent_decoded(path)?)),
                _ => {
                    let name = pair.split('=').next().unwrap_or_default();
                    return Err(refused(format!(
                        "the parameter {name:?} of the database URL is not known: use ssl-mode and ssl-ca"
                    )));
                }
            }
        }
        let options = Opts::from_url(&format!("mysql://{base}"))
            .map_err(|_| refused("the database URL cannot be parsed: use mysql://user:password@host:port/database, with special characters percent-encoded".to_owned()))?;
        if options.ip_or_hostname().is_empty() {
            return Err(refused("the database URL names no host".to_owned()));
        }
        Ok(Self { options, tls, root_ca })
    }

    /// User, host, port and database, without the password.
    pub(crate) fn redacted(&self) -> String {
        let options = &self.options;
        let user = options.user().unwrap_or("");
        let at = if user.is_empty() { "" } else { "@" };
        let (host, port) = (options.ip_or_hostname(), options.tcp_port());
        format!("mysql://{user}{at}{host}:{port}/{}", options.db_name().unwrap_or(""))
    }
}

impl std::fmt::Debug for MysqlUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.redacted())
    }
}

impl TlsMode {
    fn parse(mode: &str) -> Result<Self, StorageError> {
        match mode.to_ascii_lowercase().replace('-', "_").as_str() {
            "disabled" => Ok(Self::Disabled),
            // Encryption without verification protects against nobody who can sit in between, so they all mean the same.
            "required" | "verify_ca" | "verify_identity" => Ok(Self::VerifyIdentity),
            _ => Err(refused(format!(
                "ssl-mode {mode:?} is not supported: use disabled, required or verify_identity (required verifies too)"
            ))),
        }
    }
}

fn percent_decoded(text: &str) -> Result<String, StorageError> {
    let invalid = || refused("ssl-ca in the database URL is not percent-encoded correctly".to_owned());
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

#[cfg(test)]
mod tests {
    use outbox_core::ports::StorageErrorKind;

    use super::*;

    #[test]
    fn tls_parameters_are_taken_out_and_the_rest_is_kept() {
        let url = "mysql://u:secret@db.example:3307/shop?ssl-mode=VERIFY_IDENTITY&ssl-ca=%2Fca%20file.pem";
        let parsed = MysqlUrl::parse(url).unwrap();
        assert_eq!(parsed.tls, Some(TlsMode::VerifyIdentity));
        assert_eq!(parsed.root_ca.as_deref(), Some(std::path::Path::new("/ca file.pem")));
        assert_eq!(parsed.redacted(), "mysql://u@db.example:3307/shop");
    }

    #[test]
    fn a_wrong_url_is_refused_and_its_password_is_not_shown() {
        for url in [
            "postgres://u:secret@h/d",
            "mysql://u:secret@h:port/d",
            "mysql://u:secret@h/d?ssl-mode=preferred",
            "mysql://u:secret@h/d?ssl-ca=%zz",
            "mysql://u:secret@h/d?pool_max=3",
            "mysql://",
        ] {
            let error = MysqlUrl::parse(url).unwrap_err();
            assert_eq!(error.kind(), StorageErrorKind::Refused, "{url}");
            assert!(!format!("{error} {error:?}").contains("secret"), "{url}");
        }
        let parsed = MysqlUrl::parse("mysql://u:secret@h/d").unwrap();
        assert!(!format!("{parsed:?}").contains("secret"));
    }
}

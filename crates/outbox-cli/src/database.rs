//! Which database a URL names.

use std::{fmt, path::PathBuf};

use anyhow::{Result, bail};

use crate::secrets::{Secrets, redact_urls};

/// A database by its URL. `Debug` and `Display` show no password.
#[derive(Clone)]
pub(crate) enum Database {
    /// `postgres://…` or `postgresql://…`, as it was given.
    Postgres(String),
    /// `mysql://…` or `mariadb://…`, as it was given.
    Mysql(String),
    /// `sqlite:PATH` or `sqlite://PATH`.
    Sqlite(PathBuf),
}

impl Database {
    /// Reads a URL.
    ///
    /// # Errors
    ///
    /// Another scheme, or none; the message names what is allowed and no secret.
    pub(crate) fn parse(url: &str) -> Result<Self> {
        const ALLOWED: &str = "allowed: postgres://USER@HOST:PORT/NAME, mysql://USER@HOST:PORT/NAME or sqlite:PATH";
        let Some((scheme, rest)) = url.split_once(':') else {
            bail!("--database: the URL has no scheme; {ALLOWED}");
        };
        match scheme {
            "postgres" | "postgresql" if rest.starts_with("//") => Ok(Self::Postgres(url.to_owned())),
            "mysql" | "mariadb" if rest.starts_with("//") => Ok(Self::Mysql(url.to_owned())),
            "sqlite" => match rest.strip_prefix("//").unwrap_or(rest) {
                "" => bail!("--database: the SQLite URL names no file; {ALLOWED}"),
                ":memory:" => bail!(
                    "--database: an in-memory SQLite database is lost with its connection and cannot hold an outbox; {ALLOWED}"
                ),
                path => Ok(Self::Sqlite(path.into())),
            },
            // What stands before the colon may be a password when the scheme was forgotten, so it is not repeated.
            _ => bail!("--database: the URL's scheme is not supported; {ALLOWED}"),
        }
    }

    /// Adds the password in the URL to the secrets.
    pub(crate) fn collect_secrets(&self, secrets: &mut Secrets) {
        match self {
            Self::Postgres(url) | Self::Mysql(url) => secrets.add_password_of(url),
            Self::Sqlite(_) => {}
        }
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postgres(url) | Self::Mysql(url) => f.write_str(&redact_urls(url)),
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Database({self})")
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_scheme_decides() {
        assert!(matches!(Database::parse("postgresql://db/x"), Ok(Database::Postgres(_))));
        for url in ["mysql://db/x", "mariadb://db/x"] {
            assert!(matches!(Database::parse(url), Ok(Database::Mysql(_))));
        }
        assert!(
            matches!(Database::parse("sqlite:///tmp/a.db"), Ok(Database::Sqlite(path)) if path == Path::new("/tmp/a.db"))
        );
        assert!(matches!(Database::parse("sqlite:a.db"), Ok(Database::Sqlite(path)) if path == Path::new("a.db")));
    }

    #[test]
    fn a_wrong_url_names_what_is_allowed_and_not_the_url() {
        for wrong in ["app:hush@db", "mssql://app:hush@db/x", "hush", "sqlite:", "sqlite::memory:"] {
            let error = Database::parse(wrong).unwrap_err().to_string();
            assert!(error.contains("postgres://USER@HOST:PORT/NAME") && !error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn no_form_of_it_shows_the_password() {
        for scheme in ["postgres", "mysql"] {
            let database = Database::parse(&format!("{scheme}://app:hush@db/x")).unwrap();
            let shown = format!("{scheme}://app:***@db/x");
            assert_eq!(format!("{database} {database:?}"), format!("{shown} Database({shown})"));
            let mut secrets = Secrets::default();
            database.collect_secrets(&mut secrets);
            assert_eq!(secrets.redact("password hush failed"), "password *** failed");
        }
    }
}

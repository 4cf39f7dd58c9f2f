//! Where the servers answer, and how tests are told.

use std::path::PathBuf;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

/// Superuser URL of PostgreSQL, for tests.
pub const POSTGRES_URL: &str = "OUTBOX_TEST_POSTGRES_URL";
/// Path of the certificate of the authority that signed PostgreSQL's, for tests.
pub const POSTGRES_CA: &str = "OUTBOX_TEST_POSTGRES_CA";
/// Address of the Kafka broker, for tests.
pub const KAFKA: &str = "OUTBOX_TEST_KAFKA";
/// Superuser URL of MariaDB or MySQL, without a database, for tests.
pub const MYSQL_URL: &str = "OUTBOX_TEST_MYSQL_URL";
/// Path of the certificate of the authority that signed MariaDB's or MySQL's, for tests.
pub const MYSQL_CA: &str = "OUTBOX_TEST_MYSQL_CA";
/// Administrator's URL of RabbitMQ, for tests.
pub const AMQP: &str = "OUTBOX_TEST_AMQP";
/// The same over TLS, by the name in the certificate.
pub const AMQPS: &str = "OUTBOX_TEST_AMQPS";
/// Path of the certificate of the authority that signed RabbitMQ's, for tests.
pub const AMQP_CA: &str = "OUTBOX_TEST_AMQP_CA";
/// Words that begin a command line of `rabbitmqctl` on that node, separated by blanks, for tests.
pub const RABBITMQCTL: &str = "OUTBOX_TEST_RABBITMQCTL";

/// All of them.
pub(crate) const VARIABLES: [&str; 9] =
    [POSTGRES_URL, POSTGRES_CA, KAFKA, MYSQL_URL, MYSQL_CA, AMQP, AMQPS, AMQP_CA, RABBITMQCTL];

/// What tests need to know of the servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Addresses {
    pub(crate) postgres_url: String,
    pub(crate) postgres_ca: PathBuf,
    pub(crate) kafka: String,
    pub(crate) mysql_url: String,
    pub(crate) mysql_ca: PathBuf,
    pub(crate) amqp: String,
    pub(crate) amqps: String,
    pub(crate) amqp_ca: PathBuf,
    pub(crate) rabbitmqctl: String,
}

impl Addresses {
    /// Reads the variables; `None` when none is set.
    ///
    /// # Errors
    ///
    /// Some are set and others are not.
    pub(crate) fn given(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>> {
        let given = |name| variable(name).filter(|value| !value.is_empty());
        let missing: Vec<&str> = VARIABLES.into_iter().filter(|name| given(name).is_none()).collect();
        if missing.len() == VARIABLES.len() {
            return Ok(None);
        }
        if !missing.is_empty() {
            bail!(
                "{}: not set, but other variables of the tests are; set all, or none to have servers started",
                missing.join(", ")
            );
        }
        let [postgres_url, postgres_ca, kafka, mysql_url, mysql_ca, amqp, amqps, amqp_ca, rabbitmqctl] =
            VARIABLES.map(|name| given(name).unwrap_or_default());
        Ok(Some(Self {
            postgres_url,
            postgres_ca: postgres_ca.into(),
            kafka,
            mysql_url,
            mysql_ca: mysql_ca.into(),
            amqp,
            amqps,
            amqp_ca: amqp_ca.into(),
            rabbitmqctl,
        }))
    }

    /// The variables and their values.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let values = [
            self.postgres_url.clone(),
            self.postgres_ca.display().to_string(),
            self.kafka.clone(),
            self.mysql_url.clone(),
            self.mysql_ca.display().to_string(),
            self.amqp.clone(),
            self.amqps.clone(),
            self.amqp_ca.display().to_string(),
            self.rabbitmqctl.clone(),
        ];
        VARIABLES.into_iter().zip(values).collect()
    }
}

/// The host and port of a URL, without names and passwords.
pub(crate) fn host_and_port(url: &str) -> &str {
    let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = after_scheme.split(['/', '?']).next().unwrap_or_default();
    authority.rsplit('@').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_read_as_it_is_written() {
        let set = |name: &str| Some(name.to_lowercase());
        let addresses = Addresses::given(set).expect("complete").expect("given");
        let environment = addresses.environment();
        assert_eq!(environment.len(), VARIABLES.len());
        assert!(environment.iter().all(|(name, value)| *value == name.to_lowercase()));
        assert_eq!(Addresses::given(|_| None).expect("nothing is set"), None);
    }

    #[test]
    fn a_missing_variable_is_named() {
        let error = Addresses::given(|name| (name != MYSQL_CA).then(|| "x".to_owned())).expect_err("one is missing");
        assert!(error.to_string().starts_with("OUTBOX_TEST_MYSQL_CA: not set"), "{error}");
    }

    #[test]
    fn an_address_shows_no_password() {
        assert_eq!(host_and_port("amqp://guest:guest@127.0.0.1:5672/%2f"), "127.0.0.1:5672");
        assert_eq!(host_and_port("mysql://root@127.0.0.1:3306"), "127.0.0.1:3306");
    }
}

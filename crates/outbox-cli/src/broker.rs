//! Which broker the command line names.

use std::fmt;

use anyhow::{Result, bail};

use crate::secrets::{Secrets, redact_urls};

/// A broker by its address. `Debug` and `Display` show no password.
#[derive(Clone)]
pub(crate) enum BrokerAddress {
    /// Kafka's bootstrap addresses, separated by commas.
    Kafka(String),
    /// RabbitMQ by an `amqp://` or `amqps://` URL, as it was given.
    Amqp(String),
}

impl BrokerAddress {
    /// Reads the flags; `None` when neither is given.
    ///
    /// # Errors
    ///
    /// Both are given, or the URL has another scheme; the message shows no secret.
    pub(crate) fn given(kafka: Option<&str>, amqp: Option<&str>) -> Result<Option<Self>> {
        const ALLOWED: &str =
            "allowed: amqp://USER@HOST:PORT/VHOST or amqps://…, the password after the user and a colon";
        match (kafka, amqp) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => bail!(
                "--kafka and --amqp: both are given, as flags or in a relay's environment (OUTBOX__KAFKA, OUTBOX__AMQP); there must be one broker"
            ),
            (Some(brokers), None) => Ok(Some(Self::Kafka(brokers.to_owned()))),
            (None, Some(url)) => match url.split_once("://") {
                Some(("amqp" | "amqps", rest)) if !rest.is_empty() => Ok(Some(Self::Amqp(url.to_owned()))),
                // What stands before the first colon may be a password when the scheme was forgotten, so it is not repeated.
                _ => bail!("--amqp: the URL's scheme is not supported; {ALLOWED}"),
            },
        }
    }

    /// Adds the password in the URL to the secrets.
    pub(crate) fn collect_secrets(&self, secrets: &mut Secrets) {
        if let Self::Amqp(url) = self {
            secrets.add_password_of(url);
        }
    }
}

impl fmt::Display for BrokerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kafka(brokers) => f.write_str(brokers),
            Self::Amqp(url) => f.write_str(&redact_urls(url)),
        }
    }
}

impl fmt::Debug for BrokerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BrokerAddress({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_broker_at_most() {
        assert!(matches!(BrokerAddress::given(None, None), Ok(None)));
        assert!(matches!(BrokerAddress::given(Some("a:1,b:1"), None), Ok(Some(BrokerAddress::Kafka(_)))));
        assert!(matches!(BrokerAddress::given(None, Some("amqps://h/v")), Ok(Some(BrokerAddress::Amqp(_)))));
        let error = BrokerAddress::given(Some("a:1"), Some("amqp://u:hush@h/v")).unwrap_err().to_string();
        assert!(error.contains("--kafka and --amqp: both are given") && !error.contains("hush"), "{error}");
    }

    #[test]
    fn a_wrong_url_names_what_is_allowed_and_not_the_url() {
        for wrong in ["guest:hush@h", "http://guest:hush@h", "amqp://", "hush"] {
            let error = BrokerAddress::given(None, Some(wrong)).unwrap_err().to_string();
            assert!(error.contains("allowed: amqp://") && !error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn no_form_of_it_shows_the_password() {
        let broker = BrokerAddress::Amqp("amqp://app:hush@mq:5672/shop".to_owned());
        assert_eq!(
            format!("{broker} {broker:?}"),
            "amqp://app:***@mq:5672/shop BrokerAddress(amqp://app:***@mq:5672/shop)"
        );
        let mut secrets = Secrets::default();
        broker.collect_secrets(&mut secrets);
        assert_eq!(secrets.redact("hush was refused"), "*** was refused");
    }
}

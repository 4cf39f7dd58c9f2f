use std::fmt;
use std::time::Duration;

use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};
use lapin::uri::{AMQPScheme, AMQPUri};

use crate::BuildError;
use crate::error::at_least;

/// Which broker, as whom, and how to trust it.
pub(crate) struct Endpoint {
    uri: AMQPUri,
    ca_pem: Option<String>,
    identity: Option<Identity>,
}

/// A client certificate and its key, in PEM form.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) certificate_pem: String,
    pub(crate) key_pem: String,
}

/// What both builders are told about the broker.
pub(crate) struct Access {
    pub(crate) uri: String,
    pub(crate) credentials: Option<(String, String)>,
    pub(crate) ca_pem: Option<String>,
    pub(crate) identity: Option<Identity>,
    pub(crate) heartbeat: Duration,
}

impl Access {
    pub(crate) fn new(uri: String) -> Self {
        Self { uri, credentials: None, ca_pem: None, identity: None, heartbeat: Duration::from_secs(10) }
    }

    pub(crate) fn endpoint(self) -> Result<Endpoint, BuildError> {
        at_least("heartbeat", self.heartbeat, Duration::from_secs(1))?;
        let mut endpoint = Endpoint::parse(&self.uri, self.heartbeat)?;
        if let Some((user, password)) = self.credentials {
            endpoint.set_credentials(user, password);
        }
        if let Some(pem) = self.ca_pem {
            endpoint.set_ca(pem)?;
        }
        if let Some(identity) = self.identity {
            endpoint.set_identity(identity)?;
        }
        Ok(endpoint)
    }
}

impl Endpoint {
    /// Parses a URI. `heartbeat` and `frame_max` in its query stand.
    fn parse(uri: &str, heartbeat: Duration) -> Result<Self, BuildError> {
        let mut uri: AMQPUri =
            uri.parse().map_err(|fault: String| BuildError::Uri { fault: without_uri(fault, uri) })?;
        if uri.authority.host.is_empty() {
            return Err(BuildError::Uri { fault: "it has no host".to_owned() });
        }
        if uri.vhost.len() > 255 {
            return Err(BuildError::TooLong { field: "uri: the virtual host", bytes: uri.vhost.len() });
        }
        let seconds = u16::try_from(heartbeat.as_secs()).unwrap_or(u16::MAX);
        uri.query.heartbeat.get_or_insert(seconds);
        Ok(Self { uri, ca_pem: None, identity: None })
    }

    /// Replaces the user and the password of the URI.
    fn set_credentials(&mut self, user: String, password: String) {
        self.uri.authority.userinfo.username = user;
        self.uri.authority.userinfo.password = password;
    }

    /// Trusts the authorities of a PEM text, besides the public ones.
    fn set_ca(&mut self, pem: String) -> Result<(), BuildError> {
        has_block("ca_pem", &pem, "CERTIFICATE")?;
        self.ca_pem = Some(pem);
        Ok(())
    }

    /// Shows a client certificate.
    fn set_identity(&mut self, identity: Identity) -> Result<(), BuildError> {
        has_block("client_identity_pem", &identity.certificate_pem, "CERTIFICATE")?;
        has_block("client_identity_pem", &identity.key_pem, "PRIVATE KEY")?;
        self.identity = Some(identity);
        Ok(())
    }

    pub(crate) fn uri(&self) -> &AMQPUri {
        &self.uri
    }

    pub(crate) fn tls(&self) -> OwnedTLSConfig {
        let identity = self.identity.clone().map(|identity| OwnedIdentity::PKCS8 {
            pem: identity.certificate_pem.into_bytes(),
            key: identity.key_pem.into_bytes(),
        });
        OwnedTLSConfig { identity, cert_chain: self.ca_pem.clone() }
    }
}

/// Host, port and virtual host: never the password.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.uri.scheme {
            AMQPScheme::AMQP => "amqp",
            AMQPScheme::AMQPS => "amqps",
        };
        let authority = &self.uri.authority;
        let (user, host, port) = (&authority.userinfo.username, &authority.host, authority.port);
        write!(f, "{scheme}://{user}@{host}:{port} virtual host {:?}", self.uri.vhost)
    }
}

fn has_block(field: &'static str, pem: &str, block: &'static str) -> Result<(), BuildError> {
    // "BEGIN RSA PRIVATE KEY" is one too
    let found =
        pem.lines().any(|line| line.starts_with("-----BEGIN ") && line.trim_end().ends_with(&format!("{block}-----")));
    if found { Ok(()) } else { Err(BuildError::Pem { field, block }) }
}

/// A parser's text without what it may quote of the URI.
fn without_uri(fault: String, uri: &str) -> String {
    let authority = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    let quotes = authority.split(['@', ':', '/', '?']).any(|part| part.len() > 2 && fault.contains(part));
    if quotes { "it cannot be read".to_owned() } else { fault }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(uri: &str) -> Result<Endpoint, BuildError> {
        Endpoint::parse(uri, Duration::from_secs(10))
    }

    #[test]
    fn a_uri_names_the_broker_and_shows_no_password() {
        let endpoint = parse("amqps://relay:s3cr3t@rabbit.example:5671/shop?frame_max=8192").unwrap();
        assert_eq!(endpoint.to_string(), "amqps://relay@rabbit.example:5671 virtual host \"shop\"");
        assert_eq!((endpoint.uri().query.heartbeat, endpoint.uri().query.frame_max), (Some(10), Some(8192)));
        assert_eq!(parse("amqp://localhost/%2f?heartbeat=3").unwrap().uri().query.heartbeat, Some(3));
    }

    #[test]
    fn a_malformed_uri_is_refused_without_showing_it() {
        for uri in [
            "",
            "localhost:5672",
            "http://u:s3cr3t@h/",
            "amqp://u:s3cr3t@h:port/",
            "amqp://u:s3cr3t@h/?heartbeat=s3cr3t",
        ] {
            let Err(error) = parse(uri) else { panic!("{uri} was taken") };
            assert!(!format!("{error} {error:?}").contains("s3cr3t"), "{error:?}");
        }
    }

    #[test]
    fn text_that_is_no_certificate_is_refused() {
        let mut endpoint = parse("amqps://localhost/").unwrap();
        assert!(endpoint.set_ca("/etc/ssl/ca.pem".to_owned()).is_err());
        assert!(endpoint.set_ca("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n".to_owned()).is_ok());
        let identity = Identity {
            certificate_pem: "-----BEGIN CERTIFICATE-----\n".to_owned(),
            key_pem: "-----BEGIN CERTIFICATE-----\n".to_owned(),
        };
        let error = endpoint.set_identity(identity).unwrap_err().to_string();
        assert_eq!(error, "client_identity_pem holds no PEM block \"PRIVATE KEY\"");
    }
}

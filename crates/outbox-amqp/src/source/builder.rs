use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::queue::{Order, Queue};
use super::{AmqpSource, Shared};
use crate::BuildError;
use crate::endpoint::{Access, Identity};
use crate::error::at_least;

/// Builds an [`AmqpSource`].
#[must_use = "nothing happens before `build`"]
pub struct AmqpSourceBuilder {
    access: Access,
    queues: Vec<Queue>,
    order: Order,
    prefetch: u16,
    connection_name: String,
    request_timeout: Duration,
}

impl AmqpSourceBuilder {
    pub(super) fn new(uri: String, queues: Vec<Queue>) -> Self {
        Self {
            access: Access::new(uri),
            queues,
            order: Order::default(),
            prefetch: 500,
            connection_name: "outbox inbox".to_owned(),
            request_timeout: Duration::from_secs(10),
        }
    }

    /// Sets the user and the password instead of those of the URI.
    pub fn credentials(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.access.credentials = Some((user.into(), password.into()));
        self
    }

    /// Trusts the certificate authorities of a PEM text for `amqps`, besides the public ones. The broker's certificate and name are always verified.
    pub fn ca_pem(mut self, pem: impl Into<String>) -> Self {
        self.access.ca_pem = Some(pem.into());
        self
    }

    /// Shows the broker a client certificate: PEM texts of the certificate chain and of its key.
    pub fn client_identity_pem(mut self, certificate_pem: impl Into<String>, key_pem: impl Into<String>) -> Self {
        self.access.identity = Some(Identity { certificate_pem: certificate_pem.into(), key_pem: key_pem.into() });
        self
    }

    /// Sets what the order of a queue is worth. Default: [`Order::SingleActiveConsumer`].
    pub fn order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// Sets how many messages of each queue may be delivered and not acknowledged. AMQP knows no such limit in bytes: memory for as many of the largest messages
    /// may be needed. Default: 500; at least 1.
    pub fn prefetch(mut self, messages: u16) -> Self {
        self.prefetch = messages;
        self
    }

    /// Sets the name of the connection that the broker's tools show. Default: `outbox inbox`.
    pub fn connection_name(mut self, name: impl Into<String>) -> Self {
        self.connection_name = name.into();
        self
    }

    /// Sets the heartbeat, in whole seconds: a broker that is silent for twice as long is lost. What the URI says (`?heartbeat=`) goes first. Default: 10 s.
    pub fn heartbeat(mut self, heartbeat: Duration) -> Self {
        self.access.heartbeat = heartbeat;
        self
    }

    /// Sets how long connecting, preparing the queues, and leaving may take, each. Default: 10 s.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// Checks everything and builds the source. Connects to nothing.
    ///
    /// # Errors
    ///
    /// A [`BuildError`] that names what is wrong.
    pub fn build(self) -> Result<AmqpSource, BuildError> {
        at_least("request_timeout", self.request_timeout, Duration::from_millis(1))?;
        if self.prefetch == 0 {
            return Err(BuildError::Prefetch);
        }
        if self.queues.is_empty() {
            return Err(BuildError::Queues { fault: "there are none: name at least one".to_owned() });
        }
        let mut names = BTreeSet::new();
        for queue in &self.queues {
            queue.check()?;
            if !names.insert(&queue.name) {
                return Err(BuildError::Queues { fault: format!("queue {} is there twice", queue.name) });
            }
        }
        Ok(AmqpSource {
            shared: Arc::new(Shared {
                endpoint: self.access.endpoint()?,
                connection_name: self.connection_name,
                queues: self.queues,
                order: self.order,
                prefetch: self.prefetch,
                request_timeout: self.request_timeout,
            }),
        })
    }
}

impl fmt::Debug for AmqpSourceBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // the URI holds a password
        f.debug_struct("AmqpSourceBuilder")
            .field("queues", &self.queues)
            .field("order", &self.order)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::DeclaredQueue;

    const URI: &str = "amqp://billing:s3cr3t@127.0.0.1:5672/%2f";

    fn builder(queues: &[&str]) -> AmqpSourceBuilder {
        AmqpSource::builder(URI, queues.iter().copied())
    }

    fn declared(queue: DeclaredQueue) -> AmqpSourceBuilder {
        AmqpSource::builder(URI, [queue])
    }

    #[test]
    fn settings_that_make_no_sense_are_refused_by_name() {
        let long = "q".repeat(256);
        let refused = [
            (AmqpSource::builder("localhost", ["billing"]), "uri: "),
            (builder(&[]), "queues: there are none"),
            (builder(&[""]), "a queue's name is empty"),
            (builder(&[&long]), "a queue's name has 256 bytes, the limit is 255"),
            (builder(&["billing", "billing"]), "queue billing is there twice"),
            (declared(DeclaredQueue::new("q").bind("x", &*long)), "a binding key has 256 bytes"),
            (declared(DeclaredQueue::new("q").bind("", "#")), "nothing can be bound to the default exchange"),
            (declared(DeclaredQueue::new("q").argument(&*long, true)), "the name of an argument must have 1 to 255"),
            (builder(&["billing"]).prefetch(0), "prefetch is 0"),
            (builder(&["billing"]).request_timeout(Duration::ZERO), "request_timeout is 0 ms"),
            (builder(&["billing"]).heartbeat(Duration::ZERO), "heartbeat is 0 ms"),
        ];
        for (builder, text) in refused {
            let error = builder.build().unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        let builder = builder(&["billing"]).credentials("billing", "s3cr3t2");
        assert!(!format!("{builder:?}").contains("s3cr3t"));
        assert!(!format!("{:?}", builder.build()).contains("s3cr3t"));
    }
}

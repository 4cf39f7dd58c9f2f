//! The broker that a relay delivers to, and its options.

use std::{fs, path::PathBuf, sync::Arc};

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, ValueEnum};
use outbox::{
    AmqpTransport, KafkaTransport, Transport,
    amqp::{Declaration, Topology, Unroutable},
};

use crate::{
    broker::BrokerAddress,
    secrets::{Secrets, is_secret_property},
    values::key_value,
};

/// One broker, and what belongs to it.
#[derive(Args, Debug)]
pub(super) struct BrokerArgs {
    /// The CloudEvents source of all messages: says which service they come from
    #[arg(long, value_name = "URI", env = "OUTBOX__SOURCE")]
    source: Option<String>,

    #[command(flatten)]
    kafka: KafkaArgs,

    #[command(flatten)]
    rabbitmq: RabbitMqArgs,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Kafka")]
struct KafkaArgs {
    /// Kafka's bootstrap addresses, separated by commas
    #[arg(long, value_name = "HOST:PORT", env = "OUTBOX__KAFKA")]
    kafka: Option<String>,

    /// Topic of a message; {aggregate_type} and {event_type} stand for its values. {aggregate_type} unless set
    #[arg(long, value_name = "TEMPLATE", env = "OUTBOX__TOPIC")]
    topic: Option<String>,

    /// Any librdkafka property that does not break the promise; may be repeated. In the environment they are separated by spaces
    #[arg(
        long = "kafka-property",
        value_name = "KEY=VALUE",
        env = "OUTBOX__KAFKA_PROPERTIES",
        hide_env_values = true,
        value_delimiter = ' '
    )]
    kafka_properties: Vec<String>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "RabbitMQ")]
struct RabbitMqArgs {
    /// RabbitMQ: amqp://USER:PASSWORD@HOST:PORT/VHOST, or amqps://… for TLS
    #[arg(long, value_name = "URL", env = "OUTBOX__AMQP", hide_env_values = true)]
    amqp: Option<String>,

    /// PEM file with an authority to trust besides the public ones, for amqps://
    #[arg(long, value_name = "FILE", env = "OUTBOX__AMQP_CA")]
    amqp_ca: Option<PathBuf>,

    /// Exchange of a message; {aggregate_type} and {event_type} stand for its values. outbox unless set
    #[arg(long, value_name = "TEMPLATE", env = "OUTBOX__EXCHANGE")]
    exchange: Option<String>,

    /// Routing key of a message, a template too. {aggregate_type}.{event_type} unless set
    #[arg(long, value_name = "TEMPLATE", env = "OUTBOX__ROUTING_KEY")]
    routing_key: Option<String>,

    /// What to do about exchanges and queues before publishing. declare unless set
    #[arg(long, value_name = "MODE", env = "OUTBOX__TOPOLOGY")]
    topology: Option<TopologyMode>,

    /// A durable quorum queue to declare and to bind to the exchanges, for example orders=order.#; may be repeated
    #[arg(long, value_name = "QUEUE=BINDING_KEY", env = "OUTBOX__QUORUM_QUEUES", value_delimiter = ',')]
    quorum_queue: Vec<String>,

    /// What a message means that the broker has no queue for. pause unless set
    #[arg(long, value_name = "POLICY", env = "OUTBOX__UNROUTABLE")]
    unroutable: Option<UnroutablePolicy>,
}

#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
enum TopologyMode {
    /// Declare durable topic exchanges, and the queues of --quorum-queue
    Declare,
    /// Look whether the exchange is there, and wait while it is not
    Check,
    /// Nothing
    Leave,
}

#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
enum UnroutablePolicy {
    /// Its route waits, and tries again from time to time
    Pause,
    /// It becomes a dead letter
    Reject,
}

impl BrokerArgs {
    /// The broker that is named.
    ///
    /// # Errors
    ///
    /// None or two are named, or an option belongs to the other one.
    pub(super) fn address(&self, secrets: &mut Secrets) -> Result<BrokerAddress> {
        let address = BrokerAddress::given(self.kafka.kafka.as_deref(), self.rabbitmq.amqp.as_deref())?
            .context("no broker is named: give --kafka HOST:PORT or --amqp URL (OUTBOX__KAFKA or OUTBOX__AMQP)")?;
        address.collect_secrets(secrets);
        let (foreign, owner) = match address {
            BrokerAddress::Kafka(_) => (self.rabbitmq.given(), "--amqp"),
            BrokerAddress::Amqp(_) => (self.kafka.given(), "--kafka"),
        };
        match foreign {
            Some(flag) => bail!("{flag}: it belongs to {owner}, and the broker is {address}"),
            None => Ok(address),
        }
    }

    /// The transport to a broker of these arguments.
    ///
    /// # Errors
    ///
    /// A value cannot be used.
    pub(super) fn transport(&self, address: &BrokerAddress, secrets: &mut Secrets) -> Result<Arc<dyn Transport>> {
        match address {
            BrokerAddress::Kafka(brokers) => self.kafka.transport(brokers, self.source.as_deref(), secrets),
            BrokerAddress::Amqp(url) => self.rabbitmq.transport(url, self.source.as_deref()),
        }
    }
}

impl KafkaArgs {
    /// A flag that is set besides the address.
    fn given(&self) -> Option<&'static str> {
        let flags = [("--topic", self.topic.is_some()), ("--kafka-property", !self.kafka_properties.is_empty())];
        first_set(&flags)
    }

    fn transport(&self, brokers: &str, source: Option<&str>, secrets: &mut Secrets) -> Result<Arc<dyn Transport>> {
        let mut builder = KafkaTransport::builder(brokers);
        if let Some(topic) = &self.topic {
            builder = builder.topic_template(topic);
        }
        if let Some(source) = source {
            builder = builder.source(source);
        }
        for property in &self.kafka_properties {
            let (key, value) =
                key_value(property).map_err(|allowed| anyhow!("--kafka-property: it must be {allowed}"))?;
            if is_secret_property(&key) {
                secrets.add(&value);
            }
            builder = builder.property(key, value);
        }
        Ok(Arc::new(builder.build()?))
    }
}

impl RabbitMqArgs {
    /// A flag that is set besides the address.
    fn given(&self) -> Option<&'static str> {
        let flags = [
            ("--amqp-ca", self.amqp_ca.is_some()),
            ("--exchange", self.exchange.is_some()),
            ("--routing-key", self.routing_key.is_some()),
            ("--topology", self.topology.is_some()),
            ("--quorum-queue", !self.quorum_queue.is_empty()),
            ("--unroutable", self.unroutable.is_some()),
        ];
        first_set(&flags)
    }

    fn transport(&self, url: &str, source: Option<&str>) -> Result<Arc<dyn Transport>> {
        let mut builder = AmqpTransport::builder(url).topology(self.topology()?);
        if let Some(exchange) = &self.exchange {
            builder = builder.exchange(exchange);
        }
        if let Some(routing_key) = &self.routing_key {
            builder = builder.routing_key(routing_key);
        }
        if let Some(source) = source {
            builder = builder.source(source);
        }
        if let Some(file) = &self.amqp_ca {
            let pem = fs::read_to_string(file).with_context(|| format!("--amqp-ca: {}", file.display()))?;
            builder = builder.ca_pem(pem);
        }
        if let Some(policy) = self.unroutable {
            builder = builder.unroutable(match policy {
                UnroutablePolicy::Pause => Unroutable::Pause,
                UnroutablePolicy::Reject => Unroutable::Reject,
            });
        }
        Ok(Arc::new(builder.build()?))
    }

    fn topology(&self) -> Result<Topology> {
        let mode = self.topology.unwrap_or(TopologyMode::Declare);
        if mode != TopologyMode::Declare && !self.quorum_queue.is_empty() {
            bail!("--quorum-queue: it needs --topology declare");
        }
        Ok(match mode {
            TopologyMode::Declare => {
                let mut declaration = Declaration::new();
                for queue in &self.quorum_queue {
                    let (name, binding_key) = queue
                        .split_once('=')
                        .filter(|(name, _)| !name.is_empty())
                        .context("--quorum-queue: it must be QUEUE=BINDING_KEY, for example orders=order.#")?;
                    declaration = declaration.quorum_queue(name, binding_key);
                }
                Topology::Declare(declaration)
            }
            TopologyMode::Check => Topology::Check,
            TopologyMode::Leave => Topology::Leave,
        })
    }
}

fn first_set(flags: &[(&'static str, bool)]) -> Option<&'static str> {
    flags.iter().find(|(_, set)| *set).map(|(flag, _)| *flag)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        broker: BrokerArgs,
    }

    fn address(flags: &[&str]) -> Result<BrokerAddress, String> {
        let arguments = Command::try_parse_from([&["outbox"], flags].concat()).unwrap();
        arguments.broker.address(&mut Secrets::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn there_is_exactly_one_broker() {
        assert!(matches!(address(&["--kafka", "a:1"]), Ok(BrokerAddress::Kafka(_))));
        assert!(matches!(address(&["--amqp", "amqp://h/v"]), Ok(BrokerAddress::Amqp(_))));
        assert!(address(&[]).unwrap_err().contains("no broker is named: give --kafka HOST:PORT or --amqp URL"));
        assert!(address(&["--kafka", "a:1", "--amqp", "amqp://h/v"]).unwrap_err().contains("both are given"));
    }

    #[test]
    fn an_option_of_the_other_broker_is_refused() {
        let error = address(&["--amqp", "amqp://app:hush@h/v", "--topic", "x"]).unwrap_err();
        assert_eq!(error, "--topic: it belongs to --kafka, and the broker is amqp://app:***@h/v");
        for flag in ["--exchange=x", "--routing-key=x", "--topology=check", "--quorum-queue=a=b", "--unroutable=reject"]
        {
            let error = address(&["--kafka", "a:1", flag]).unwrap_err();
            assert!(error.contains("it belongs to --amqp"), "{error}");
        }
    }

    #[test]
    fn a_queue_needs_its_name_and_something_that_declares_it() {
        let topology = |flags: &[&str]| {
            let arguments = Command::try_parse_from([&["outbox"], flags].concat()).unwrap();
            arguments.broker.rabbitmq.topology().map_err(|error| error.to_string())
        };
        let declared = Declaration::new().quorum_queue("orders", "order.#");
        assert_eq!(topology(&["--quorum-queue", "orders=order.#"]), Ok(Topology::Declare(declared)));
        assert!(topology(&["--quorum-queue", "orders"]).unwrap_err().contains("QUEUE=BINDING_KEY"));
        assert!(
            topology(&["--quorum-queue", "a=b", "--topology", "leave"]).unwrap_err().contains("--topology declare")
        );
    }
}

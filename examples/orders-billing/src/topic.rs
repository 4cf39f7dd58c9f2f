//! What has to be on Kafka before anybody publishes: brokers of production do not make it by themselves.

use anyhow::{Result, bail};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    types::RDKafkaErrorCode,
};

const PARTITIONS: i32 = 6;

/// Makes a topic, unless it is there.
///
/// # Errors
///
/// Kafka does not answer, or refuses.
pub async fn make(brokers: &str, name: &str) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", brokers).create()?;
    let topic = NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(-1));
    for made in admin.create_topics([&topic], &AdminOptions::new()).await? {
        match made {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => bail!("the broker refuses to make topic {topic}: {code}"),
        }
    }
    Ok(())
}

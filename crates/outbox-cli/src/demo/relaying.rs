//! The demo's relay: one at a time, and another when it was killed.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, bail};
use outbox::{Relay, RelayConfig, RelayHandle, RelayReport};

use super::{
    broker::Broker,
    life::{Current, Life},
    shop::Shop,
};

/// How long the shards of a killed relay wait for the next one.
const LEASE_UNDER_CHAOS: Duration = Duration::from_secs(2);

/// The relay.
pub(super) struct Relaying<'d> {
    shop: &'d Arc<dyn Shop>,
    broker: &'d dyn Broker,
    config: RelayConfig,
    current: Current<RelayHandle>,
    life: Life<RelayReport>,
}

impl<'d> Relaying<'d> {
    /// Starts it. With `chaos` it will be killed, and its leases are short.
    pub(super) async fn begin(shop: &'d Arc<dyn Shop>, broker: &'d dyn Broker, chaos: bool) -> Result<Self> {
        let mut config = RelayConfig { name: "demo".to_owned(), ..RelayConfig::default() };
        if chaos {
            config.lease_duration = LEASE_UNDER_CHAOS;
        }
        let (handle, life) = start(shop, broker, &config).await?;
        Ok(Self { shop, broker, config, current: Current::new(handle), life })
    }

    /// The handle of the relay that lives.
    pub(super) fn current(&self) -> Current<RelayHandle> {
        self.current.clone()
    }

    /// Whether the relay that lives has published something.
    pub(super) fn has_worked(&self) -> bool {
        self.current.get().stats().published > 0
    }

    pub(super) fn has_ended(&self) -> bool {
        self.life.has_ended()
    }

    /// Kills it and starts another, with connections and a producer of its own.
    pub(super) async fn kill(self) -> Result<Self> {
        self.life.kill().await?;
        let (handle, life) = start(self.shop, self.broker, &self.config).await?;
        self.current.replace(handle);
        Ok(Self { life, ..self })
    }

    /// Drains it.
    pub(super) async fn drain(self) -> Result<()> {
        if !self.life.drain().await?.drained {
            bail!("the relay could not finish what was in flight within its shutdown time-out");
        }
        Ok(())
    }
}

async fn start(
    shop: &Arc<dyn Shop>,
    broker: &dyn Broker,
    config: &RelayConfig,
) -> Result<(RelayHandle, Life<RelayReport>)> {
    let relay = Relay::builder_from(shop.storage().await?, broker.transport()?).config(config.clone()).build()?;
    let handle = relay.handle();
    Ok((handle, Life::begin("relay", async |shutdown| Ok(relay.run(shutdown).await?))))
}

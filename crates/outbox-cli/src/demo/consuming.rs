//! The demo's consumer: an inbox that applies each event to the balance of its account, and another when it was killed.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, bail};
use futures_util::future::BoxFuture;
use outbox::{Inbox, InboxConfig, InboxError, InboxHandle, InboxReport, inbox::ports::InboxStorage};

use super::{
    broker::Broker,
    life::{Current, Life},
    shop::Shop,
};

/// How long a message that a killed consumer had claimed waits for the next one.
const CLAIM_UNDER_CHAOS: Duration = Duration::from_secs(2);

/// An inbox on any of the databases.
pub(super) struct AnyInbox {
    handle: InboxHandle,
    run: Run,
}

type Run = Box<dyn FnOnce(BoxFuture<'static, ()>) -> BoxFuture<'static, Result<InboxReport, InboxError>> + Send>;

impl<S: InboxStorage> From<Inbox<S>> for AnyInbox {
    fn from(inbox: Inbox<S>) -> Self {
        Self { handle: inbox.handle(), run: Box::new(|shutdown| Box::pin(inbox.run(shutdown))) }
    }
}

/// The consumer.
pub(super) struct Consuming<'d> {
    shop: &'d Arc<dyn Shop>,
    broker: &'d dyn Broker,
    config: InboxConfig,
    current: Current<InboxHandle>,
    life: Life<InboxReport>,
    /// What those that were killed had recognised.
    recognised: u64,
}

impl<'d> Consuming<'d> {
    /// Starts it. With `chaos` it will be killed.
    pub(super) async fn begin(shop: &'d Arc<dyn Shop>, broker: &'d dyn Broker, chaos: bool) -> Result<Self> {
        let mut config = InboxConfig::default();
        if chaos {
            config.claim_lease = CLAIM_UNDER_CHAOS;
        }
        let (handle, life) = start(shop, broker, &config).await?;
        Ok(Self { shop, broker, config, current: Current::new(handle), life, recognised: 0 })
    }

    /// The handle of the consumer that lives.
    pub(super) fn current(&self) -> Current<InboxHandle> {
        self.current.clone()
    }

    /// Whether the consumer that lives has applied something.
    pub(super) fn has_worked(&self) -> bool {
        self.current.get().stats().processed > 0
    }

    pub(super) fn has_ended(&self) -> bool {
        self.life.has_ended()
    }

    /// Kills it and starts another, with connections and a membership of its own.
    pub(super) async fn kill(self) -> Result<Self> {
        self.life.kill().await?;
        let recognised = self.recognised + self.current.get().stats().duplicates;
        let (handle, life) = start(self.shop, self.broker, &self.config).await?;
        self.current.replace(handle);
        Ok(Self { life, recognised, ..self })
    }

    /// Drains it. Returns how many deliveries were recognised as repeated, by all consumers.
    pub(super) async fn drain(self) -> Result<u64> {
        let report = self.life.drain().await?;
        if !report.drained {
            bail!("the consumer could not finish what it was applying within its shutdown time-out");
        }
        Ok(self.recognised + report.stats.duplicates)
    }
}

async fn start(
    shop: &Arc<dyn Shop>,
    broker: &dyn Broker,
    config: &InboxConfig,
) -> Result<(InboxHandle, Life<InboxReport>)> {
    let inbox = shop.inbox(&broker.billing(), config.clone(), broker.source()?).await?;
    let life = Life::begin("consumer", async |shutdown| Ok((inbox.run)(shutdown).await?));
    Ok((inbox.handle, life))
}

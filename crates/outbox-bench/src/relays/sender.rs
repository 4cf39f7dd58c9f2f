use std::sync::Arc;

use anyhow::{Result, bail};
use outbox::ports::{Outcome, OutcomeSink, Outcomes, Outgoing, RouteName, Session, Ticket, Transport as _};
use outbox::{KafkaTransport, Message};

use crate::services::Topic;

/// A session of our Kafka transport without a relay, so that everything that is compared sends the same records with the same settings.
pub(super) struct Sender {
    session: Box<dyn Session>,
    outcomes: Outcomes,
    reports: Vec<(Ticket, Outcome)>,
    route: RouteName,
    sent: u64,
    confirmed: u64,
}

impl Sender {
    /// Connects and looks the topic up.
    ///
    /// # Errors
    ///
    /// Kafka cannot be reached or does not take the topic.
    pub(super) async fn connect(transport: &KafkaTransport, topic: &Topic) -> Result<Self> {
        let (sink, outcomes) = OutcomeSink::channel();
        let session = transport.connect(sink).await?;
        let route: RouteName = topic.name().into();
        if let Err(outcome) = session.open_route(&route).await {
            bail!("the topic cannot be used: {outcome:?}");
        }
        Ok(Self { session, outcomes, reports: Vec::new(), route, sent: 0, confirmed: 0 })
    }

    /// Hands messages over.
    pub(super) async fn send(&mut self, messages: impl IntoIterator<Item = Arc<Message>>) {
        let mut batch = Vec::new();
        for message in messages {
            self.sent += 1;
            let slot = self.session.slot(&self.route, &message);
            let lane = message.lane();
            batch.push(Outgoing { ticket: Ticket(self.sent), message, lane, route: self.route.clone(), slot });
        }
        self.session.send(batch).await;
    }

    /// Waits until at most `limit` messages are unconfirmed.
    ///
    /// # Errors
    ///
    /// One was not published.
    pub(super) async fn in_flight_at_most(&mut self, limit: u64) -> Result<()> {
        while self.sent - self.confirmed > limit {
            self.outcomes.take(&mut self.reports).await;
            for (_, outcome) in self.reports.drain(..) {
                if outcome != Outcome::Published {
                    bail!("a message was not published: {outcome:?}");
                }
                self.confirmed += 1;
            }
        }
        Ok(())
    }

    pub(super) fn confirmed(&self) -> u64 {
        self.confirmed
    }

    /// Ends the session.
    pub(super) async fn close(self) {
        self.session.close().await;
    }
}

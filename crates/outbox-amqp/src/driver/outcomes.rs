use outbox_core::ports::{Outcome, Reason};

use super::{Driver, Lost, lost};
use crate::Unroutable;
use crate::confirms::Confirmed;
use crate::line::{Label, Line, LineState};

impl Driver {
    /// Reports what a marker settled.
    pub(super) fn settle(&mut self, number: usize) {
        let Self { shared, sink, lines, watchdog, now, .. } = self;
        let Line { confirms, is_isolated, .. } = &mut lines[number];
        let mut refused = false;
        confirms.pass_marker(|label: Label, confirmed| {
            refused |= confirmed == Confirmed::Refused;
            watchdog.settled(&label.route, *now);
            if *is_isolated && confirmed == Confirmed::Taken {
                shared.suspects.clear(label.id);
            }
            sink.report(label.ticket, outcome(confirmed, &label, shared.unroutable));
        });
        if refused {
            lines[number].refused();
        }
    }

    /// The broker closed the channel of a line: what was open on it gets its outcome, and a new channel serves what comes.
    pub(super) fn give_up_channel(&mut self, number: usize) -> Result<(), Lost> {
        let line = &mut self.lines[number];
        let LineState::Failing(Some(refusal)) = std::mem::replace(&mut line.state, LineState::Closed) else {
            return Err(lost("the broker closed a channel without a reason".to_owned()));
        };
        let labels = line.confirms.abandon();
        tracing::warn!(reason = refusal.text, messages = labels.len(), "the broker closed a channel");
        let one_route = labels.windows(2).all(|pair| pair[0].route == pair[1].route);
        for label in labels {
            let outcome = if line.is_isolated {
                refusal.of_one(&label.route)
            } else {
                refusal.of_several(&label.route, &label.address, one_route)
            };
            match &outcome {
                Outcome::Quarantine(_) => self.shared.suspects.add(label.id),
                Outcome::Reject(_) => self.shared.suspects.clear(label.id),
                _ => {}
            }
            self.watchdog.settled(&label.route, self.now);
            self.sink.report(label.ticket, outcome);
        }
        Ok(())
    }
}

fn outcome(confirmed: Confirmed, label: &Label, unroutable: Unroutable) -> Outcome {
    let route = &label.route;
    match (confirmed, unroutable) {
        (Confirmed::Taken, _) => Outcome::Published,
        (Confirmed::Refused, _) => Outcome::Retry(Reason::new(format!(
            "route {route}: the broker did not take the message (nack): a queue may be full (x-max-length with reject-publish) or out of reach"
        ))),
        (Confirmed::Returned, Unroutable::Pause) => Outcome::RoutePaused(unroutable_reason(label)),
        (Confirmed::Returned, Unroutable::Reject) => Outcome::Reject(unroutable_reason(label)),
    }
}

fn unroutable_reason(label: &Label) -> Reason {
    let address = &label.address;
    Reason::new(format!(
        "route {}: unroutable (312 NO_ROUTE): no queue is bound to exchange {:?} for routing key {:?}: bind one",
        label.route,
        address.exchange.as_str(),
        address.routing_key.as_str()
    ))
}

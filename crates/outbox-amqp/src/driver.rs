mod outcomes;
mod step;

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{BoxStream, FuturesUnordered};
use futures_util::{FutureExt as _, StreamExt as _};
use lapin::{Connection, Event};
use outbox_core::ports::{OutcomeSink, Reason};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};

use self::step::{Step, StepDone};
use crate::line::{Line, LineState, Parcel};
use crate::refusal::{Scope, fault, scope};
use crate::transport::Shared;
use crate::watchdog::{Stall, Watchdog};

/// How often the connection and the time-outs are looked at.
const TICK: Duration = Duration::from_millis(250);

/// Steps that are taken before new messages and the connection are looked at again.
const STEPS_AT_ONCE: usize = 256;

/// Serves one connection: hands messages to its channels, turns what comes back into outcomes, and ends the session when it must.
pub(crate) struct Driver {
    shared: Arc<Shared>,
    connection: Arc<Connection>,
    sink: OutcomeSink,
    /// The last one is for suspects.
    lines: Vec<Line>,
    steps: FuturesUnordered<Step>,
    watchdog: Watchdog,
    blocked: watch::Sender<bool>,
    blocked_since: Option<Instant>,
    /// What was said last about the connection as a whole.
    fault: Option<Reason>,
    now: Instant,
}

/// Why the session cannot go on.
struct Lost(Reason);

impl Driver {
    pub(crate) fn new(
        shared: Arc<Shared>,
        connection: Arc<Connection>,
        sink: OutcomeSink,
        blocked: watch::Sender<bool>,
    ) -> Self {
        let mut lines: Vec<_> = (0..shared.channels).map(|_| Line::new(false)).collect();
        lines.push(Line::new(true));
        let watchdog = Watchdog::new(shared.stall_timeout, shared.stalls.clone());
        let (steps, now) = (FuturesUnordered::new(), Instant::now());
        Self { shared, connection, sink, lines, steps, watchdog, blocked, blocked_since: None, fault: None, now }
    }

    /// Runs until the session is lost, or `batches` has ended and everything has its outcome.
    ///
    /// # Cancellation
    ///
    /// Dropping the future abandons what is in flight.
    pub(crate) async fn run(mut self, batches: mpsc::UnboundedReceiver<Vec<Parcel>>) {
        let events = self.connection.events_listener().boxed();
        if let Err(Lost(reason)) = self.serve(batches, events).await {
            tracing::warn!(%reason, "amqp session lost");
            self.sink.session_lost(reason);
        }
    }

    async fn serve(
        &mut self,
        mut batches: mpsc::UnboundedReceiver<Vec<Parcel>>,
        mut events: BoxStream<'static, Event>,
    ) -> Result<(), Lost> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut is_closing, mut is_listening) = (false, true);
        while !(is_closing && self.lines.iter().all(Line::is_idle)) {
            tokio::select! {
                event = events.next(), if is_listening => match event {
                    Some(event) => self.on_event(event),
                    None => is_listening = false,
                },
                Some(done) = self.steps.next() => {
                    self.now = Instant::now();
                    self.on_step(done)?;
                    for _ in 1..STEPS_AT_ONCE {
                        let Some(Some(done)) = self.steps.next().now_or_never() else { break };
                        self.on_step(done)?;
                    }
                }
                batch = batches.recv(), if !is_closing => match batch {
                    Some(batch) => self.take(batch),
                    None => is_closing = true,
                },
                _ = tick.tick() => self.on_tick()?,
            }
        }
        Ok(())
    }

    fn take(&mut self, batch: Vec<Parcel>) {
        self.now = Instant::now();
        let isolated = self.lines.len() - 1;
        for parcel in batch {
            self.watchdog.sent(&parcel.label.route, self.now);
            let line = if parcel.is_suspect { isolated } else { parcel.label.line % isolated };
            self.lines[line].waiting.push_back(parcel);
        }
        for line in 0..self.lines.len() {
            self.feed(line);
        }
    }

    /// Hands over what waits for a line and may go, and opens its channel when it has none.
    fn feed(&mut self, number: usize) {
        let line = &mut self.lines[number];
        if let Some(channel) = line.take_worn(self.now) {
            self.steps.push(step::close(number, channel));
        }
        if matches!(line.state, LineState::Closed) && !line.waiting.is_empty() {
            line.state = LineState::Opening;
            self.steps.push(step::open(number, self.connection.clone()));
        }
        while let Some((channel, parcel)) = line.next(self.now) {
            let Parcel { label, properties, body, .. } = parcel;
            let address = label.address.clone();
            let message = line.confirms.publish(label.id, label);
            self.steps.push(step::publish(number, message, channel, address, properties, body));
        }
    }

    fn on_step(&mut self, done: StepDone) -> Result<(), Lost> {
        let number = match done {
            StepDone::Opened { line, result: Ok(channel) } => {
                self.lines[line].open(channel, self.now);
                line
            }
            StepDone::Opened { result: Err(error), .. } => {
                return Err(lost(format!("a channel could not be opened: {}", fault(&error))));
            }
            StepDone::Confirmed { line, message, result: Ok(receipt) } => {
                self.lines[line].confirms.confirm(message, receipt.is_ack, receipt.returned);
                line
            }
            StepDone::Confirmed { line, message, result: Err(error) } => {
                self.failed(line, message, &error)?;
                line
            }
            StepDone::Closed { line } => line,
            StepDone::Nonsense { what } => return Err(lost(what.to_owned())),
            StepDone::Marker { line } => {
                self.settle(line);
                line
            }
        };
        let line = &mut self.lines[number];
        if line.confirms.wants_marker() {
            self.steps.push(step::marker(number));
        }
        if line.confirms.is_over() {
            self.give_up_channel(number)?;
        }
        self.feed(number);
        Ok(())
    }

    fn failed(&mut self, line: usize, message: u64, error: &lapin::Error) -> Result<(), Lost> {
        if !self.connection.status().connected() {
            return Err(lost(fault(error)));
        }
        let refusal = match scope(error) {
            Scope::Channel(refusal) => Some(refusal),
            Scope::ChannelGone => None,
            Scope::Connection(reason) => return Err(Lost(reason)),
        };
        let line = &mut self.lines[line];
        line.confirms.fail(message);
        line.fail(refusal);
        Ok(())
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::ConnectionBlocked(reason) => {
                self.blocked_since.get_or_insert_with(Instant::now);
                self.blocked.send_replace(true);
                let text = format!("the broker blocks publishers: {reason}: see its memory and disk alarms");
                self.sink.blocked(Some(Reason::new(text)));
            }
            Event::ConnectionUnblocked => {
                self.blocked_since = None;
                self.watchdog.excuse(Instant::now());
                self.blocked.send_replace(false);
                self.sink.blocked(None);
            }
            Event::Error(error) => {
                if let Scope::Connection(reason) = scope(&error) {
                    self.fault = Some(reason); // what is in flight fails with it, and the next tick sees to the rest
                }
            }
            _ => {}
        }
    }

    fn on_tick(&mut self) -> Result<(), Lost> {
        let now = Instant::now();
        if !self.connection.status().connected() {
            let fault = self.fault.take();
            return Err(Lost(fault.unwrap_or_else(|| Reason::new("the connection is closed"))));
        }
        if let Some(since) = self.blocked_since {
            self.watchdog.excuse(now);
            let blocked = now.duration_since(since);
            if blocked >= self.shared.blocked_timeout {
                return Err(lost(format!("the broker has blocked publishers for {} s", blocked.as_secs())));
            }
        }
        match self.watchdog.check(now) {
            Some(Stall { route, quiet, in_flight }) => Err(lost(format!(
                "route {route} confirmed none of {in_flight} messages for {} s: check its queues (a quorum queue needs most of its nodes)",
                quiet.as_secs()
            ))),
            None => Ok(()),
        }
    }
}

fn lost(text: String) -> Lost {
    Lost(Reason::new(text))
}

//! Live progress: bars on a terminal, a line a second when piped.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use console::style;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use outbox::{HealthReason, InboxHandle, RelayHandle, inbox::InboxHealthReason};
use tokio::time::MissedTickBehavior;

use super::{
    life::Current,
    tally::{Counts, Kills, Tally},
};
use crate::{
    output,
    values::{grouped, shortened},
};

const FRAME: Duration = Duration::from_millis(100);
const LINE_EVERY: Duration = Duration::from_secs(1);
/// Columns of a bar; with label and figures a line has 76.
const BAR: usize = 42;
/// Columns of a line of text.
const TEXT: usize = 76;
/// The rate is shown over this time.
const RATE_WINDOW: Duration = Duration::from_secs(1);
const STEPS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Shows the progress until dropped or told otherwise.
pub(super) struct Display {
    tally: Arc<Tally>,
    relay: Current<RelayHandle>,
    inbox: Current<InboxHandle>,
    planned: u64,
    start: Instant,
}

impl Display {
    pub(super) fn new(
        tally: Arc<Tally>,
        relay: Current<RelayHandle>,
        inbox: Current<InboxHandle>,
        planned: u64,
    ) -> Self {
        Self { tally, relay, inbox, planned, start: Instant::now() }
    }

    /// Draws until `done` resolves, and passes its result on.
    pub(super) async fn during<T>(self, done: impl Future<Output = T>) -> T {
        let mut face: Box<dyn Face> =
            if output::is_terminal() { Box::new(Bars::new(self.planned)) } else { Box::new(Lines::default()) };
        let mut rate = Rate::default();
        let mut frames = tokio::time::interval(FRAME);
        frames.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut done = std::pin::pin!(done);
        loop {
            let ended = tokio::select! {
                result = &mut done => Some(result),
                _ = frames.tick() => None,
            };
            let now = self.start.elapsed();
            let counts = self.tally.counts();
            let (rate, kills) = (rate.at(now, counts.delivered), self.tally.kills());
            let view = View { at: now, counts, kills, rate, trouble: self.trouble() };
            face.draw(&view, ended.is_some());
            if let Some(result) = ended {
                return result;
            }
        }
    }

    fn trouble(&self) -> Option<String> {
        // Before their first turn there is nothing to tell, and their end ends the demo.
        let relay = self.relay.get().health().reasons;
        let relay = relay.iter().filter(|reason| **reason != HealthReason::NotRunning).map(ToString::to_string);
        let inbox = self.inbox.get().health().reasons;
        let inbox = inbox.iter().filter(|reason| **reason != InboxHealthReason::NotRunning).map(ToString::to_string);
        relay.chain(inbox).next().map(|reason| shortened(&reason, TEXT))
    }
}

/// What is shown.
struct View {
    at: Duration,
    counts: Counts,
    kills: Kills,
    rate: u64,
    trouble: Option<String>,
}

trait Face: Send {
    fn draw(&mut self, view: &View, last: bool);
}

/// One plain line now and then.
#[derive(Default)]
struct Lines {
    next: Duration,
    kills: Kills,
}

impl Face for Lines {
    fn draw(&mut self, view: &View, last: bool) {
        if view.at < self.next && !last {
            return;
        }
        while self.next <= view.at {
            self.next += LINE_EVERY;
        }
        output::line(format!(
            "{:>5.1} s  committed {:>9}  delivered {:>9}  applied {:>9}  {:>7}/s",
            view.at.as_secs_f64(),
            grouped(view.counts.committed),
            grouped(view.counts.delivered),
            grouped(view.counts.applied),
            grouped(view.rate),
        ));
        if view.kills != self.kills {
            self.kills = view.kills;
            output::line(format!("  {}", self.kills));
        }
        if let Some(trouble) = &view.trouble {
            output::line(format!("  {trouble}"));
        }
    }
}

/// Five bars, a line that counts the kills and, when something is wrong, one that says what.
struct Bars {
    _all: MultiProgress,
    committed: ProgressBar,
    delivered: ProgressBar,
    applied: ProgressBar,
    rate: ProgressBar,
    lag: ProgressBar,
    kills: ProgressBar,
    trouble: ProgressBar,
    rates: VecDeque<u64>,
    frames: usize,
}

impl Bars {
    fn new(planned: u64) -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
        let add = |label: &'static str, template: &str, length: u64| {
            let style = ProgressStyle::with_template(template).map(|style| style.progress_chars("━╸─"));
            let bar = all.add(ProgressBar::new(length));
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_prefix(label);
            bar
        };
        let bar = |color: &str| format!("  {{prefix:<10.bold}}{{bar:{BAR}.{color}/black.bright}} {{msg:>21}}");
        Self {
            committed: add("committed", &bar("cyan"), planned),
            delivered: add("delivered", &bar("green"), planned),
            applied: add("applied", &bar("blue"), planned),
            rate: add("rate", "  {prefix:<10.bold}{msg}", 1),
            lag: add("lag", &bar("yellow"), 1),
            kills: add("", "  {msg:.yellow}", 1),
            trouble: add("", "  {msg:.red}", 1),
            rates: VecDeque::with_capacity(BAR),
            frames: 0,
            _all: all,
        }
    }

    /// The last rates as a line of blocks, scaled to the highest of them.
    fn sparkline(&self) -> String {
        let peak = self.rates.iter().copied().max().unwrap_or(0).max(1);
        let step =
            |rate: &u64| STEPS[(*rate as usize * (STEPS.len() - 1)).div_ceil(peak as usize).min(STEPS.len() - 1)];
        self.rates.iter().map(step).collect()
    }
}

impl Face for Bars {
    fn draw(&mut self, view: &View, last: bool) {
        let Counts { committed, delivered, applied, .. } = view.counts;
        for (bar, count) in [(&self.committed, committed), (&self.delivered, delivered), (&self.applied, applied)] {
            bar.set_message(format!("{} / {}", grouped(count), grouped(bar.length().unwrap_or(count))));
            bar.set_position(count);
        }
        if self.frames.is_multiple_of(2) {
            if self.rates.len() == BAR {
                self.rates.pop_front();
            }
            self.rates.push_back(view.rate);
        }
        self.frames += 1;
        let blocks = self.sparkline();
        let figures = format!("{} events/s", grouped(view.rate));
        self.rate.set_message(format!("{} {figures:>21}", style(format!("{blocks:<BAR$}")).magenta()));
        // The lag's bar grows to the highest lag seen, so that a few events do not look like a backlog.
        let lag = view.counts.lag();
        self.lag.set_length(self.lag.length().unwrap_or(1).max(lag).max(100));
        self.lag.set_message(format!("{} events", grouped(lag)));
        self.lag.set_position(lag);
        if view.kills != Kills::default() {
            self.kills.set_message(view.kills.to_string());
        }
        self.trouble.set_message(view.trouble.clone().unwrap_or_default());
        if last {
            for bar in [&self.committed, &self.delivered, &self.applied, &self.rate, &self.lag] {
                bar.abandon();
            }
            if view.kills == Kills::default() {
                self.kills.finish_and_clear();
            } else {
                self.kills.abandon();
            }
            self.trouble.finish_and_clear();
            output::line("");
        }
    }
}

/// Events a second over the last [`RATE_WINDOW`].
#[derive(Default)]
struct Rate {
    points: VecDeque<(Duration, u64)>,
}

impl Rate {
    fn at(&mut self, now: Duration, delivered: u64) -> u64 {
        self.points.push_back((now, delivered));
        while self.points.len() > 2 && self.points[1].0 + RATE_WINDOW < now {
            self.points.pop_front();
        }
        let (then, before) = self.points[0];
        let seconds = (now - then).as_secs_f64();
        if seconds > 0.0 { ((delivered - before) as f64 / seconds).round() as u64 } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_second() {
        let mut rate = Rate::default();
        let second = Duration::from_secs(1);
        assert_eq!(rate.at(Duration::ZERO, 0), 0);
        assert_eq!(rate.at(second, 100), 100);
        assert_eq!(rate.at(2 * second, 400), 200);
        assert_eq!(rate.at(3 * second, 700), 300);
    }
}

//! What is sent: every message once in its place, and copies of it later.

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde::{Deserialize, Serialize};

/// The CloudEvents source of every message.
pub(super) const SOURCE: &str = "/fault-run";
/// The event type of every message.
pub(super) const EVENT: &str = "fault-run.counted";
/// Ordering keys.
const KEYS: usize = 200;
/// Copies of a message beside the first, at most.
const MORE_COPIES: usize = 4;
/// How many first copies later a further copy may come.
const WINDOW: usize = 2_000;
/// How often the handler of a failing message fails.
const FAILURES: u32 = 2;

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) id: String,
    pub(super) body: Body,
}

/// The payload of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Body {
    pub(super) key: String,
    /// Its place among the first copies of its key, from 1.
    pub(super) n: i64,
    /// How often its handler fails before it succeeds.
    pub(super) failures: u32,
}

/// All messages, and the order in which their copies are sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stream {
    pub(super) messages: Vec<Message>,
    /// Indexes of messages. The first of each stands in the order of its key; the others come between later messages.
    pub(super) order: Vec<usize>,
}

impl Stream {
    /// A stream of `messages`, of which a share fails.
    pub(super) fn new(messages: usize, failing: f64, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut places = vec![0; KEYS];
        let mut stream = Vec::with_capacity(messages);
        let mut copies = Vec::with_capacity(messages * (MORE_COPIES / 2 + 1));
        for index in 0..messages {
            let key = rng.random_range(0..KEYS);
            places[key] += 1;
            let failures = if rng.random_bool(failing) { FAILURES } else { 0 };
            let body = Body { key: format!("key-{key}"), n: places[key], failures };
            stream.push(Message { id: format!("message-{index}"), body });
            copies.push((index, index));
            for _ in 0..rng.random_range(0..=MORE_COPIES) {
                copies.push((index + rng.random_range(1..=WINDOW), index));
            }
        }
        copies.sort_by_key(|&(place, _)| place);
        Self { messages: stream, order: copies.into_iter().map(|(_, index)| index).collect() }
    }

    /// The message of a place in the order.
    pub(super) fn at(&self, place: usize) -> Option<&Message> {
        self.messages.get(*self.order.get(place)?)
    }
}

impl Message {
    /// The attributes of a CloudEvent in binary mode, without a prefix.
    pub(super) fn attributes(&self) -> [(&'static str, &str); 5] {
        let key = &self.body.key;
        [("specversion", "1.0"), ("id", &self.id), ("source", SOURCE), ("type", EVENT), ("partitionkey", key)]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    #[test]
    fn first_copies_of_a_key_come_in_its_order_and_no_message_comes_more_than_five_times() {
        let stream = Stream::new(5_000, 0.02, 7);
        let (mut seen, mut last, mut count) = (HashSet::new(), HashMap::new(), HashMap::new());
        for place in 0..stream.order.len() {
            let message = stream.at(place).expect("a message");
            *count.entry(&message.id).or_insert(0) += 1;
            if seen.insert(&message.id) {
                let before = last.insert(&message.body.key, message.body.n).unwrap_or(0);
                assert_eq!(message.body.n, before + 1, "{}", message.id);
            }
        }
        assert_eq!(seen.len(), 5_000);
        let of = |times: i32| count.values().filter(|count| **count == times).count();
        assert!((1..=5).all(|times| of(times) > 800), "{count:?}");
        let failing = stream.messages.iter().filter(|message| message.body.failures == FAILURES).count();
        assert!((50..200).contains(&failing), "{failing}");
    }

    #[test]
    fn a_seed_gives_the_same_stream_again() {
        assert_eq!(Stream::new(1_000, 0.02, 7), Stream::new(1_000, 0.02, 7));
    }
}

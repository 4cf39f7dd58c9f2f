use serde::{Deserialize, Serialize};

/// Aggregate type of the events, and so their topic or part of their routing key.
pub(crate) const AGGREGATE_TYPE: &str = "fault-run";
/// Aggregate type of the keys whose route is taken away, or never made.
pub(crate) const STRAY_TYPE: &str = "fault-stray";
/// Event type of the writers' events.
pub(crate) const EVENT: &str = "event";
/// Event type of the events of a burst.
pub(crate) const BURST: &str = "burst";
/// Event type of rows that are never committed.
pub(crate) const PROBE: &str = "probe";
/// Ordering keys, strays included.
pub(crate) const KEYS: usize = 200;
/// Strays among them where the broker can have unroutable messages: 1 %.
pub(crate) const STRAYS: usize = KEYS / 100;

/// How the name of a stray key begins.
const STRAY: &str = "stray-";

/// The payload of an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Body {
    pub(crate) key: String,
    /// Its place among the events of its key, from 1.
    pub(crate) n: i64,
}

/// The names of all keys; so many of them are strays.
pub(crate) fn keys(strays: usize) -> Vec<String> {
    (0..KEYS).map(|index| if index < strays { format!("{STRAY}{index}") } else { format!("key-{index}") }).collect()
}

/// Whether the key is one of those whose messages may find no queue.
pub(crate) fn is_stray(key: &str) -> bool {
    key.starts_with(STRAY)
}

/// What the events of a key belong to.
pub(crate) fn aggregate_type(key: &str) -> &'static str {
    if is_stray(key) { STRAY_TYPE } else { AGGREGATE_TYPE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_in_a_hundred_is_a_stray() {
        let keys = keys(STRAYS);
        assert_eq!(keys.len(), KEYS);
        assert_eq!(keys.iter().filter(|key| is_stray(key)).count(), 2);
    }
}

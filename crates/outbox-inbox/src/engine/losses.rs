use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Connections that one message may lose alone before that counts as a failure: what breaks every connection must not block its key for ever.
pub(super) const MAX_LOSSES: u32 = 3;

/// Messages at most.
const KEPT: usize = 1_000;

/// How often held messages, each alone, have lost the connection of their handler since something else became of them, by `seq`.
///
/// They outlive a claim. It is given back after each loss: the database may be away for longer than it lasts.
#[derive(Debug, Default)]
pub(crate) struct Losses(Mutex<BTreeMap<i64, Lost>>);

#[derive(Debug)]
struct Lost {
    times: u32,
    /// What the handler said the last time.
    text: String,
}

impl Losses {
    /// Counts a loss.
    pub(super) fn note(&self, seq: i64, text: String) {
        let mut losses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let times = losses.get(&seq).map_or(1, |lost| lost.times.saturating_add(1));
        losses.insert(seq, Lost { times, text });
        if losses.len() > KEPT {
            // most likely one that another process has processed meanwhile; if not, it is counted anew
            losses.pop_first();
        }
    }

    /// Why a message has failed that lost its connection too often.
    pub(super) fn blame(&self, seq: i64) -> Option<String> {
        let losses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        losses.get(&seq).filter(|lost| lost.times > MAX_LOSSES).map(|lost| lost_text(&lost.text))
    }

    /// Something else has become of these.
    pub(super) fn forget(&self, seqs: impl IntoIterator<Item = i64>) {
        let mut losses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for seq in seqs {
            losses.remove(&seq);
        }
    }
}

/// Why a message that lost its connection again and again has failed.
pub(super) fn lost_text(text: &str) -> String {
    format!("the connection to the database was lost each time the handler ran: {text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_loses_too_many_is_blamed_until_something_else_becomes_of_it() {
        let losses = Losses::default();
        for _ in 0..MAX_LOSSES {
            losses.note(7, "reset by peer".to_owned());
            losses.note(8, "reset by peer".to_owned());
        }
        assert_eq!(losses.blame(7), None);
        losses.note(7, "broken pipe".to_owned());
        assert!(losses.blame(7).is_some_and(|text| text.contains("broken pipe")));
        losses.forget([7, 9]);
        assert_eq!((losses.blame(7), losses.blame(8)), (None, None));
    }

    #[test]
    fn their_number_is_bounded() {
        let losses = Losses::default();
        (0..10_000).for_each(|seq| losses.note(seq, String::new()));
        assert_eq!(losses.0.lock().unwrap().len(), KEPT);
    }
}

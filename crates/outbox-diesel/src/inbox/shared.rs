//! What the storages of all databases share.

use std::time::Duration;

use diesel::result::Error;
use outbox_core::inbox::{Fate, ParkedBy, Standing};
use outbox_core::ports::{StorageError, StorageErrorKind};
use time::OffsetDateTime;

/// Texts of errors are kept up to this many characters.
const KEPT_CHARS: usize = 2_000;

/// The status of a dedup row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Processed,
    Held,
    Dead,
}

impl Status {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Processed => "processed",
            Self::Held => "held",
            Self::Dead => "dead",
        }
    }

    /// The status of a message that is put aside.
    pub(super) fn of(fate: &Fate) -> Self {
        if matches!(fate, Fate::Dead { .. }) { Self::Dead } else { Self::Held }
    }
}

/// How a message stands whose dedup row has this status.
pub(super) fn standing(status: &str) -> Standing {
    match status {
        "held" => Standing::Held,
        "dead" => Standing::Dead,
        _ => Standing::Processed,
    }
}

/// Why a message that is put aside parks its key, if it does.
pub(super) fn parks(fate: &Fate) -> Option<ParkedBy> {
    match fate {
        Fate::Received | Fate::Waiting | Fate::Failed { .. } => Some(ParkedBy::Held),
        Fate::Dead { park_key: true, .. } => Some(ParkedBy::DeadLetter),
        Fate::Dead { park_key: false, .. } => None,
    }
}

/// Whether this error, or one of its sources, says that another transaction was in the way; `judge` knows what the database says.
pub(super) fn is_conflict(
    error: &(dyn std::error::Error + 'static),
    judge: impl Fn(&Error) -> StorageErrorKind,
) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| {
        if let Some(error) = error.downcast_ref::<StorageError>() {
            return error.kind() == StorageErrorKind::Conflict;
        }
        error.downcast_ref::<Error>().is_some_and(|error| judge(error) == StorageErrorKind::Conflict)
    })
}

/// What is kept of an error's text; a text column of PostgreSQL takes no NUL.
pub(super) fn shortened(error: &str) -> String {
    error.chars().take(KEPT_CHARS).map(|char| if char == '\0' { char::REPLACEMENT_CHARACTER } else { char }).collect()
}

/// A time from microseconds since 1970.
pub(super) fn unix_time(micros: i64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1000).ok()
}

/// A span for the database, in microseconds, a thousand years at most.
pub(super) fn micros_of(span: Duration) -> i64 {
    const LONGEST: i64 = 1_000 * 365 * 86_400 * 1_000_000;
    i64::try_from(span.as_micros()).map_or(LONGEST, |micros| micros.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters_and_has_no_nul() {
        assert_eq!(shortened(&"é".repeat(3_000)).chars().count(), 2_000);
        assert!(!shortened("a\0b").contains('\0'));
    }
}

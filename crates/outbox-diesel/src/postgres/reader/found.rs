//! Rows of a read, decoded.

use bytes::Bytes;
use diesel::deserialize::{self, QueryableByName};
use diesel::pg::Pg;
use diesel::row::NamedRow;
use outbox_core::message::{LaneKey, Payload};
use outbox_core::ports::{Position, ShardId};
use outbox_core::{Headers, Message};

use super::sql::{META, NEXT_DUE, SKIMMED};
use crate::postgres::row::{NotUtf8, PgRow, RowOf, big, int, lossy_text, small, text, time_of, uuid};
use crate::reading::{Found, Undecodable};

/// A row of a read or a sweep.
#[derive(Debug)]
pub(super) enum ReadRow {
    /// Snapshot text, leases as `shard:epoch:control_version,…`, when the server was started, the sequence's last value, the clock in
    /// microseconds since 2000-01-01.
    Meta { snapshot: String, leases: String, started: String, last_value: i64, clock: i64 },
    /// When the next row of a shard becomes due.
    NextDue { shard: ShardId, wake_at: i64 },
    /// A shard that was skimmed.
    Skimmed(Skimmed),
    /// A row of the messages table.
    Found(Found),
}

/// A shard holds nothing to be read up to here.
#[derive(Debug)]
pub(super) struct Skimmed {
    pub(super) shard: ShardId,
    pub(super) upto: i64,
    /// When the first of the rows skipped becomes due.
    pub(super) wake_at: Option<i64>,
    /// Whether something to be read follows at once.
    pub(super) found: bool,
}

/// A payload that was loaded by itself: the number of the position asked for, from 1.
#[derive(Debug)]
pub(super) struct LoadedPayload {
    pub(super) number: i64,
    pub(super) payload: Bytes,
}

impl QueryableByName<Pg> for ReadRow {
    fn build<'a>(row: &impl NamedRow<'a, Pg>) -> deserialize::Result<Self> {
        let row = &PgRow(row);
        Ok(match int(row, 0) {
            META => Self::Meta {
                snapshot: lossy_text(row, 4).unwrap_or_default(),
                leases: lossy_text(row, 5).unwrap_or_default(),
                started: lossy_text(row, 6).unwrap_or_default(),
                last_value: big(row, 2),
                clock: big(row, 13),
            },
            NEXT_DUE => Self::NextDue { shard: shard(row), wake_at: big(row, 13) },
            SKIMMED => Self::Skimmed(Skimmed {
                shard: shard(row),
                upto: big(row, 2),
                wake_at: row.bytes(13, |_| ()).map(|()| big(row, 13)),
                found: row.bytes(4, |text| text == b"found").unwrap_or(false),
            }),
            kind => Self::Found(Found {
                kind,
                payload_bytes: usize::try_from(int(row, 8)).unwrap_or(0),
                loaded: row.bytes(7, |_| ()).is_some(),
                wake_at: row.bytes(13, |_| ()).map(|()| big(row, 13)),
                message: message(row).ok_or_else(|| undecodable(row)),
            }),
        })
    }
}

impl QueryableByName<Pg> for LoadedPayload {
    fn build<'a>(row: &impl NamedRow<'a, Pg>) -> deserialize::Result<Self> {
        let row = &PgRow(row);
        Ok(Self { number: big(row, 0), payload: row.bytes(1, Bytes::copy_from_slice).unwrap_or_default() })
    }
}

fn message(row: &impl RowOf) -> Option<Message> {
    let occurred_at = row.bytes(11, |_| ()).and_then(|()| time_of(big(row, 11)))?;
    Some(Message {
        id: uuid(row, 3),
        shard: shard(row),
        seq: big(row, 2),
        aggregate_type: text(row, 4)?.ok()?,
        aggregate_id: text(row, 5).transpose().ok()?,
        event_type: text(row, 6)?.ok()?,
        payload: Payload(row.bytes(7, Bytes::copy_from_slice).unwrap_or_default()),
        content_type: text(row, 9)?.ok()?,
        headers: row.bytes(10, headers)?.ok()?,
        occurred_at,
        attempts: u32::try_from(int(row, 12)).unwrap_or(0),
    })
}

/// `jsonb` comes as a version byte and the text.
fn headers(bytes: &[u8]) -> Result<Headers, NotUtf8> {
    let json = bytes.strip_prefix(&[1]).ok_or(NotUtf8)?;
    if !json.starts_with(b"{") {
        return Err(NotUtf8);
    }
    if json.len() <= 2 {
        return Ok(Headers::default());
    }
    std::str::from_utf8(json).map(Headers::from_json).map_err(|_| NotUtf8)
}

fn undecodable(row: &impl RowOf) -> Undecodable {
    let position = Position { shard: shard(row), seq: big(row, 2), id: uuid(row, 3) };
    let (kind, id) = (lossy_text(row, 4), lossy_text(row, 5));
    Undecodable { position, lane: kind.zip(id).map(|(kind, id)| LaneKey::of(&kind, &id)) }
}

fn shard(row: &impl RowOf) -> ShardId {
    ShardId(u16::try_from(small(row, 1)).unwrap_or(0))
}

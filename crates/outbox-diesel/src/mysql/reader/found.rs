//! Rows of a read, decoded.

use mysql_async::Row;
use outbox_core::message::{LaneKey, Payload};
use outbox_core::ports::{Lease, Position, ShardId, StorageError};
use outbox_core::{Headers, Message};

use super::sql::{AGAIN, META, NEXT_DUE};
use crate::mysql::error::unexpected_reply;
use crate::mysql::row::{big, bytes, lossy_text, number, shard, take_bytes, time_of, uuid};
use crate::reading::{Found, Undecodable};

/// The rows of a read.
#[derive(Debug, Default)]
pub(super) struct Reply {
    /// In microseconds since 1970-01-01.
    pub(super) clock: i64,
    pub(super) leases: Vec<Lease>,
    /// When the next row of the shards that were asked for becomes due.
    pub(super) next_due: Option<i64>,
    /// Keys of rows below the floors.
    pub(super) again: Vec<(ShardId, i64)>,
    pub(super) found: Vec<Found>,
}

impl Reply {
    pub(super) fn of(what: &str, rows: Vec<Row>) -> Result<Self, StorageError> {
        let mut reply = Self { found: Vec::with_capacity(rows.len()), ..Self::default() };
        let mut complete = false;
        for row in rows {
            match kind(&row) {
                META => {
                    reply.clock = big(&row, 13);
                    reply.leases = leases_of(&lossy_text(&row, 4).unwrap_or_default());
                    complete = true;
                }
                NEXT_DUE => reply.next_due = number(&row, 13),
                AGAIN => reply.again.push((shard(&row, 1), big(&row, 2))),
                _ => reply.found.push(found(row)),
            }
        }
        if complete { Ok(reply) } else { Err(unexpected_reply(what)) }
    }
}

fn kind(row: &Row) -> i32 {
    i32::try_from(big(row, 0)).unwrap_or(0)
}

/// A whole row of the messages table.
pub(super) fn found(mut row: Row) -> Found {
    let payload = take_bytes(&mut row, 7);
    let loaded = payload.is_some();
    let message = message(&row).map(|message| Message { payload: Payload(payload.unwrap_or_default()), ..message });
    Found {
        kind: kind(&row),
        payload_bytes: usize::try_from(big(&row, 8)).unwrap_or(usize::MAX),
        loaded,
        wake_at: number(&row, 13),
        message: message.ok_or_else(|| undecodable(&row)),
    }
}

fn message(row: &Row) -> Option<Message> {
    let id = uuid(row, 3);
    let text = |index| bytes(row, index).map(|bytes| std::str::from_utf8(bytes).map(str::to_owned));
    Some(Message {
        id: if id.is_nil() && bytes(row, 3).map(<[u8]>::len) != Some(16) { return None } else { id },
        shard: shard(row, 1),
        seq: big(row, 2),
        aggregate_type: text(4)?.ok()?,
        aggregate_id: text(5).transpose().ok()?,
        event_type: text(6)?.ok()?,
        payload: Payload::default(),
        content_type: text(9)?.ok()?,
        headers: headers(bytes(row, 10)?)?,
        occurred_at: time_of(number(row, 11)?)?,
        attempts: u32::try_from(big(row, 12)).unwrap_or(0),
    })
}

fn headers(json: &[u8]) -> Option<Headers> {
    let json = json.trim_ascii();
    if !json.starts_with(b"{") {
        return None;
    }
    if json == b"{}" {
        return Some(Headers::default());
    }
    std::str::from_utf8(json).ok().map(Headers::from_json)
}

fn undecodable(row: &Row) -> Undecodable {
    let position = Position { shard: shard(row, 1), seq: big(row, 2), id: uuid(row, 3) };
    let (kind, id) = (lossy_text(row, 4), lossy_text(row, 5));
    Undecodable { position, lane: kind.zip(id).map(|(kind, id)| LaneKey::of(&kind, &id)) }
}

/// Parses `shard:epoch:control_version,…`.
fn leases_of(text: &str) -> Vec<Lease> {
    let lease = |triple: &str| {
        let mut parts = triple.split(':');
        let shard = ShardId(parts.next()?.parse().ok()?);
        let (epoch, control_version) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some(Lease { shard, epoch, control_version })
    };
    text.split(',').filter_map(lease).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leases_of_a_reply_are_parsed() {
        let leases = leases_of("0:5:1,63:0:0");
        assert_eq!(
            leases,
            [
                Lease { shard: ShardId(0), epoch: 5, control_version: 1 },
                Lease { shard: ShardId(63), epoch: 0, control_version: 0 },
            ]
        );
    }

    #[test]
    fn headers_that_are_no_map_are_refused() {
        assert!(headers(b"[]").is_none() && headers(b"").is_none());
        assert_eq!(headers(b" {} ").unwrap(), Headers::default());
    }
}

use rdkafka::message::{Header, OwnedHeaders};

/// The headers of one record while an [`Encoder`](crate::Encoder) writes them.
#[derive(Debug)]
pub struct RecordHeaders {
    // `None` only within `push`: librdkafka's list is handed over by value
    headers: Option<OwnedHeaders>,
    count: usize,
    bytes: usize,
}

impl RecordHeaders {
    pub(crate) fn with_capacity(headers: usize) -> Self {
        Self { headers: Some(OwnedHeaders::new_with_capacity(headers)), count: 0, bytes: 0 }
    }

    /// Adds a header. Kafka allows a name twice; consumers then see both.
    pub fn push(&mut self, name: &str, value: impl AsRef<[u8]>) {
        let value = value.as_ref();
        let headers = self.headers.take().unwrap_or_default();
        self.headers = Some(headers.insert(Header { key: name, value: Some(value) }));
        self.count += 1;
        self.bytes += varint_bytes(name.len()) + name.len() + varint_bytes(value.len()) + value.len();
    }

    pub(crate) fn into_native(self) -> OwnedHeaders {
        self.headers.unwrap_or_default()
    }

    /// Bytes of the batch that holds one record with these headers and nothing else: what a broker compares with `max.message.bytes` when
    /// the record is sent alone and not compressed.
    ///
    /// Source: the record batch format (magic 2) of the Kafka protocol guide.
    pub(crate) fn batch_bytes(&self, key: Option<usize>, value: usize) -> usize {
        const BATCH_HEADER: usize = 61;
        const ATTRIBUTES_AND_DELTAS: usize = 3;
        let key = key.map_or(1, |key| varint_bytes(key) + key);
        let record = ATTRIBUTES_AND_DELTAS + key + varint_bytes(value) + value + varint_bytes(self.count) + self.bytes;
        BATCH_HEADER + varint_bytes(record) + record
    }
}

/// Bytes of a length as a zigzag varint.
fn varint_bytes(length: usize) -> usize {
    let bits = usize::BITS - (length << 1).leading_zeros();
    bits.max(1).div_ceil(7) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_as_many_bytes_as_their_zigzag_varint() {
        for (length, bytes) in [(0, 1), (63, 1), (64, 2), (8_191, 2), (8_192, 3), (1_048_575, 3), (1_048_576, 4)] {
            assert_eq!(varint_bytes(length), bytes, "{length}");
        }
    }

    #[test]
    fn a_record_without_key_and_headers_takes_its_value_and_the_framing() {
        // 61 batch header, 1 length, 3 attributes and deltas, 1 null key, 1 value length, 10 value, 1 header count
        assert_eq!(RecordHeaders::with_capacity(0).batch_bytes(None, 10), 61 + 1 + 3 + 1 + 1 + 10 + 1);
    }
}

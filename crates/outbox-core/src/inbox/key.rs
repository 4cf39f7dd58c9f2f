use bytes::Bytes;

/// Bytes that an ordering key has at most: it is part of a primary key.
pub const MAX_KEY_BYTES: usize = 255;

/// Bytes of a long key that stay readable; its digest follows.
const KEPT_BYTES: usize = MAX_KEY_BYTES - 16;

/// What orders messages of one stream: messages with equal keys are applied one after the other, in the order of their arrival.
///
/// Compared by its bytes. A key of more than [`MAX_KEY_BYTES`] is cut and ends with a digest of the whole. Two keys
/// that collide only wait for each other, so a collision is never an error.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OrderingKey(Bytes);

impl OrderingKey {
    /// The key of a stream (a topic or queue): equal keys of two streams are different ones. The form, `stream/key`, is
    /// pinned: it is in rows.
    pub fn of(stream: &str, key: &[u8]) -> Self {
        let mut whole = Vec::with_capacity(stream.len() + 1 + key.len());
        whole.extend_from_slice(stream.as_bytes());
        whole.push(b'/');
        whole.extend_from_slice(key);
        if whole.len() > MAX_KEY_BYTES {
            let digest = fnv1a_128(&whole).to_be_bytes();
            whole.truncate(KEPT_BYTES);
            whole.extend_from_slice(&digest);
        }
        Self(whole.into())
    }

    /// A key as a storage has kept it.
    pub fn from_stored(bytes: impl Into<Bytes>) -> Self {
        Self(bytes.into())
    }

    /// The bytes, 1 to [`MAX_KEY_BYTES`].
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// A stable digest, for spreading keys over workers.
    pub fn digest(&self) -> u64 {
        let wide = fnv1a_128(&self.0);
        (wide >> 64) as u64 ^ wide as u64
    }
}

impl std::fmt::Debug for OrderingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OrderingKey({:?})", String::from_utf8_lossy(&self.0))
    }
}

/// As text, for people: bytes that are no UTF-8 are replaced.
impl std::fmt::Display for OrderingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

/// Source: draft-eastlake-fnv, FNV-1a with 128 bits.
fn fnv1a_128(bytes: &[u8]) -> u128 {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    bytes.iter().fold(OFFSET, |hash, byte| (hash ^ u128::from(*byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_fnv_1a() {
        // test vectors of draft-eastlake-fnv
        assert_eq!(fnv1a_128(b""), 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);
        assert_eq!(fnv1a_128(b"a"), 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964);
    }

    #[test]
    fn a_key_belongs_to_its_stream() {
        assert_eq!(OrderingKey::of("order", b"7").as_bytes(), b"order/7");
        assert_ne!(OrderingKey::of("order", b"7"), OrderingKey::of("invoice", b"7"));
    }

    #[test]
    fn a_long_key_is_cut_and_stays_distinct() {
        let (mut one, mut other) = (vec![b'x'; 1_000], vec![b'x'; 1_000]);
        one.push(1);
        other.push(2);
        let (one, other) = (OrderingKey::of("order", &one), OrderingKey::of("order", &other));
        assert_eq!(one.as_bytes().len(), MAX_KEY_BYTES);
        assert_ne!(one, other);
    }
}

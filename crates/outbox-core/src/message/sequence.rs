/// Where a message stands among those of its key, as the CloudEvents attributes `sequence` and `sequencetype` say it.
///
/// Source: CloudEvents, extension "Sequence". The extension numbers the events of a source; here each ordering key of a source has numbers of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sequence {
    /// The number. A later message of the key has a higher one.
    pub number: i64,
    /// Whether the numbers are 1, 2, 3, … without gaps (`sequencetype` is `Integer`): then a gap is a missing message.
    pub is_contiguous: bool,
}

impl Sequence {
    /// The header that [`NewMessage::sequence`](super::NewMessage::sequence) sets. The encoders of CloudEvents in binary mode write it as the attributes.
    pub const HEADER: &'static str = "outboxsequence";

    /// The attribute `sequencetype` of numbers without gaps.
    pub const CONTIGUOUS: &'static str = "Integer";

    /// Reads the attributes. An `Integer` has 31 bits at most; a longer number is one with gaps. `None` when `sequence` is no decimal number: what else it may be is known to its producer only.
    pub fn from_attributes(sequence: &str, sequencetype: Option<&str>) -> Option<Self> {
        let number: i64 = sequence.parse().ok()?;
        let is_integer = sequencetype.is_some_and(|kind| kind.eq_ignore_ascii_case(Self::CONTIGUOUS));
        Some(Self { number, is_contiguous: is_integer && (1..=i64::from(i32::MAX)).contains(&number) })
    }

    /// Reads the header of [`HEADER`](Self::HEADER).
    pub fn from_header(text: &str) -> Option<Self> {
        Self::from_attributes(text, Some(Self::CONTIGUOUS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_are_read_and_only_integers_are_contiguous() {
        let read = |sequence, kind| Sequence::from_attributes(sequence, kind).map(|s| (s.number, s.is_contiguous));
        assert_eq!(read("0000000017", Some("Integer")), Some((17, true)));
        assert_eq!(read("0000000000000000017", None), Some((17, false)));
        assert_eq!(read("9223372036854775807", Some("Integer")), Some((i64::MAX, false)));
        assert_eq!(read("17", Some("Lamport")), Some((17, false)));
        assert_eq!(read("2026-11-21#3", None), None);
        assert_eq!(read("", None), None);
    }
}

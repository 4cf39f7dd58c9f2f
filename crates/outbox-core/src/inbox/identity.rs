use std::sync::Arc;

/// Bytes that a consumer's name, a source and an id may have: three of them fit the key of every database.
pub const MAX_IDENTITY_BYTES: usize = 255;

/// The name of a consumer: who deduplicates. Two consumers apply the same message independently.
///
/// Cheap to clone. On Kafka it is also the consumer group.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Consumer(Arc<str>);

impl Consumer {
    /// A consumer's name.
    ///
    /// # Errors
    ///
    /// [`InvalidIdentity`] when it is empty, longer than [`MAX_IDENTITY_BYTES`], or holds a NUL.
    pub fn new(name: &str) -> Result<Self, InvalidIdentity> {
        check("consumer", name)?;
        Ok(Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What makes a message the same one: its source and, unique within the source, its id. Both compare by their bytes.
///
/// Ordered by source, then id: the order in which dedup rows are locked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    source: String,
    id: String,
}

impl Identity {
    /// An identity.
    ///
    /// # Errors
    ///
    /// [`InvalidIdentity`] when a part is empty, longer than [`MAX_IDENTITY_BYTES`], or holds a NUL.
    pub fn new(source: impl Into<String>, id: impl Into<String>) -> Result<Self, InvalidIdentity> {
        let (source, id) = (source.into(), id.into());
        check("source", &source)?;
        check("id", &id)?;
        Ok(Self { source, id })
    }

    /// Who produced the message: the CloudEvents `source`.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Which message of the source.
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// Why a text cannot be part of an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidIdentity {
    /// It is empty.
    #[error("{field} is empty: a message without one cannot be told from others")]
    Empty {
        /// The field's name.
        field: &'static str,
    },
    /// It is too long.
    #[error(
        "{field} has {actual} bytes, the limit is {MAX_IDENTITY_BYTES}: derive a shorter one, for instance a digest"
    )]
    TooLong {
        /// The field's name.
        field: &'static str,
        /// The value's size in bytes.
        actual: usize,
    },
    /// It holds a NUL, which PostgreSQL cannot store.
    #[error("{field} holds a NUL character, which a text column cannot store: remove it")]
    Nul {
        /// The field's name.
        field: &'static str,
    },
}

fn check(field: &'static str, text: &str) -> Result<(), InvalidIdentity> {
    match text.len() {
        0 => Err(InvalidIdentity::Empty { field }),
        actual if actual > MAX_IDENTITY_BYTES => Err(InvalidIdentity::TooLong { field, actual }),
        _ if text.contains('\0') => Err(InvalidIdentity::Nul { field }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_no_row_could_hold_is_refused_with_its_name() {
        assert_eq!(Identity::new("", "1"), Err(InvalidIdentity::Empty { field: "source" }));
        assert_eq!(Identity::new("/shop", "1\0"), Err(InvalidIdentity::Nul { field: "id" }));
        let long = Identity::new("/shop", "é".repeat(128)).unwrap_err().to_string();
        assert!(long.contains("id has 256 bytes, the limit is 255"), "{long}");
        assert!(Consumer::new("billing").is_ok() && Consumer::new("").is_err());
    }

    #[test]
    fn identities_compare_by_their_bytes() {
        let of = |source: &str, id: &str| Identity::new(source, id).unwrap();
        assert_ne!(of("/shop", "a"), of("/shop", "A"));
        assert_ne!(of("/shop", "a"), of("/shop", "a "));
        assert!(of("/a", "z") < of("/b", "a"));
    }
}

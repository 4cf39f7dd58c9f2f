//! Lists of values as one value: the server makes a table of them, so that a statement's text is the same for any number, and joins it to
//! single rows by their whole key. Bytes are in hexadecimal, which no charset or `sql_mode` reads differently.

use std::fmt::Write;

use outbox_core::inbox::{Identity, OrderingKey};

/// The table `v` (n, source, id, word) of [`identities`].
pub(super) const IDENTITIES: &str = "json_table(cast(? AS char), '$[*]' COLUMNS (n FOR ORDINALITY, source varchar(510) PATH '$[0]', \
    id varchar(510) PATH '$[1]', word varchar(16) PATH '$[2]')) AS v";

/// The table `v` (n, ordering_key, word) of [`keys`].
pub(super) const KEYS: &str = "json_table(cast(? AS char), '$[*]' COLUMNS (n FOR ORDINALITY, ordering_key varchar(510) PATH '$[0]', \
    word varchar(16) PATH '$[1]')) AS v";

/// The table `v` (seq) of [`numbers`].
pub(super) const NUMBERS: &str = "json_table(cast(? AS char), '$[*]' COLUMNS (seq bigint PATH '$')) AS v";

/// A table of a statement whose values are in its text.
pub(super) fn table(columns: &str, json: &str) -> String {
    columns.replacen("cast(? AS char)", &format!("'{json}'"), 1)
}

/// A table `v` for a statement that locks rows: MySQL refuses a locking clause beside a `json_table` (error 3569) and takes a derived
/// table, of which it locks nothing. Both servers merge it, and so look up the same rows in the same order as without.
pub(super) fn beside_locks(table: &str) -> String {
    format!("(SELECT * FROM {table}) AS v")
}

/// Identities, each with a word of our own (a status).
pub(super) fn identities<'i>(rows: impl IntoIterator<Item = (&'i Identity, &'static str)>) -> String {
    list(rows, |json, (identity, word)| {
        json.push('[');
        push_bytes(json, identity.source().as_bytes());
        json.push(',');
        push_bytes(json, identity.id().as_bytes());
        let _ = write!(json, ",\"{word}\"]");
    })
}

/// Ordering keys, each with a word of our own (a reason).
pub(super) fn keys<'k>(rows: impl IntoIterator<Item = (&'k OrderingKey, &'static str)>) -> String {
    list(rows, |json, (key, word)| {
        json.push('[');
        push_bytes(json, key.as_bytes());
        let _ = write!(json, ",\"{word}\"]");
    })
}

/// Numbers.
pub(super) fn numbers<'n>(rows: impl IntoIterator<Item = &'n i64>) -> String {
    list(rows, |json, number| {
        let _ = write!(json, "{number}");
    })
}

/// Any rows, each pushed as a JSON value.
pub(super) fn list<T>(rows: impl IntoIterator<Item = T>, push: impl Fn(&mut String, T)) -> String {
    let mut json = String::from("[");
    for (number, row) in rows.into_iter().enumerate() {
        if number > 0 {
            json.push(',');
        }
        push(&mut json, row);
    }
    json.push(']');
    json
}

fn push_bytes(json: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    json.push('"');
    for byte in bytes {
        json.push(char::from(DIGITS[usize::from(byte >> 4)]));
        json.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    json.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_byte_of_a_value_is_in_the_list_as_it_is() {
        let identity = Identity::new("a'\"", "é").unwrap();
        assert_eq!(identities([(&identity, "held")]), r#"[["612722","c3a9","held"]]"#);
        let key = OrderingKey::of("o", b"\0");
        assert_eq!(keys([(&key, ""), (&key, "held")]), r#"[["6f2f00",""],["6f2f00","held"]]"#);
        assert_eq!(numbers(&[]), "[]");
        assert_eq!(numbers(&[1, -2]), "[1,-2]");
        assert!(table(NUMBERS, "[1]").starts_with("json_table('[1]', '$[*]'"));
        assert!(beside_locks(NUMBERS).ends_with(") AS v) AS v"));
    }
}

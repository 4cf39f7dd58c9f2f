use std::collections::BTreeMap;

/// Message headers: text by name.
///
/// Storages hand headers over as the JSON text that is in the row ([`Headers::from_json`]); it is parsed only when
/// somebody looks. Nothing about a stored text can fail: a value that is no string is read as its JSON text, and a
/// text that is no JSON object reads as no headers (a storage refuses such a row at insert).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers {
    json: Option<Box<str>>,
}

impl Headers {
    /// Headers from the JSON object text of a row. `{}` and an empty text are no headers and cost nothing.
    pub fn from_json(json: impl Into<Box<str>>) -> Self {
        let json = json.into();
        if json.len() <= 2 { Self::default() } else { Self { json: Some(json) } }
    }

    /// Headers from a map.
    pub fn from_map(map: &BTreeMap<String, String>) -> Self {
        if map.is_empty() {
            return Self::default();
        }
        Self { json: serde_json::to_string(map).ok().map(Into::into) }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.json.is_none()
    }

    /// The headers as a map, ordered by name.
    pub fn to_map(&self) -> BTreeMap<String, String> {
        let Some(json) = &self.json else { return BTreeMap::new() };
        let Ok(values) = serde_json::from_str::<BTreeMap<String, serde_json::Value>>(json) else {
            return BTreeMap::new();
        };
        values
            .into_iter()
            .map(|(name, value)| match value {
                serde_json::Value::String(text) => (name, text),
                other => (name, other.to_string()),
            })
            .collect()
    }

    /// The JSON object text, `{}` when there are none.
    pub fn as_json(&self) -> &str {
        self.json.as_deref().unwrap_or("{}")
    }

    /// Bytes that the JSON text takes.
    pub fn size_bytes(&self) -> usize {
        self.json.as_deref().map_or(0, str::len)
    }
}

impl std::fmt::Debug for Headers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Headers({} bytes)", self.size_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_survives_the_row() {
        let map = BTreeMap::from([("traceparent".to_owned(), "00-\"x\"".to_owned())]);
        assert_eq!(Headers::from_json(Headers::from_map(&map).as_json()).to_map(), map);
    }

    #[test]
    fn values_that_are_no_text_are_read_as_their_json_text() {
        let headers = Headers::from_json(r#"{"a":1,"b":{"c":null}}"#).to_map();
        assert_eq!(headers["a"], "1");
        assert_eq!(headers["b"], r#"{"c":null}"#);
    }

    #[test]
    fn a_text_that_is_no_object_reads_as_no_headers() {
        assert!(Headers::from_json("[1,2,3]").to_map().is_empty());
    }
}

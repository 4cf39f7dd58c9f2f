//! Names of the outbox tables: validated once, rendered once.

use std::sync::Arc;

use crate::migrations::Backend;

/// The prefix of every table unless another is set.
pub const DEFAULT_PREFIX: &str = "outbox_";

/// Bytes of a schema name: MySQL takes 64, PostgreSQL cuts longer identifiers silently.
const SCHEMA_BYTES: usize = 63;

/// Bytes of a prefix, so that the longest name made from it (a constraint's) still fits into 63 bytes.
const PREFIX_BYTES: usize = 32;

/// Where the outbox tables are: an optional schema and a table prefix.
///
/// Cheap to clone. Names are quoted and, when a schema is set, qualified; without one PostgreSQL finds the tables
/// through the connection's `search_path`. On MySQL a schema is a database, and without one the connection's own is used.
/// SQLite has no schemas and refuses one.
///
/// Names are in double quotes until [`for_backend`](Self::for_backend) says otherwise; whatever takes tables for MySQL does
/// that by itself.
///
/// ```
/// use outbox_diesel::Tables;
///
/// let tables = Tables::new(Some("billing"), "evt_")?;
/// assert_eq!(tables.messages(), r#""billing"."evt_messages""#);
/// assert_eq!(Tables::default().messages(), r#""outbox_messages""#);
/// # Ok::<(), outbox_diesel::InvalidTables>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Tables {
    names: Arc<Names>,
}

/// Why a schema or a table prefix cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTables {
    /// It does not start with a lower-case letter or underscore, or holds other characters than these and digits.
    #[error("{field} {value:?} is not a plain name: use `[a-z_][a-z0-9_]*`, for example `outbox_`")]
    NotPlain {
        /// `schema` or `table prefix`.
        field: &'static str,
        /// What was given.
        value: String,
    },
    /// It is longer than identifiers may be.
    #[error("{field} has {actual} bytes, the limit is {limit}: shorten it")]
    TooLong {
        /// `schema` or `table prefix`.
        field: &'static str,
        /// Its length in bytes.
        actual: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// SQLite has no schemas.
    #[error("schema {schema:?} is set, and SQLite has no schemas: use the table prefix alone")]
    SchemaOnSqlite {
        /// What was given.
        schema: String,
    },
}

#[derive(PartialEq, Eq)]
struct Names {
    schema: Option<String>,
    prefix: String,
    quote: char,
    messages: String,
    seq: String,
    leases: String,
    relays: String,
    dead_letters: String,
    parked_keys: String,
    versions: String,
    channel: String,
}

impl Default for Tables {
    fn default() -> Self {
        Self { names: Arc::new(Names::render(None, DEFAULT_PREFIX, '"')) }
    }
}

impl Tables {
    /// Tables with this prefix, in this schema when one is given.
    ///
    /// # Errors
    ///
    /// [`InvalidTables`] when a name is no `[a-z_][a-z0-9_]*`, when the schema is over 63 bytes or the prefix over 32.
    pub fn new(schema: Option<&str>, prefix: &str) -> Result<Self, InvalidTables> {
        if let Some(schema) = schema {
            plain_name("schema", schema, SCHEMA_BYTES)?;
        }
        plain_name("table prefix", prefix, PREFIX_BYTES)?;
        Ok(Self { names: Arc::new(Names::render(schema, prefix, '"')) })
    }

    /// The same tables with their names quoted as this database wants it: in backticks on MySQL, which takes double quotes for
    /// names only in the mode `ANSI_QUOTES`.
    ///
    /// ```
    /// use outbox_diesel::{Tables, migrations::Backend};
    ///
    /// assert_eq!(Tables::default().for_backend(Backend::Mysql).messages(), "`outbox_messages`");
    /// ```
    pub fn for_backend(&self, backend: Backend) -> Self {
        let quote = match backend {
            Backend::Postgres | Backend::Sqlite => '"',
            Backend::Mysql => '`',
        };
        if self.names.quote == quote {
            return self.clone();
        }
        Self { names: Arc::new(Names::render(self.schema(), self.prefix(), quote)) }
    }

    /// The schema, as given.
    pub fn schema(&self) -> Option<&str> {
        self.names.schema.as_deref()
    }

    /// The table prefix, as given.
    pub fn prefix(&self) -> &str {
        &self.names.prefix
    }

    /// The table of pending messages, quoted and qualified.
    pub fn messages(&self) -> &str {
        &self.names.messages
    }

    /// The sequence of [`messages`](Self::messages) on PostgreSQL, quoted and qualified.
    pub fn seq(&self) -> &str {
        &self.names.seq
    }

    /// The table of shard leases, quoted and qualified.
    pub fn leases(&self) -> &str {
        &self.names.leases
    }

    /// The table of relays and their heartbeats, quoted and qualified.
    pub fn relays(&self) -> &str {
        &self.names.relays
    }

    /// The table of dead letters, quoted and qualified.
    pub fn dead_letters(&self) -> &str {
        &self.names.dead_letters
    }

    /// The table of parked keys, quoted and qualified.
    pub fn parked_keys(&self) -> &str {
        &self.names.parked_keys
    }

    /// The version table of the migrations, quoted and qualified.
    pub fn versions(&self) -> &str {
        &self.names.versions
    }

    /// The channel of `NOTIFY` on PostgreSQL, unquoted. It does not hold the schema, so two outboxes with one prefix in
    /// one database wake each other, which costs an empty read.
    pub fn channel(&self) -> &str {
        &self.names.channel
    }

    /// Replaces the tokens `{{messages}}`, `{{seq}}`, `{{leases}}`, `{{relays}}`, `{{dead_letters}}`, `{{parked_keys}}`
    /// and `{{versions}}` by full names, and `{{prefix}}` by the bare prefix.
    pub fn render(&self, sql: &str) -> String {
        let names = &*self.names;
        let mut text = sql.to_owned();
        for (token, name) in [
            ("{{messages}}", &names.messages),
            ("{{seq}}", &names.seq),
            ("{{leases}}", &names.leases),
            ("{{relays}}", &names.relays),
            ("{{dead_letters}}", &names.dead_letters),
            ("{{parked_keys}}", &names.parked_keys),
            ("{{versions}}", &names.versions),
            ("{{prefix}}", &names.prefix),
        ] {
            text = text.replace(token, name);
        }
        text
    }

    /// The full name of another table of this prefix.
    #[cfg(feature = "inbox")]
    pub(crate) fn named(&self, name: &str) -> String {
        self.names.full(name)
    }

    /// The tables again when SQLite can have them.
    #[cfg(feature = "sqlite")]
    pub(crate) fn without_schema(self) -> Result<Self, InvalidTables> {
        match self.schema() {
            None => Ok(self),
            Some(schema) => Err(InvalidTables::SchemaOnSqlite { schema: schema.to_owned() }),
        }
    }
}

impl std::fmt::Debug for Tables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tables").field("schema", &self.names.schema).field("prefix", &self.names.prefix).finish()
    }
}

impl Names {
    fn render(schema: Option<&str>, prefix: &str, quote: char) -> Self {
        let qualifier = schema.map(|schema| format!("{quote}{schema}{quote}.")).unwrap_or_default();
        let full = |name: &str| format!("{qualifier}{quote}{prefix}{name}{quote}");
        Self {
            schema: schema.map(str::to_owned),
            prefix: prefix.to_owned(),
            quote,
            messages: full("messages"),
            seq: full("messages_seq"),
            leases: full("leases"),
            relays: full("relays"),
            dead_letters: full("dead_letters"),
            parked_keys: full("parked_keys"),
            versions: full("schema"),
            channel: format!("{prefix}messages"),
        }
    }
}

#[cfg(feature = "inbox")]
impl Names {
    fn full(&self, name: &str) -> String {
        let Self { schema, prefix, quote, .. } = self;
        let qualifier = schema.as_ref().map(|schema| format!("{quote}{schema}{quote}.")).unwrap_or_default();
        format!("{qualifier}{quote}{prefix}{name}{quote}")
    }
}

fn plain_name(field: &'static str, value: &str, limit: usize) -> Result<(), InvalidTables> {
    if value.len() > limit {
        return Err(InvalidTables::TooLong { field, actual: value.len(), limit });
    }
    let mut bytes = value.bytes();
    let starts = bytes.next().is_some_and(|first| first.is_ascii_lowercase() || first == b'_');
    if starts && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_') {
        Ok(())
    } else {
        Err(InvalidTables::NotPlain { field, value: value.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_become_quoted_names_in_the_schema() {
        let tables = Tables::new(Some("shop"), "x_").unwrap();
        assert_eq!(
            tables.render("INSERT INTO {{messages}} -- {{prefix}}pk {{seq}}"),
            r#"INSERT INTO "shop"."x_messages" -- x_pk "shop"."x_messages_seq""#
        );
    }

    #[test]
    fn mysql_has_backticks_and_the_others_double_quotes() {
        let tables = Tables::new(Some("shop"), "x_").unwrap();
        let mysql = tables.for_backend(Backend::Mysql);
        assert_eq!(mysql.render("{{messages}} {{prefix}}pk"), "`shop`.`x_messages` x_pk");
        assert!(mysql.for_backend(Backend::Postgres) == tables);
    }

    #[test]
    fn a_name_that_needs_quoting_is_refused_and_named() {
        for prefix in ["", "1a", "Outbox_", "a-b", "a\"; DROP TABLE orders; --", "é"] {
            let error = Tables::new(None, prefix).unwrap_err();
            assert!(matches!(error, InvalidTables::NotPlain { field: "table prefix", .. }), "{prefix}: {error}");
        }
        assert!(matches!(Tables::new(Some(""), "a"), Err(InvalidTables::NotPlain { field: "schema", .. })));
    }

    #[test]
    fn a_name_that_the_server_would_cut_is_refused() {
        assert!(Tables::new(Some(&"s".repeat(63)), &"p".repeat(32)).is_ok());
        assert!(matches!(
            Tables::new(None, &"p".repeat(33)),
            Err(InvalidTables::TooLong { field: "table prefix", actual: 33, limit: 32 })
        ));
        assert!(matches!(
            Tables::new(Some(&"s".repeat(64)), "p"),
            Err(InvalidTables::TooLong { field: "schema", actual: 64, limit: 63 })
        ));
    }
}

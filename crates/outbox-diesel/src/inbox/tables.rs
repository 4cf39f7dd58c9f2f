use crate::{InvalidTables, Tables};

/// The prefix of every table of the inbox unless another is set.
pub const DEFAULT_INBOX_PREFIX: &str = "inbox_";

/// Where the tables of an inbox are: an optional schema and a table prefix, which must differ from the outbox's in one schema.
///
/// Cheap to clone. Names are quoted and, when a schema is set, qualified, as those of [`Tables`].
///
/// ```
/// use outbox_diesel::inbox::InboxTables;
///
/// let tables = InboxTables::new(Some("billing"), "in_")?;
/// assert_eq!(tables.render("{{held}}"), r#""billing"."in_held""#);
/// assert_eq!(InboxTables::default().render("{{messages}}"), r#""inbox_messages""#);
/// # Ok::<(), outbox_diesel::InvalidTables>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct InboxTables {
    tables: Tables,
}

impl InboxTables {
    /// Tables with this prefix, in this schema when one is given.
    ///
    /// # Errors
    ///
    /// [`InvalidTables`], as [`Tables::new`].
    pub fn new(schema: Option<&str>, prefix: &str) -> Result<Self, InvalidTables> {
        Ok(Self { tables: Tables::new(schema, prefix)? })
    }

    /// The schema, as given.
    pub fn schema(&self) -> Option<&str> {
        self.tables.schema()
    }

    /// The table prefix, as given.
    pub fn prefix(&self) -> &str {
        self.tables.prefix()
    }

    /// The version table of the migrations, quoted and qualified.
    pub fn versions(&self) -> &str {
        self.tables.versions()
    }

    /// Replaces the tokens `{{messages}}`, `{{held}}`, `{{held_seq}}`, `{{parked_keys}}`, `{{dead_letters}}`, `{{positions}}`,
    /// `{{horizons}}` and `{{versions}}` by full names, and `{{prefix}}` by the bare prefix.
    pub fn render(&self, sql: &str) -> String {
        render(&self.tables, sql)
    }

    /// The same tables with their names quoted as MySQL wants it.
    #[cfg(feature = "mysql")]
    pub(super) fn for_mysql(&self) -> Self {
        Self { tables: self.tables.for_backend(crate::migrations::Backend::Mysql) }
    }

    pub(super) fn names(&self) -> &Tables {
        &self.tables
    }
}

/// Replaces the tokens of the inbox.
pub(super) fn render(tables: &Tables, sql: &str) -> String {
    let mut text = sql.to_owned();
    for name in ["held", "held_seq", "positions", "horizons"] {
        text = text.replace(&format!("{{{{{name}}}}}"), &tables.named(name));
    }
    tables.render(&text)
}

impl Default for InboxTables {
    fn default() -> Self {
        Self { tables: Tables::new(None, DEFAULT_INBOX_PREFIX).expect("the default prefix is a plain name") }
    }
}

impl std::fmt::Debug for InboxTables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (schema, prefix) = (self.schema(), self.prefix());
        f.debug_struct("InboxTables").field("schema", &schema).field("prefix", &prefix).finish()
    }
}

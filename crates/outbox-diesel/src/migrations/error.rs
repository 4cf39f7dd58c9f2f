use super::{EXPECTED_VERSION, Unfinished};

/// Why a migration did not happen. What had been applied before stays applied; the one that failed left nothing behind, except
/// on MySQL, where it goes on from where it stopped when it is run again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MigrationError {
    /// The database refused a statement or could not be reached.
    #[error("cannot {action}")]
    Database {
        /// What was tried.
        action: String,
        /// What the database said.
        #[source]
        source: diesel::result::Error,
    },
    /// The schema was made by a newer program.
    #[error("the schema has version {found}, which this program does not know: use a newer one")]
    Newer {
        /// The version in the database.
        found: i32,
    },
    /// The database cannot have such tables.
    #[error(transparent)]
    Tables(#[from] crate::InvalidTables),
    /// A table of that name is there, and no migration made it.
    #[error(
        "there is a table {table} already, and no migration made it: drop or rename it, or use another table prefix"
    )]
    TableExists {
        /// Its name, quoted and qualified.
        table: String,
    },
    /// A migration stopped while it was being reverted.
    #[error("migration {version} is half reverted ({unfinished}): finish that first with `outbox migrate down`")]
    HalfReverted {
        /// The version that the migration led to.
        version: i32,
        /// Where it stands.
        unfinished: Unfinished,
    },
    /// A target version that does not exist.
    #[error("there is no schema version {requested}: use 0 to {EXPECTED_VERSION}")]
    UnknownVersion {
        /// What was asked for.
        requested: i32,
    },
    /// Going down would delete messages that nobody has delivered.
    #[error(
        "the tables still hold {pending} pending messages and {dead_letters} dead letters, which going down deletes: \
         deliver or discard them first, or ask for their deletion"
    )]
    NotEmpty {
        /// Pending messages; at most 10,000 are counted.
        pending: i64,
        /// Dead letters; at most 10,000 are counted.
        dead_letters: i64,
    },
}

#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
impl MigrationError {
    /// Names what was tried when the database failed.
    pub(super) fn database(action: impl Into<String>) -> impl FnOnce(diesel::result::Error) -> Self {
        let action = action.into();
        move |source| Self::Database { action, source }
    }
}

impl From<diesel::result::Error> for MigrationError {
    /// For the statements that a transaction makes by itself.
    fn from(source: diesel::result::Error) -> Self {
        Self::Database { action: "begin or commit the migration's transaction".to_owned(), source }
    }
}

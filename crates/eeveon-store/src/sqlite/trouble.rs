//! What goes wrong inside SQLite, before it is said which database it was.

use std::{error::Error, path::Path};

use rusqlite::ErrorCode;

use crate::StoreError;

#[derive(Debug)]
pub(super) enum Trouble {
    Sql(rusqlite::Error),
    /// Something stored is not as it was written.
    Damaged(String),
    /// Anything that already says all there is to say.
    Store(StoreError),
    Internal(Box<dyn Error + Send + Sync>),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Trouble {
    /// Says that it happened to the database at `path`.
    ///
    /// Source of the codes: <https://sqlite.org/rescode.html>.
    pub(super) fn at(self, path: &Path) -> StoreError {
        let path = path.to_owned();
        let error = match self {
            Self::Damaged(defect) => return StoreError::Corrupt { path, defect },
            Self::Store(error) => return error,
            Self::Internal(source) => return StoreError::Internal(source),
            Self::Sql(error) => error,
        };
        if is_unsound(&error) {
            return StoreError::Corrupt { path, defect: error.to_string() };
        }
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy { path },
            Some(ErrorCode::DiskFull) => StoreError::Full { path },
            Some(
                ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::PermissionDenied,
            ) => StoreError::Io { path, source: error.into() },
            _ => StoreError::Internal(error.into()),
        }
    }

    /// Returns what is damaged, if it is damage.
    pub(super) fn defect(&self) -> Option<String> {
        match self {
            Self::Damaged(defect) => Some(defect.clone()),
            Self::Sql(error) if is_unsound(error) => Some(error.to_string()),
            _ => None,
        }
    }
}

/// Tells whether the database holds something that was never written to it. A statement that SQLite
/// cannot compile or carry out is a sign of it too: all of them fit the schema.
fn is_unsound(error: &rusqlite::Error) -> bool {
    use ErrorCode::{DatabaseCorrupt, NotADatabase, Unknown};
    matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase | Unknown))
        || matches!(
            error,
            rusqlite::Error::SqlInputError { .. }
                | rusqlite::Error::InvalidColumnType(..)
                | rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::IntegralValueOutOfRange(..)
                | rusqlite::Error::Utf8Error(..)
        )
}

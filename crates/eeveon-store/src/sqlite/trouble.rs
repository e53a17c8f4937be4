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
        if is_out_of_room(&error) {
            return StoreError::Full { path };
        }
        match error.sqlite_error_code() {
            // The last one when another process stands still in the middle of taking or giving back a lock.
            Some(
                ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed,
            ) => StoreError::Busy { path },
            Some(
                ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::PermissionDenied,
            ) => StoreError::Io { path, source: error.into() },
            _ => StoreError::Internal(error.into()),
        }
    }

    /// Tells whether the disk is full.
    pub(super) fn is_full(&self) -> bool {
        match self {
            Self::Sql(error) => is_out_of_room(error),
            Self::Store(error) => matches!(error, StoreError::Full { .. }),
            Self::Damaged(_) | Self::Internal(_) => false,
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

/// Tells whether the disk is full. Where only the index of the log does not fit, SQLite does not call it
/// so: see <https://sqlite.org/rescode.html#ioerr_shmsize>.
fn is_out_of_room(error: &rusqlite::Error) -> bool {
    let index = error.sqlite_error().map(|it| it.extended_code) == Some(rusqlite::ffi::SQLITE_IOERR_SHMSIZE);
    index || error.sqlite_error_code() == Some(ErrorCode::DiskFull)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_can_mend_is_told_as_such() {
        for code in [rusqlite::ffi::SQLITE_FULL, rusqlite::ffi::SQLITE_IOERR_SHMSIZE] {
            let error = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
            assert!(matches!(Trouble::Sql(error).at(Path::new("db")), StoreError::Full { .. }), "{code}");
        }
        let error = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_PROTOCOL);
        let error = Trouble::Sql(rusqlite::Error::SqliteFailure(error, None)).at(Path::new("db"));
        assert!(matches!(error, StoreError::Busy { .. }));
        let error = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_READ);
        let error = Trouble::Sql(rusqlite::Error::SqliteFailure(error, None)).at(Path::new("db"));
        assert!(matches!(error, StoreError::Io { .. }));
    }
}

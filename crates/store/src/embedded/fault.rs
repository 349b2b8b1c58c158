//! What SQLite's failures mean to an operator, in one line each.

use std::path::Path;

use rusqlite::{Error, ErrorCode};

use crate::transact::Fault;

/// One line that says what happened and, where there is something to do, what.
pub(super) fn explain(error: &Error) -> String {
    let Some(code) = error.sqlite_error_code() else { return format!("the database file cannot be used: {}", one_line(error)) };
    match code {
        ErrorCode::DiskFull => "the disk (or the size limit) of the database file is full: nothing was written".to_owned(),
        ErrorCode::ReadOnly | ErrorCode::PermissionDenied => "the database file is read-only: make it writable for this user".to_owned(),
        ErrorCode::DatabaseCorrupt => "the database file is damaged: restore a backup".to_owned(),
        ErrorCode::NotADatabase => "the file is no database: move it away or restore a backup".to_owned(),
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => "the database file is locked by another process".to_owned(),
        ErrorCode::CannotOpen => "the database file cannot be opened: check that its directory exists and is writable".to_owned(),
        ErrorCode::SystemIoFailure => format!("reading or writing the database file failed: {}", one_line(error)),
        _ => format!("the database file failed: {}", one_line(error)),
    }
}

/// The same, with the file's name, for start-up.
pub(super) fn at(path: &Path, error: &Error) -> String {
    format!("{}: {}", path.display(), explain(error))
}

fn one_line(error: &Error) -> String {
    error.to_string().replace('\n', " ")
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Broken(explain(&error))
    }
}

//! Copies of the last good configuration, kept under the prefix: what a node starts from while its database is away.
//!
//! `last-good/00000012.copy` begins with a whole configuration, number 12; what changed since may be appended, each time as the
//! next number ([`form`]). A file is written beside its place and moved there once it is whole, and what is appended counts once
//! it is sealed: a reader sees all of it or nothing, and what was damaged later its digests tell. The last few numbers are kept.
//!
//! [`keeper`] makes them out of the store's changes; [`fingerprint`] is the hash of a configuration, which the two share.

mod fingerprint;
mod form;
mod keeper;

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use portcullis_schema::{Catalog, Record, Schema, id_of};
use tracing::warn;
use uuid::Uuid;

use form::Lines;
pub use keeper::Keeper;

/// The folder of copies.
#[derive(Clone, Debug)]
pub struct Copies {
    directory: PathBuf,
    keep: usize,
}

/// A copy that was read.
#[derive(Clone, Debug)]
pub struct Copy {
    pub number: u64,
    /// Seconds since 1970.
    pub taken: u64,
    pub workspace: Uuid,
    /// In dependency order.
    pub rows: Vec<(Arc<Schema>, Record)>,
}

impl Copies {
    pub fn new(prefix: &Path, keep: usize) -> Self {
        Self { directory: prefix.join("last-good"), keep }
    }

    /// The files there are, newest first, each by the first number in it.
    fn files(&self) -> Vec<(u64, PathBuf)> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let numbered = |path: PathBuf| Some((path.file_name()?.to_str()?.strip_suffix(".copy")?.parse().ok()?, path));
        let mut found: Vec<_> = entries.filter_map(|entry| numbered(entry.path())).collect();
        found.sort_by(|one, other| other.cmp(one));
        found
    }

    pub fn is_empty(&self) -> bool {
        self.files().is_empty()
    }

    /// The numbers of the copies there are, newest first, and the file of each.
    pub fn list(&self) -> Vec<(u64, PathBuf)> {
        let mut found: Vec<(u64, PathBuf)> = Vec::new();
        for (first, path) in self.files() {
            let bytes = fs::read(&path).unwrap_or_default();
            let numbers = match form::parse(&bytes) {
                Ok(parsed) => parsed.states.iter().rev().map(|state| state.number).collect(),
                // Listed as what it should be: whoever asks for it is told what is wrong with it.
                Err(_) => vec![first],
            };
            let last = found.last().map_or(u64::MAX, |(number, _)| *number);
            found.extend(numbers.into_iter().filter(|number| *number < last).map(|number| (number, path.clone())));
        }
        found.truncate(self.keep);
        found
    }

    /// The newest copy that is whole; damaged ones are passed over with a warning.
    pub fn newest(&self, catalog: &Catalog) -> Option<Copy> {
        self.files().into_iter().find_map(|(_, path)| {
            read(None, &path, catalog).inspect_err(|problem| warn!(problem, "a copy of the configuration is passed over")).ok()
        })
    }

    /// Makes a copy the newest. Errors with one line.
    pub fn put_first(&self, copy: &Copy) -> Result<(), String> {
        let number = self.list().first().map_or(1, |(number, _)| number + 1);
        let mut whole = Whole::begin(self, copy.workspace)?;
        let mut hash = fingerprint::Fingerprint::default();
        for (schema, row) in &copy.rows {
            whole.rows(schema, std::slice::from_ref(row), &mut hash);
        }
        whole.finish(self, number, &hash.text()).map(drop)
    }

    fn path_of(&self, number: u64) -> PathBuf {
        self.directory.join(format!("{number:08}.copy"))
    }

    /// Removes files that hold none of the last copies, of which the newest is `last`. The one before the newest stays: the
    /// newest may turn out to be damaged.
    fn prune(&self, last: u64) {
        let files = self.files();
        let kept = |(at, (first, _)): (usize, &(u64, PathBuf))| {
            at < self.keep.min(2) || last.saturating_sub(*first) < self.keep as u64 || {
                // It reaches up to where the next one begins.
                files.get(at - 1).is_some_and(|(next, _)| (last + 1).saturating_sub(*next) < self.keep as u64)
            }
        };
        for (at, file) in files.iter().enumerate().filter(|(at, _)| *at > 0) {
            if !kept((at, file)) {
                // One more than needed does no harm.
                let _ = fs::remove_file(&file.1);
            }
        }
    }
}

/// A new file on its way to the disk, beside its place.
struct Whole {
    file: File,
    path: PathBuf,
    text: Vec<u8>,
    lines: Lines,
    bytes: u64,
    failed: Option<std::io::Error>,
}

/// Bytes that are gathered before they are written.
const GATHERED: usize = 1 << 16;

impl Whole {
    fn begin(copies: &Copies, workspace: Uuid) -> Result<Self, String> {
        fs::create_dir_all(&copies.directory).map_err(|error| form::at(&copies.directory, error))?;
        let path = copies.directory.join("next.tmp");
        // It holds keys and credentials.
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
        let file = file.map_err(|error| form::at(&path, error))?;
        let mut lines = Lines::after("");
        let text = lines.begin(workspace).into_bytes();
        Ok(Self { file, path, text, lines, bytes: 0, failed: None })
    }

    fn rows(&mut self, schema: &Schema, rows: &[Record], hash: &mut fingerprint::Fingerprint) {
        for row in rows {
            if let Some(id) = id_of(row) {
                hash.put(&schema.name, id, row);
                self.lines.put(&schema.name, row, &mut self.text);
            }
            if self.text.len() > GATHERED {
                self.write();
            }
        }
    }

    fn write(&mut self) {
        if self.failed.is_none() {
            self.failed = self.file.write_all(&self.text).err();
        }
        self.bytes += self.text.len() as u64;
        self.text.clear();
    }

    /// Seals the file as state `number` and moves it to its place. Answers its path, its bytes and its seal.
    fn finish(mut self, copies: &Copies, number: u64, hash: &str) -> Result<(PathBuf, u64, String), String> {
        self.write();
        let (line, seal) = self.lines.end(number, hash);
        let failed = |error: std::io::Error| form::at(&self.path, error);
        match self.failed {
            Some(error) => Err(error),
            None => self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_all()),
        }
        .map_err(failed)?;
        let path = copies.path_of(number);
        fs::rename(&self.path, &path).map_err(failed)?;
        copies.prune(number);
        Ok((path, self.bytes, seal))
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Reads a copy by its number, or the last whole one of a file. Rows that have expired since are left out. Errors with one line
/// naming the file.
pub fn read(number: Option<u64>, path: &Path, catalog: &Catalog) -> Result<Copy, String> {
    let bytes = fs::read(path).map_err(|error| form::at(path, error))?;
    let parsed = form::parse(&bytes).map_err(|what| form::at(path, what))?;
    let last = parsed.states.len() - 1;
    let at = match number {
        None => last,
        Some(number) => {
            let missing = || form::at(path, parsed.trouble.unwrap_or("there is no such copy in it"));
            parsed.states.iter().position(|state| state.number == number).ok_or_else(missing)?
        }
    };
    if let Some(trouble) = parsed.trouble.filter(|_| number.is_none()) {
        warn!(problem = form::at(path, trouble), copy = parsed.states[last].number, "the end of a file of copies is passed over");
    }
    parsed.rows(at, catalog).map_err(|what| form::at(path, what))
}

#[cfg(test)]
mod tests;

//! Copies of the last good configuration, kept under the prefix: what a node starts from while its database is away.
//!
//! `last-good/00000012.copy`: one line of what it is, one line a row, one line that seals it. A copy is written beside its place
//! and moved there once it is whole, so a reader sees all of it or nothing; what was damaged later its digest tells. The last
//! few are kept, the newest has the greatest number.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{Context, SHA256, digest};
use portcullis_schema::{Catalog, Record, Schema};
use portcullis_store::Store;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{debug, warn};
use uuid::Uuid;

/// What the first line begins with: the form's name and version.
const FORM: &str = "portcullis-last-good 1 ";
/// How long changes are gathered before a copy is made.
const GATHER: Duration = Duration::from_millis(500);
/// The pause after a copy is so many times as long as making it took: of a large configuration there are fewer copies.
const PAUSE: u32 = 9;

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

    /// The copies there are, newest first.
    pub fn list(&self) -> Vec<(u64, PathBuf)> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let numbered = |path: PathBuf| Some((path.file_name()?.to_str()?.strip_suffix(".copy")?.parse().ok()?, path));
        let mut found: Vec<_> = entries.filter_map(|entry| numbered(entry.path())).collect();
        found.sort_by(|one, other| other.cmp(one));
        found
    }

    /// The newest copy that is whole; damaged ones are passed over with a warning.
    pub fn newest(&self, catalog: &Catalog) -> Option<Copy> {
        self.list().into_iter().find_map(|(number, path)| {
            read(number, &path, catalog).inspect_err(|problem| warn!(problem, "a copy of the configuration is passed over")).ok()
        })
    }

    /// Makes a copy the newest. Errors with one line.
    pub fn put_first(&self, path: &Path) -> Result<(), String> {
        let number = self.list().first().map_or(1, |(number, _)| number + 1);
        let (next, newest) = (self.directory.join("next.tmp"), self.directory.join(format!("{number:08}.copy")));
        let copied = fs::copy(path, &next).and_then(|_| fs::rename(&next, &newest));
        copied.map_err(|error| format!("{}: {error}", newest.display()))
    }

    /// Makes a copy of what the store holds now, unless the newest says the same. Errors with one line.
    pub async fn keep(&self, store: &dyn Store, catalog: &Catalog) -> Result<(), String> {
        let Some(workspace) = store.workspace().filter(|_| self.keep > 0) else { return Ok(()) };
        let entities: Vec<_> = catalog.entities.iter().filter(|schema| is_kept(schema)).cloned().collect();
        let failed = |error: std::io::Error| format!("{}: {error}", self.directory.display());
        fs::create_dir_all(&self.directory).map_err(failed)?;
        let path = self.directory.join("next.tmp");
        // It holds keys and credentials.
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
        let mut writing = Writing::new(file.map_err(|error| format!("{}: {error}", path.display()))?, workspace);
        let read = store.everything(&entities, &mut |schema, rows| writing.rows(schema, &rows)).await;
        let written = match read {
            Ok(()) => {
                let copies = self.clone();
                let finishing = tokio::task::spawn_blocking(move || copies.finish(writing));
                finishing.await.unwrap_or_else(|error| Err(error.to_string()))
            }
            Err(error) => Err(error.to_string()),
        };
        if written.is_err() {
            let _ = fs::remove_file(&path);
        }
        written
    }

    fn finish(&self, writing: Writing) -> Result<(), String> {
        let path = self.directory.join("next.tmp");
        let failed = |error: std::io::Error| format!("{}: {error}", path.display());
        let (file, digest) = writing.end().map_err(failed)?;
        let copies = self.list();
        if copies.first().is_some_and(|(_, newest)| sealed(newest).is_some_and(|kept| kept == digest)) {
            return fs::remove_file(&path).map_err(failed);
        }
        file.sync_all().map_err(failed)?;
        let number = copies.first().map_or(1, |(number, _)| number + 1);
        fs::rename(&path, self.directory.join(format!("{number:08}.copy"))).map_err(failed)?;
        for (_, old) in copies.into_iter().skip(self.keep.saturating_sub(1)) {
            // One more than needed does no harm.
            let _ = fs::remove_file(old);
        }
        Ok(())
    }

    /// Makes a copy whenever something has changed. Runs as long as the node.
    pub async fn follow(self, store: Arc<dyn Store>, catalog: Arc<Catalog>, changed: Arc<Notify>) {
        let mut said = String::new();
        loop {
            changed.notified().await;
            tokio::time::sleep(GATHER).await;
            if !store.reachable().await {
                debug!("no copy of the configuration while the database is away");
                continue;
            }
            let begun = Instant::now();
            let kept = self.keep(&*store, &catalog).await;
            let took = begun.elapsed();
            match kept {
                Ok(()) => said.clear(),
                Err(problem) => {
                    changed.notify_one();
                    if problem != said {
                        warn!(problem, "the last good configuration is not kept");
                        said = problem;
                    }
                    tokio::time::sleep(Duration::from_secs(5)).await;
                }
            }
            tokio::time::sleep(took * PAUSE).await;
        }
    }
}

/// Whether rows of an entity belong into copies and exports. The workspace is the database's own.
pub fn is_kept(schema: &Schema) -> bool {
    schema.exported && schema.name != "workspaces" && schema.field("id").is_some()
}

/// A copy on its way to the disk.
struct Writing {
    file: BufWriter<File>,
    digest: Context,
    rows: usize,
    failed: Option<std::io::Error>,
}

impl Writing {
    fn new(file: File, workspace: Uuid) -> Self {
        let mut writing = Self { file: BufWriter::with_capacity(1 << 16, file), digest: Context::new(&SHA256), rows: 0, failed: None };
        writing.line(format!("{FORM}{workspace}\n").as_bytes());
        writing
    }

    fn line(&mut self, line: &[u8]) {
        self.digest.update(line);
        if self.failed.is_none() {
            self.failed = self.file.write_all(line).err();
        }
    }

    fn rows(&mut self, schema: &Schema, rows: &[Record]) {
        let mut text = Vec::with_capacity(rows.len() * 256);
        for row in rows {
            text.extend_from_slice(schema.name.as_bytes());
            text.push(b' ');
            // Writing to memory does not fail, and a record is JSON.
            let _ = serde_json::to_writer(&mut text, row);
            text.push(b'\n');
        }
        self.rows += rows.len();
        self.line(&text);
    }

    fn end(self) -> std::io::Result<(File, String)> {
        let Self { mut file, digest, rows, failed } = self;
        if let Some(error) = failed {
            return Err(error);
        }
        let digest = hex(digest.finish().as_ref());
        let taken = now();
        file.write_all(format!("end {rows} {taken} {digest} {}\n", seal(rows, taken, &digest)).as_bytes())?;
        Ok((file.into_inner().map_err(std::io::IntoInnerError::into_error)?, digest))
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The digest of the last line's own words.
fn seal(rows: usize, taken: u64, of_rows: &str) -> String {
    hex(digest(&SHA256, format!("{rows} {taken} {of_rows}").as_bytes()).as_ref())
}

/// The digest a copy's last line names.
fn sealed(path: &Path) -> Option<String> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(256))).ok()?;
    let mut end = Vec::new();
    file.read_to_end(&mut end).ok()?;
    let text = String::from_utf8_lossy(&end);
    text.lines().next_back()?.split(' ').nth(3).map(str::to_owned)
}

/// Reads a copy. Rows that have expired since are left out. Errors with one line naming the file.
pub fn read(number: u64, path: &Path, catalog: &Catalog) -> Result<Copy, String> {
    let damaged = |what: &str| format!("{}: {what}", path.display());
    let bytes = fs::read(path).map_err(|error| damaged(&error.to_string()))?;
    let text = bytes.strip_suffix(b"\n").ok_or_else(|| damaged("the file is cut off"))?;
    let last = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let (body, end) = bytes.split_at(last);
    let end = std::str::from_utf8(end).map_err(|_| damaged("the file is damaged"))?;
    let words: Vec<&str> = end.trim_end().split(' ').collect();
    let ["end", rows, taken, kept, sealed] = words.as_slice() else { return Err(damaged("the file is cut off")) };
    let (Ok(rows), Ok(taken)) = (rows.parse::<usize>(), taken.parse::<u64>()) else { return Err(damaged("the file is damaged")) };
    if *sealed != seal(rows, taken, kept) || *kept != hex(digest(&SHA256, body).as_ref()) {
        return Err(damaged("the file is damaged (its checksum differs)"));
    }
    let body = std::str::from_utf8(body).map_err(|_| damaged("the file is damaged"))?;
    let mut lines = body.lines();
    let workspace = lines.next().and_then(|first| first.strip_prefix(FORM)).and_then(|id| Uuid::try_parse(id).ok());
    let workspace = workspace.ok_or_else(|| damaged("it is of another form than this version reads"))?;

    let elapsed = now().saturating_sub(taken);
    let mut found = Vec::with_capacity(rows);
    let mut schema: Option<&Arc<Schema>> = None;
    for line in lines {
        let (name, row) = line.split_once(' ').ok_or_else(|| damaged("a line is no row"))?;
        if schema.is_none_or(|schema| schema.name != name) {
            schema = catalog.entity(name);
        }
        // What this version doesn't know it doesn't serve.
        let Some(schema) = schema else { continue };
        let mut row: Record = serde_json::from_str(row).map_err(|error| damaged(&error.to_string()))?;
        if let Some(left) = row.get("ttl").and_then(serde_json::Value::as_u64).filter(|_| schema.ttl) {
            if left <= elapsed {
                continue;
            }
            row.insert("ttl".to_owned(), (left - elapsed).into());
        }
        found.push((schema.clone(), row));
    }
    Ok(Copy { number, taken, workspace, rows: found })
}

#[cfg(test)]
#[path = "last_good_tests.rs"]
mod tests;

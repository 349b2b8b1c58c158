//! How a copy stands in its file: one line of what it is, one line a row, one line that seals it. What changed since may follow,
//! each time sealed anew: the file then holds as many states as it has seals.
//!
//! ```text
//! portcullis-last-good 2 <workspace>
//! <entity> <row>
//! end <state> <lines> <seconds since 1970> <hash of the configuration> <seal>
//! <entity> <row>                      made or changed
//! -<entity> <id>                      taken away
//! end …
//! ```
//!
//! A seal is a digest of the seal before it, the lines since and the other words of its own line.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use aws_lc_rs::digest::{Context, SHA256};
use portcullis_schema::{Catalog, Record, Schema, id_of};
use serde_json::Value;
use uuid::Uuid;

use super::{Copy, now};

/// What the first line begins with: the form's name and version.
pub const FORM: &str = "portcullis-last-good 2 ";
/// What a line begins with that seals.
const END: &str = "end ";
/// Bytes of rows that are worth a second thread.
const MUCH: usize = 1 << 20;

/// Lines on their way into a file, and the digest of what will be there.
pub struct Lines {
    digest: Context,
    count: usize,
}

impl Lines {
    /// After the seal that stands before them; empty for the first.
    pub fn after(seal: &str) -> Self {
        let mut digest = Context::new(&SHA256);
        digest.update(seal.as_bytes());
        Self { digest, count: 0 }
    }

    /// The first line of a file.
    pub fn begin(&mut self, workspace: Uuid) -> String {
        let line = format!("{FORM}{workspace}\n");
        self.digest.update(line.as_bytes());
        line
    }

    pub fn put(&mut self, entity: &str, row: &Record, out: &mut Vec<u8>) {
        let begin = out.len();
        out.extend_from_slice(entity.as_bytes());
        out.push(b' ');
        // Writing to memory does not fail, and a record is JSON.
        let _ = serde_json::to_writer(&mut *out, row);
        self.told(begin, out);
    }

    pub fn remove(&mut self, entity: &str, id: Uuid, out: &mut Vec<u8>) {
        let begin = out.len();
        out.extend_from_slice(format!("-{entity} {id}").as_bytes());
        self.told(begin, out);
    }

    fn told(&mut self, begin: usize, out: &mut Vec<u8>) {
        out.push(b'\n');
        self.digest.update(&out[begin..]);
        self.count += 1;
    }

    /// The line that makes them state `number`, and its seal.
    pub fn end(self, number: u64, hash: &str) -> (String, String) {
        let words = format!("{END}{number} {} {} {hash} ", self.count, now());
        let seal = sealed(self.digest, &words);
        (format!("{words}{seal}\n"), seal)
    }
}

fn sealed(mut digest: Context, words: &str) -> String {
    digest.update(words.as_bytes());
    digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One state of a file: the lines that lead to it from the one before, and what its seal says.
pub struct State<'a> {
    pub number: u64,
    pub taken: u64,
    pub hash: &'a str,
    pub seal: &'a str,
    lines: &'a str,
}

/// A file, taken apart as far as it is whole.
pub struct Parsed<'a> {
    pub workspace: Uuid,
    pub states: Vec<State<'a>>,
    /// Why what follows is of no use, if something does.
    pub trouble: Option<&'static str>,
}

const CUT_OFF: &str = "the file is cut off";
const DAMAGED: &str = "the file is damaged";
const DIFFERS: &str = "the file is damaged (its checksum differs)";

/// Takes a file apart and looks at every seal. Errors when not even its first state is whole.
pub fn parse(bytes: &[u8]) -> Result<Parsed<'_>, &'static str> {
    let (bytes, rest) = bytes.split_at(bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1));
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        // The states before it may be whole.
        Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
    };
    let mut trouble = if text.len() < bytes.len() { Some(DIFFERS) } else { (!rest.is_empty()).then_some(CUT_OFF) };
    let Some((first, mut left)) = text.split_once('\n') else { return Err(CUT_OFF) };
    let workspace = first.strip_prefix(FORM).ok_or("it is of another form than this version reads")?;
    let mut states: Vec<State<'_>> = Vec::new();
    let mut header = &text[..=first.len()];
    while !left.is_empty() {
        let Some(end) = seal_in(left) else {
            trouble = trouble.or(Some(CUT_OFF));
            break;
        };
        let (lines, after) = left.split_at(end);
        let (line, after) = after.split_once('\n').unwrap_or((after, ""));
        let before = states.last().map_or("", |state| state.seal);
        match state(before, header, lines, line) {
            Ok(state) => states.push(state),
            Err(what) => {
                trouble = Some(what);
                break;
            }
        }
        (header, left) = ("", after);
    }
    if states.is_empty() {
        return Err(trouble.unwrap_or(CUT_OFF));
    }
    Ok(Parsed { workspace: Uuid::try_parse(workspace).map_err(|_| DAMAGED)?, states, trouble })
}

/// Where the next line begins that seals.
fn seal_in(text: &str) -> Option<usize> {
    // No entity is called that.
    if text.starts_with(END) { Some(0) } else { text.find("\nend ").map(|at| at + 1) }
}

fn state<'a>(before: &str, header: &str, lines: &'a str, line: &'a str) -> Result<State<'a>, &'static str> {
    let words: Vec<&str> = line.split(' ').collect();
    let [_, number, _, taken, hash, seal] = words.as_slice() else { return Err(DAMAGED) };
    let mut digest = Context::new(&SHA256);
    [before, header, lines].iter().for_each(|part| digest.update(part.as_bytes()));
    if *seal != sealed(digest, &line[..line.len() - seal.len()]) {
        return Err(DIFFERS);
    }
    let (Ok(number), Ok(taken)) = (number.parse(), taken.parse()) else { return Err(DAMAGED) };
    Ok(State { number, taken, hash, seal, lines })
}

/// What a line says: a row that is there, or an id that isn't any more.
type Line = (Arc<Schema>, Result<Record, Uuid>);

impl Parsed<'_> {
    /// The rows of one state, by its place. What has expired since is left out. Errors with what is wrong.
    pub fn rows(&self, at: usize, catalog: &Catalog) -> Result<Copy, String> {
        let mut found: Vec<(Arc<Schema>, Record)> = Vec::new();
        let mut places = None;
        for (step, state) in self.states[..=at].iter().enumerate() {
            let elapsed = now().saturating_sub(state.taken);
            let said = read_lines(state.lines, elapsed, catalog)?;
            if step == 0 {
                found.extend(said.into_iter().filter_map(|(schema, row)| Some((schema, row.ok()?))));
                continue;
            }
            // Where each row stands is asked only if something happened to some of them.
            let places = places.get_or_insert_with(|| {
                let placed = found.iter().enumerate().filter_map(|(at, (schema, row))| Some(((schema.name.to_string(), id_of(row)?), at)));
                placed.collect::<HashMap<_, _>>()
            });
            for (schema, row) in said {
                let Some(id) = row.as_ref().map_or_else(|id| Some(*id), id_of) else { continue };
                let key = (schema.name.to_string(), id);
                match (places.get(&key), row) {
                    (Some(at), Ok(row)) => found[*at].1 = row,
                    (Some(at), Err(_)) => {
                        found[*at].1 = Record::new();
                        places.remove(&key);
                    }
                    (None, Ok(row)) => {
                        places.insert(key, found.len());
                        found.push((schema, row));
                    }
                    (None, Err(_)) => {}
                }
            }
        }
        if places.is_some() {
            found.retain(|(_, row)| !row.is_empty());
            // Parents first again.
            let order: HashMap<&str, usize> = catalog.entities.iter().enumerate().map(|(at, schema)| (&*schema.name, at)).collect();
            found.sort_by_key(|(schema, _)| order.get(&*schema.name).copied());
        }
        let State { number, taken, .. } = self.states[at];
        Ok(Copy { number, taken, workspace: self.workspace, rows: found })
    }
}

/// Reads lines, parts of many side by side.
fn read_lines(lines: &str, elapsed: u64, catalog: &Catalog) -> Result<Vec<Line>, String> {
    let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get).min(8);
    let size = if lines.len() < MUCH { lines.len() } else { lines.len().div_ceil(processors) };
    let mut parts = Vec::new();
    let mut left = lines;
    while left.len() > size {
        let end = left.as_bytes()[size..].iter().position(|byte| *byte == b'\n').map_or(left.len(), |at| size + at + 1);
        let (part, rest) = left.split_at(end);
        parts.push(part);
        left = rest;
    }
    let read = thread::scope(|scope| {
        let others: Vec<_> = parts.into_iter().map(|part| scope.spawn(move || read_part(part, elapsed, catalog))).collect();
        let last = read_part(left, elapsed, catalog);
        let unfinished = || Err("it could not be read".to_owned());
        let others = others.into_iter().map(|other| other.join().unwrap_or_else(|_| unfinished()));
        others.collect::<Vec<_>>().into_iter().chain([last]).collect::<Result<Vec<_>, _>>()
    })?;
    Ok(read.into_iter().flatten().collect())
}

fn read_part(lines: &str, elapsed: u64, catalog: &Catalog) -> Result<Vec<Line>, String> {
    let mut found: Vec<Line> = Vec::new();
    let mut schema: Option<&Arc<Schema>> = None;
    for line in lines.lines() {
        let (name, row) = line.split_once(' ').ok_or("a line is no row")?;
        let (gone, name) = name.strip_prefix('-').map_or((false, name), |name| (true, name));
        if schema.is_none_or(|schema| schema.name != name) {
            schema = catalog.entity(name);
        }
        // What this version doesn't know it doesn't serve.
        let Some(schema) = schema else { continue };
        if gone {
            found.push((schema.clone(), Err(Uuid::try_parse(row).map_err(|_| "a line is no row")?)));
            continue;
        }
        let mut row: Record = serde_json::from_str(row).map_err(|error| error.to_string())?;
        if let Some(left) = row.get("ttl").and_then(Value::as_u64).filter(|_| schema.ttl) {
            if left <= elapsed {
                found.extend(id_of(&row).map(|id| (schema.clone(), Err(id))));
                continue;
            }
            row.insert("ttl".to_owned(), (left - elapsed).into());
        }
        found.push((schema.clone(), Ok(row)));
    }
    Ok(found)
}

/// The file's path before what is wrong with it.
pub fn at(path: &Path, what: impl std::fmt::Display) -> String {
    format!("{}: {what}", path.display())
}

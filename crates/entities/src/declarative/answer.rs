//! What `POST /config` answers, written straight from the records.

use std::sync::Arc;

use super::Document;
use portcullis_schema::{Record, Schema};

/// Rows that are worth a second thread.
const MANY: usize = 10_000;

/// Every entity by kind and id, both sorted.
pub(super) fn write(document: &Document) -> Result<Vec<u8>, serde_json::Error> {
    let mut kinds: Vec<&(Arc<Schema>, Vec<Record>)> = document.records.iter().collect();
    kinds.sort_by_key(|(schema, _)| &schema.name);
    let mut text = b"{".to_vec();
    for (schema, rows) in kinds {
        if text.len() > 1 {
            text.push(b',');
        }
        serde_json::to_writer(&mut text, &schema.name)?;
        text.extend_from_slice(b":{");
        let key = if schema.field("id").is_some() { "id" } else { schema.endpoint_key.unwrap_or("id") };
        let mut rows: Vec<(&str, &Record)> = rows.iter().filter_map(|row| Some((row.get(key)?.as_str()?, row))).collect();
        rows.sort_by_key(|(id, _)| *id);
        write_rows(document, &rows, &mut text)?;
        text.push(b'}');
    }
    text.push(b'}');
    Ok(text)
}

/// Entries of a map, with commas between. The halves of a long list are written side by side.
fn write_rows(document: &Document, rows: &[(&str, &Record)], text: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    // Rows of a kind are about as long as one of them, and growing by doubling would copy everything again and again. Room
    // that isn't written to takes no memory.
    let Some((_, middle)) = rows.get(rows.len() / 2) else { return Ok(()) };
    let room = rows.len() * (serde_json::to_vec(middle)?.len() + 64);
    text.reserve(room);
    if rows.len() < MANY {
        return write_some(document, rows, text);
    }
    let (front, back) = rows.split_at(rows.len() / 2);
    let behind = std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let mut behind = Vec::with_capacity(room / 2);
            write_some(document, back, &mut behind).map(|()| behind)
        });
        write_some(document, front, text)?;
        // A thread that couldn't finish leaves its part to this one.
        other.join().unwrap_or_else(|_| {
            let mut behind = Vec::new();
            write_some(document, back, &mut behind).map(|()| behind)
        })
    })?;
    text.push(b',');
    text.extend_from_slice(&behind);
    Ok(())
}

fn write_some(document: &Document, rows: &[(&str, &Record)], text: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    for (at, (id, row)) in rows.iter().enumerate() {
        if at > 0 {
            text.push(b',');
        }
        serde_json::to_writer(&mut *text, id)?;
        text.push(b':');
        serde_json::to_writer(&mut *text, document.untransformed.get(*id).unwrap_or(row))?;
    }
    Ok(())
}

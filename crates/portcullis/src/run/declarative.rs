//! The configuration of a node without a database: from a file or a text into the store.

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use portcullis_admin::Writer;
use portcullis_entities::declarative::{self, Document, Format};
use portcullis_schema::Catalog;

use super::publisher::Publisher;
use crate::conf::Settings;
use crate::conf::settings::Database;

/// Loads `declarative_config` or `declarative_config_string`, where one is set and the node has no database. Answers whether
/// there was one: it is served then.
///
/// Errors with Kong's indented list of complaints when it cannot be used.
pub async fn load(settings: &Settings, catalog: &Arc<Catalog>, publisher: &Publisher) -> Result<bool, String> {
    if settings.database != Database::Off {
        return Ok(false);
    }
    let (file, text) = (settings.declarative_config.clone(), settings.declarative_config_string.clone());
    let catalog = catalog.clone();
    // On a thread that ends: what reading a large document took is given back with it.
    let reading = tokio::task::spawn_blocking(move || match (file, text) {
        (Some(path), _) => read_file(&catalog, &path).map(Some),
        (None, Some(text)) => declarative::load(&catalog, &text, Format::Yaml, now()).map(Some).map_err(|refusal| refusal.pretty()),
        (None, None) => Ok(None),
    });
    let Some(document) = reading.await.map_err(|error| format!("reading the configuration: {error}"))?? else { return Ok(false) };
    publisher.replace(Arc::new(document)).await.map_err(|error| error.to_string())?;
    Ok(true)
}

/// Reads a declarative file.
///
/// Errors with what `config parse` prints after `Failed parsing:`.
pub fn read_file(catalog: &Catalog, path: &Path) -> Result<Document, String> {
    let format = Format::of(path)?;
    let text = std::fs::read_to_string(path).map_err(|error| {
        // Named from the root, as Kong does.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        match error.kind() {
            std::io::ErrorKind::NotFound => format!("{}: No such file or directory", path.display()),
            _ => format!("{}: {error}", path.display()),
        }
    })?;
    declarative::load(catalog, &text, format, now()).map_err(|refusal| refusal.pretty())
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

//! The configuration file and environment, as Kong's users know them.
//!
//! - [`keys`]: every key with its type, default and meaning: one table
//! - [`load`]: reading; [`value`]: from text to value; [`vault`]: references to secrets
//! - [`settings`]: what the rest of the program uses, typed; [`tls`]: certificates, versions, ciphers; [`check`]: what must hold between keys
//! - [`postgres`]: its keys as the store takes them
//! - [`shown`]: as `GET /` answers it; [`reference`]: as the documentation lists it; [`stored`]: as the prefix keeps it

mod check;
pub mod keys;
pub mod load;
pub mod postgres;
mod reader;
pub mod reference;
pub mod settings;
mod shown;
pub mod stored;
mod tls;
mod value;
pub mod vault;

use std::path::Path;

pub use load::{Complaints, Given, Loaded};
pub use settings::Settings;

/// Where settings come from.
#[derive(Default)]
pub struct Sources<'a> {
    /// The file; searched in the usual places when not named.
    pub file: Option<&'a Path>,
    /// What a running node was started with, for keys that are given nowhere else.
    pub stored: Given,
    /// What the command line says.
    pub overrides: &'a [(&'a str, String)],
}

/// Reads the configuration: the file named or found, the environment, the overrides.
///
/// Errors with every complaint at once. Warnings are in the settings' `loaded`.
pub fn read(sources: Sources<'_>) -> Result<Settings, Complaints> {
    let file = load::find_file(sources.file)?;
    let text = match &file {
        Some(path) => std::fs::read(path)
            .map_err(|error| Complaints(vec![format!("{}: {error}", path.display())]))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())?,
        None => String::new(),
    };
    let environment = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    Settings::new(load::load_over(sources.stored, &text, environment, sources.overrides))
}

/// The settings a node was started with, as its prefix keeps them; the environment is not asked again.
///
/// Errors with every complaint at once.
pub fn read_stored(text: &str) -> Result<Settings, Complaints> {
    Settings::new(load::load_over(stored::read(text), "", [], &[]))
}

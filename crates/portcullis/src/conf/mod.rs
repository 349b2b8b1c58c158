//! The configuration file and environment, as Kong's users know them.
//!
//! - [`keys`]: every key with its type, default and meaning: one table
//! - [`load`]: reading and checking
//! - [`settings`]: what the rest of the program uses, typed

pub mod keys;
pub mod load;
pub mod settings;

use std::path::Path;

pub use load::{Complaints, Loaded};
pub use settings::Settings;

/// Reads the configuration: the file named or found, the environment, `overrides`.
///
/// Errors with every complaint at once. Answers warnings in the settings' `loaded`.
pub fn read(file: Option<&Path>, overrides: &[(&str, String)]) -> Result<Settings, Complaints> {
    let file = load::find_file(file)?;
    let text = match &file {
        Some(path) => std::fs::read(path)
            .map_err(|error| Complaints(vec![format!("{}: {error}", path.display())]))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())?,
        None => String::new(),
    };
    let environment = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    Settings::new(load::load(&text, environment, overrides))
}

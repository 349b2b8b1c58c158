//! `vault get`: what a reference stands for.

use std::sync::Arc;

use portcullis_entities::vaults::Vault;
use portcullis_proxy::vault::{Reference, Vaults, is_reference};
use portcullis_store::Filter;
use uuid::Uuid;

use super::terminal::Terminal;
use super::{Arguments, Failure, settings};
use crate::conf::Settings;
use crate::conf::settings::Database;
use crate::run::stores::Stores;
use crate::run::{catalog, lua};

pub fn run(terminal: Terminal, arguments: &Arguments) -> Result<(), Failure> {
    let Some(reference) = arguments.positional.get(1) else {
        return Err(Failure("the 'get' command needs a <reference> argument".to_owned()));
    };
    let settings = settings(terminal, arguments)?;
    let reference = if is_reference(reference) { reference.clone() } else { format!("{{vault://{reference}}}") };
    let mut vaults = Vaults::new(settings.loaded.text("vault_env_prefix").unwrap_or_default());
    // Only a vault that is not built in has to be looked up.
    if Reference::parse(&reference)?.vault != "env" && settings.database != Database::Off && settings.prefix.is_dir() {
        stored(&settings)?.into_iter().for_each(|vault| vaults.insert(vault));
    }
    println!("{}", vaults.resolve(&reference)?);
    Ok(())
}

/// The vault entities of the node's database.
fn stored(settings: &Settings) -> Result<Vec<Vault>, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(|error| error.to_string())?;
    let catalog = Arc::new(catalog::flavored(catalog::enabled(&settings.plugins, &lua::install(settings, Uuid::nil()))?, settings.flavor));
    let Some(schema) = catalog.entity("vaults") else { return Ok(Vec::new()) };
    runtime.block_on(async {
        let Stores { store, embedded, postgres, .. } = Stores::open(settings, &catalog, Uuid::new_v4(), Vec::new()).await?;
        let mut vaults = Vec::new();
        let mut after = None;
        loop {
            let page = store.page(schema, after, 1000, Filter::default()).await.map_err(|error| error.to_string())?;
            vaults.extend(page.rows.into_iter().filter_map(|row| serde_json::from_value::<Vault>(row.into()).ok()));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        if let Some(embedded) = embedded {
            embedded.close().await;
        }
        if let Some(postgres) = postgres {
            postgres.close().await;
        }
        Ok(vaults)
    })
}

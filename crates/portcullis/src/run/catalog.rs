//! Which plugins are there, and the schemas of everything.

use std::sync::Arc;

use portcullis_plugin::Entry;
use portcullis_schema::{Catalog, ConfigSchema, build};
use portcullis_store::{Filter, Store};

/// The plugins a `plugins` setting names. `bundled` stands for all of ours, `off` for none.
///
/// Errors with Kong's text for a plugin that is not there.
pub fn enabled(names: &[String]) -> Result<&'static [Entry], String> {
    let all = portcullis_plugins::ALL;
    if names.iter().any(|name| name == "bundled") && names.iter().all(|name| name == "bundled" || is_bundled(name)) {
        return Ok(all);
    }
    let mut chosen = Vec::new();
    for name in names.iter().filter(|name| *name != "off") {
        if name == "bundled" {
            chosen.extend_from_slice(all);
            continue;
        }
        match all.iter().find(|entry| entry.name == name) {
            Some(entry) => chosen.push(*entry),
            None => return Err(format!("{name} plugin is enabled but not installed")),
        }
    }
    // The list lives as long as the process: one leak at the start instead of a lifetime on every plan.
    Ok(Vec::leak(chosen))
}

fn is_bundled(name: &str) -> bool {
    portcullis_plugins::ALL.iter().any(|entry| entry.name == name)
}

/// The schemas of all entities, of these plugins and of the vaults.
pub fn of(entries: &[Entry]) -> Catalog {
    let mut entities: Vec<_> = portcullis_entities::core().into_iter().map(Arc::new).collect();
    // Tables are there for every bundled plugin, used or not, as in Kong.
    entities.extend(portcullis_plugins::ALL.iter().flat_map(|entry| (entry.entities)()).map(Arc::new));
    let plugins = entries.iter().map(|entry| (entry.name.to_owned(), Arc::new((entry.schema)()))).collect();
    let env = env_vault();
    Catalog { entities, plugins, vaults: [(env.name.to_string(), Arc::new(env))].into() }
}

/// The vault of environment variables (behaviour checklist 14).
fn env_vault() -> ConfigSchema {
    let prefix = build::string().matches("^[%a_-][%a%d_-]*$", "^[A-Za-z_-][A-Za-z0-9_-]*$");
    ConfigSchema {
        name: "env".into(),
        priority: 0,
        version: "1.0.0",
        config: build::record_of(vec![("prefix", prefix)], Vec::new()).required(),
        overrides: Vec::new(),
        checks: Vec::new(),
        shorthands: Vec::new(),
    }
}

/// Refuses to start when the store uses a plugin that is not enabled, as Kong does.
pub async fn refuse_disabled(catalog: &Catalog, store: &dyn Store, entries: &[Entry]) -> Result<(), String> {
    let Some(plugins) = catalog.entity("plugins") else { return Ok(()) };
    let mut after = None;
    loop {
        let page = store.page(plugins, after, 1000, Filter::default()).await.map_err(|error| error.to_string())?;
        for row in &page.rows {
            let name = row.get("name").and_then(|name| name.as_str()).unwrap_or_default();
            if !entries.iter().any(|entry| entry.name == name) {
                return Err(format!("{name} plugin is in use but not enabled"));
            }
        }
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}

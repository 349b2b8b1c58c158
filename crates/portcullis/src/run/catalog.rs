//! Which plugins are there, and the schemas of everything.

use std::collections::BTreeSet;
use std::sync::Arc;

use portcullis_entities::routes::{Flavor, schema_for};
use portcullis_lua::Lua;
use portcullis_plugin::Entry;
use portcullis_proxy::snapshot::builder::has_a_part;
use portcullis_schema::{Catalog, ConfigSchema, Record, Schema, build};
use portcullis_store::{Filter, Store};

use crate::conf::Settings;
use crate::conf::settings::Database;

/// The plugins a `plugins` setting names. `bundled` stands for all of ours, `off` for none; others are users' own, in Lua.
///
/// Errors with Kong's text for a plugin that is not there.
pub fn enabled(names: &[String], lua: &Lua) -> Result<&'static [Entry], String> {
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
        match all.iter().chain(portcullis_plugins::BEYOND).find(|entry| entry.name == name) {
            Some(entry) if chosen.iter().any(|listed: &Entry| listed.name == entry.name) => {}
            Some(entry) => chosen.push(*entry),
            None => chosen.push(lua.plugin(name)?),
        }
    }
    // The list lives as long as the process: one leak at the start instead of a lifetime on every plan.
    Ok(Vec::leak(chosen))
}

fn is_bundled(name: &str) -> bool {
    portcullis_plugins::ALL.iter().any(|entry| entry.name == name)
}

/// The schemas of all entities, of these plugins and of the vaults, under the default flavour of the router.
#[cfg(test)]
pub fn of(entries: &[Entry]) -> Catalog {
    flavored(entries, Flavor::default())
}

/// The schemas of all entities, of these plugins and of the vaults. What a route may have depends on the router's flavour.
pub fn flavored(entries: &[Entry], flavor: Flavor) -> Catalog {
    let flavored = |schema: Schema| if schema.name == "routes" { schema_for(flavor) } else { schema };
    let mut entities: Vec<_> = portcullis_entities::core().into_iter().map(flavored).map(Arc::new).collect();
    // Tables are there for every bundled plugin, used or not, as in Kong.
    let own = entries.iter().filter(|entry| !is_bundled(entry.name));
    entities.extend(portcullis_plugins::ALL.iter().chain(own).flat_map(|entry| (entry.entities)()).map(Arc::new));
    let plugins = entries.iter().map(|entry| (entry.name.to_owned(), Arc::new((entry.schema)()))).collect();
    let env = env_vault();
    Catalog { entities, plugins, vaults: [(env.name.to_string(), Arc::new(env))].into() }
}

/// As [`flavored`], for a node with these settings: without a database there is less to choose from.
pub fn for_node(entries: &[Entry], settings: &Settings) -> Catalog {
    let mut catalog = flavored(entries, settings.flavor);
    if settings.database == Database::Off {
        for entry in entries {
            let Some(schema) = catalog.plugins.get_mut(entry.name) else { continue };
            for (field, choice) in entry.need_database {
                Arc::make_mut(schema).config.remove_choice(field, choice);
            }
        }
    }
    catalog
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

/// Entities whose rows plugins make by themselves, at run time: they are nobody's configuration.
const MADE_AT_RUN_TIME: [&str; 6] = ["parameters", "workspaces", "oauth2_tokens", "oauth2_authorization_codes", "acme_storage", "sessions"];

/// Fields of a row that say when, not what.
pub const MOMENTS: [&str; 3] = ["created_at", "updated_at", "ttl"];

/// Whether rows of an entity are configuration, and not made at run time.
pub fn is_configuration(schema: &Schema) -> bool {
    !MADE_AT_RUN_TIME.contains(&&*schema.name)
}

/// Whether rows of an entity belong into exports. The workspace is the database's own.
pub fn is_exported(schema: &Schema) -> bool {
    schema.exported && schema.name != "workspaces" && schema.field("id").is_some()
}

/// Entities that a node makes something of by itself: what it serves from, and its copies of the configuration.
pub fn watched(entries: &[Entry], catalog: &Catalog) -> Vec<Arc<Schema>> {
    let watched = |schema: &&Arc<Schema>| {
        has_a_part(entries, &schema.name) && schema.field("id").is_some() || is_exported(schema) && is_configuration(schema)
    };
    catalog.entities.iter().filter(watched).cloned().collect()
}

/// All others: whoever wants their rows asks the store.
pub fn unwatched(entries: &[Entry], catalog: &Catalog) -> Vec<String> {
    let watched = watched(entries, catalog);
    let others = catalog.entities.iter().filter(|schema| !watched.iter().any(|other| other.name == schema.name));
    others.map(|schema| schema.name.to_string()).collect()
}

/// The names of the plugins that the store has instances of.
pub async fn plugins_in_use(catalog: &Catalog, store: &dyn Store) -> Result<BTreeSet<String>, String> {
    let mut used = BTreeSet::new();
    let Some(plugins) = catalog.entity("plugins") else { return Ok(used) };
    let mut after = None;
    loop {
        let page = store.page(plugins, after, 1000, Filter::default()).await.map_err(|error| error.to_string())?;
        used.extend(page.rows.iter().filter_map(|row| Some(row.get("name")?.as_str()?.to_owned())));
        after = page.next;
        if after.is_none() {
            return Ok(used);
        }
    }
}

/// The names of the plugins that these rows have instances of.
pub fn plugins_in(rows: &[(Arc<Schema>, Record)]) -> BTreeSet<String> {
    let plugins = rows.iter().filter(|(schema, _)| schema.name == "plugins");
    plugins.filter_map(|(_, row)| Some(row.get("name")?.as_str()?.to_owned())).collect()
}

/// Refuses to start when a plugin is used that is not enabled, as Kong does.
pub fn refuse_disabled(used: &BTreeSet<String>, entries: &[Entry]) -> Result<(), String> {
    match used.iter().find(|name| !entries.iter().any(|entry| entry.name == name.as_str())) {
        Some(name) => Err(format!("{name} plugin is in use but not enabled")),
        None => Ok(()),
    }
}

/// What to tell of plugins that may be configured here although nothing is there yet to run them; those that are configured
/// come first. None if all have a handler.
pub fn without_handler(used: &BTreeSet<String>, entries: &[Entry]) -> Option<String> {
    let missing = |of_those_used: bool| -> Vec<&str> {
        let unready = entries.iter().filter(|entry| !entry.ready && used.contains(entry.name) == of_those_used);
        unready.map(|entry| entry.name).collect()
    };
    let (configured, enabled) = (missing(true), missing(false));
    let mut parts = Vec::new();
    if !configured.is_empty() {
        parts.push(format!("configured: {}", configured.join(", ")));
    }
    if !enabled.is_empty() {
        parts.push(format!("enabled: {}", enabled.join(", ")));
    }
    (!parts.is_empty()).then(|| format!("plugins without a handler in this version ({})", parts.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_something_is_made_of_is_watched() {
        let unwatched = unwatched(portcullis_plugins::ALL, &of(&[]));
        let has = |name: &str| unwatched.iter().any(|other| other == name);
        for name in ["oauth2_authorization_codes", "acme_storage", "ratelimiting_metrics", "tags"] {
            assert!(has(name) || of(&[]).entity(name).is_none(), "{name}");
        }
        for name in ["routes", "keyauth_credentials", "oauth2_tokens", "sessions", "keys", "filter_chains", "ca_certificates"] {
            assert!(!has(name), "{name}");
        }
    }

    #[test]
    fn plugins_without_a_handler_are_named_the_configured_ones_first() {
        let with = |at: usize, ready: bool| Entry { ready, ..portcullis_plugins::ALL[at] };
        let entries = [with(0, true), with(1, false), with(2, false)];
        let used: BTreeSet<String> = [0, 2].map(|at: usize| entries[at].name.to_owned()).into();
        let said = format!("plugins without a handler in this version (configured: {}; enabled: {})", entries[2].name, entries[1].name);
        assert_eq!(without_handler(&used, &entries), Some(said));
        assert_eq!(without_handler(&used, &entries[..1]), None);
    }
}

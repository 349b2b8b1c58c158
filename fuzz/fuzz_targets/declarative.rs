//! A declarative file: it is taken or refused with complaints, whatever it says.
#![no_main]

use std::sync::{Arc, OnceLock};

use libfuzzer_sys::fuzz_target;
use portcullis_entities::declarative::{self, Format};
use portcullis_schema::Catalog;

/// Every entity and plugin there is.
fn catalog() -> &'static Catalog {
    static CATALOG: OnceLock<Catalog> = OnceLock::new();
    CATALOG.get_or_init(|| {
        let mut entities: Vec<_> = portcullis_entities::core().into_iter().map(Arc::new).collect();
        entities.extend(portcullis_plugins::ALL.iter().flat_map(|entry| (entry.entities)()).map(Arc::new));
        let plugins = portcullis_plugins::ALL.iter().map(|entry| (entry.name.to_owned(), Arc::new((entry.schema)()))).collect();
        Catalog { entities, plugins, vaults: Default::default() }
    })
}

fuzz_target!(|text: &str| {
    for format in [Format::Json, Format::Yaml] {
        if let Err(refusal) = declarative::load(catalog(), text, format, 1.0) {
            assert!(!refusal.pretty().is_empty());
        }
    }
});

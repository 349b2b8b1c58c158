//! Where the configuration of a node is kept, as its settings say.

use std::sync::Arc;

use portcullis_schema::Catalog;
use portcullis_store::Store;
use portcullis_store::declarative::Declarative;
use portcullis_store::embedded::{self, Embedded};
use portcullis_store::postgres::{self, Postgres, Trouble};
use tracing::error;
use uuid::Uuid;

use super::last_good::{Copies, Copy};
use crate::conf::settings::Database;
use crate::conf::{self, Settings};

/// A store, once as what all of them are and once as what it is.
pub struct Stores {
    pub store: Arc<dyn Store>,
    pub embedded: Option<Arc<Embedded>>,
    pub postgres: Option<Arc<Postgres>>,
    pub declarative: Option<Arc<Declarative>>,
    /// What to serve from until the store, which is away, can be read.
    pub copy: Option<Copy>,
}

impl Stores {
    /// Opens the store. `node` is this node's id; what others do to rows of `unwatched` entities is not heard of.
    ///
    /// Errors with one line; a database that is away is no error when there is a copy of what was last served.
    pub async fn open(settings: &Settings, catalog: &Arc<Catalog>, node: Uuid, unwatched: Vec<String>) -> Result<Self, String> {
        match settings.database {
            Database::Embedded => {
                let file = settings.prefix.join("portcullis.db");
                let store = Arc::new(Embedded::open(embedded::Settings::new(file), catalog)?);
                Ok(Self { store: store.clone(), embedded: Some(store), postgres: None, declarative: None, copy: None })
            }
            Database::Off => {
                let store = Arc::new(Declarative::new(catalog));
                Ok(Self { store: store.clone(), embedded: None, postgres: None, declarative: Some(store), copy: None })
            }
            Database::Postgres => {
                let how = postgres::Settings { unwatched, ..conf::postgres::settings(settings, node) };
                let (store, copy) = match Postgres::open(how.clone(), catalog) {
                    Ok(store) => (store, None),
                    Err(trouble) => {
                        let copy = newest_copy(settings, catalog, &trouble).await.ok_or_else(|| unreachable(&trouble))?;
                        error!(cause = %trouble, copy = copy.number, "the database is away: serving the last good configuration");
                        (Postgres::open_away(how, catalog)?, Some(copy))
                    }
                };
                let store = Arc::new(store);
                Ok(Self { store: store.clone(), embedded: None, postgres: Some(store), declarative: None, copy })
            }
        }
    }
}

/// Kong's words for a database that cannot be used.
pub fn unreachable(trouble: &Trouble) -> String {
    format!("[PostgreSQL error] failed to retrieve PostgreSQL server_version_num: {trouble}")
}

async fn newest_copy(settings: &Settings, catalog: &Arc<Catalog>, trouble: &Trouble) -> Option<Copy> {
    let Trouble::Away(_) = trouble else { return None };
    let (copies, catalog) = (copies(settings)?, catalog.clone());
    tokio::task::spawn_blocking(move || copies.newest(&catalog)).await.ok().flatten()
}

/// The copies of the configuration that a node with these settings keeps, if it does.
pub fn copies(settings: &Settings) -> Option<Copies> {
    let keep = settings.loaded.number("last_good_copies").map_or(5, |number| number.max(0.0) as usize);
    (settings.database == Database::Postgres && keep > 0).then(|| Copies::new(&settings.prefix, keep))
}

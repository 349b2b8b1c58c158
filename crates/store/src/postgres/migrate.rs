//! The tables and what they say about their own state (`schema_meta`), in Kong's terms.
//!
//! Kong came to these tables in 67 steps; a new database gets them at once and is marked as having taken every step, so that
//! either gateway finds it up to date.

use std::time::Duration;

use tokio_postgres::{Client, Transaction};
use uuid::Uuid;

use super::connect::Server;
use super::fault::{Trouble, explain, timed_out};
use super::statements::quoted;

/// A part of the tables that is migrated on its own.
#[derive(Debug)]
pub struct Subsystem {
    pub name: &'static str,
    /// Makes its tables as they are after the last step; empty if it has none.
    sql: &'static str,
    pub migrations: &'static [&'static str],
}

macro_rules! subsystem {
    ($name:literal, [$($step:literal),*]) => { subsystem!($name, "", [$($step),*]) };
    ($name:literal, $sql:expr, [$($step:literal),*]) => { Subsystem { name: $name, sql: $sql, migrations: &[$($step),*] } };
}

/// Every subsystem of Kong 3.9 and its steps, in the order they run.
pub const SUBSYSTEMS: &[Subsystem] = &[
    subsystem!(
        "core",
        include_str!("migrations/core.sql"),
        [
            "000_base",
            "003_100_to_110",
            "004_110_to_120",
            "005_120_to_130",
            "006_130_to_140",
            "007_140_to_150",
            "008_150_to_200",
            "009_200_to_210",
            "010_210_to_211",
            "011_212_to_213",
            "012_213_to_220",
            "013_220_to_230",
            "014_230_to_270",
            "015_270_to_280",
            "016_280_to_300",
            "017_300_to_310",
            "018_310_to_320",
            "019_320_to_330",
            "020_330_to_340",
            "021_340_to_350",
            "022_350_to_360",
            "023_360_to_370",
            "024_380_to_390"
        ]
    ),
    subsystem!("acl", include_str!("migrations/acl.sql"), ["000_base_acl", "002_130_to_140", "003_200_to_210", "004_212_to_213"]),
    subsystem!("acme", include_str!("migrations/acme.sql"), ["000_base_acme", "001_280_to_300", "002_320_to_330", "003_350_to_360"]),
    subsystem!("ai-proxy", ["001_360_to_370"]),
    subsystem!("basic-auth", include_str!("migrations/basic-auth.sql"), ["000_base_basic_auth", "002_130_to_140", "003_200_to_210"]),
    subsystem!("bot-detection", ["001_200_to_210"]),
    subsystem!("hmac-auth", include_str!("migrations/hmac-auth.sql"), ["000_base_hmac_auth", "002_130_to_140", "003_200_to_210"]),
    subsystem!("http-log", ["001_280_to_300"]),
    subsystem!("ip-restriction", ["001_200_to_210"]),
    subsystem!("jwt", include_str!("migrations/jwt.sql"), ["000_base_jwt", "002_130_to_140", "003_200_to_210"]),
    subsystem!(
        "key-auth",
        include_str!("migrations/key-auth.sql"),
        ["000_base_key_auth", "002_130_to_140", "003_200_to_210", "004_320_to_330"]
    ),
    subsystem!(
        "oauth2",
        include_str!("migrations/oauth2.sql"),
        ["000_base_oauth2", "003_130_to_140", "004_200_to_210", "005_210_to_211", "006_320_to_330", "007_320_to_330"]
    ),
    subsystem!("opentelemetry", ["001_331_to_332"]),
    subsystem!("post-function", ["001_280_to_300"]),
    subsystem!("pre-function", ["001_280_to_300"]),
    subsystem!(
        "rate-limiting",
        include_str!("migrations/rate-limiting.sql"),
        ["000_base_rate_limiting", "003_10_to_112", "004_200_to_210", "005_320_to_330", "006_350_to_360"]
    ),
    subsystem!(
        "response-ratelimiting",
        include_str!("migrations/response-ratelimiting.sql"),
        ["000_base_response_rate_limiting", "001_350_to_360"]
    ),
    subsystem!("session", include_str!("migrations/session.sql"), ["000_base_session", "001_add_ttl_index", "002_320_to_330"]),
];

/// Steps of one subsystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steps {
    pub subsystem: String,
    pub names: Vec<String>,
}

impl Steps {
    /// Where Kong keeps the code of these steps; `migrations status` shows it.
    pub fn namespace(&self) -> String {
        match self.subsystem.as_str() {
            "core" => "kong.db.migrations.core".to_owned(),
            plugin => format!("kong.plugins.{plugin}.migrations"),
        }
    }

    /// Every step there is.
    pub fn all() -> Vec<Self> {
        SUBSYSTEMS
            .iter()
            .map(|of| Self { subsystem: of.name.to_owned(), names: of.migrations.iter().map(|&name| name.to_owned()).collect() })
            .collect()
    }
}

/// How far a database has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// There are no tables yet.
    pub needs_bootstrap: bool,
    pub executed: Vec<Steps>,
    /// Begun by `up`, waiting for `finish`.
    pub pending: Vec<Steps>,
    /// Not begun.
    pub new: Vec<Steps>,
    /// Taken by a newer version: steps this one doesn't know.
    pub missing: Vec<Steps>,
}

impl State {
    pub fn is_up_to_date(&self) -> bool {
        !self.needs_bootstrap && self.new.is_empty()
    }
}

/// A connection for commands that look at or change the tables as a whole.
pub struct Migrator {
    client: Client,
    schema: Option<String>,
    /// Whose lock it is.
    owner: Uuid,
}

/// Whoever migrates, Kong's commands included, holds the row of that key in `locks`. Made before anything else, so that even two
/// who bootstrap meet there.
const LOCK: &str = "migrations";
/// A lock holds at least so long, however short the patience of who takes it.
const SHORTEST_LOCK: Duration = Duration::from_secs(10);
const LOCKS: &str = "CREATE TABLE IF NOT EXISTS locks (key text NOT NULL, owner text, ttl timestamptz, CONSTRAINT locks_pkey PRIMARY KEY (key)); \
                     CREATE INDEX IF NOT EXISTS locks_ttl_idx ON locks (ttl)";

impl Migrator {
    /// Connects. `statement_timeout` bounds each statement; none takes `pg_timeout`.
    pub async fn connect(server: &Server, statement_timeout: Option<Duration>) -> Result<Self, Trouble> {
        let timeout = statement_timeout.unwrap_or(server.timeout);
        let greeting = Server { timeout, ..server.clone() }.greeting();
        let asked = async {
            let (client, connection) = server.config().connect(server.tls().map_err(Trouble::Unfit)?).await?;
            tokio::spawn(connection);
            client.batch_execute(&greeting).await?;
            Ok(client)
        };
        let client = tokio::time::timeout(server.timeout, asked).await.unwrap_or_else(|_| Err(Trouble::Away(timed_out())));
        let client = client.map_err(|trouble| trouble.map(|cause| format!("{cause} ({})", server.address())))?;
        Ok(Self { client, schema: server.schema.clone(), owner: Uuid::new_v4() })
    }

    pub async fn state(&self) -> Result<State, String> {
        self.read_state().await.map_err(|error| explain(&error))
    }

    async fn read_state(&self) -> Result<State, tokio_postgres::Error> {
        let found = self.client.query_one("SELECT to_regclass('schema_meta') IS NOT NULL", &[]).await?;
        if !found.try_get::<_, bool>(0)? {
            return Ok(State { needs_bootstrap: true, new: Steps::all(), ..State::default() });
        }
        let rows = self.client.query("SELECT subsystem, executed, pending FROM schema_meta WHERE key = 'schema_meta'", &[]).await?;
        let mut found = Vec::new();
        for row in &rows {
            let steps = |at| row.try_get::<_, Option<Vec<String>>>(at).map(Option::unwrap_or_default);
            found.push((row.try_get::<_, String>(0)?, steps(1)?, steps(2)?));
        }
        if found.is_empty() {
            return Ok(State { needs_bootstrap: true, new: Steps::all(), ..State::default() });
        }
        let mut state = State::default();
        let mut put = |list: fn(&mut State) -> &mut Vec<Steps>, subsystem: &str, names: Vec<String>| {
            if !names.is_empty() {
                list(&mut state).push(Steps { subsystem: subsystem.to_owned(), names });
            }
        };
        for subsystem in SUBSYSTEMS {
            let empty = (String::new(), Vec::new(), Vec::new());
            let (_, executed, pending) = found.iter().find(|(name, ..)| name == subsystem.name).unwrap_or(&empty);
            let begun = |name: &&&str| executed.iter().chain(pending).any(|taken| taken == *name);
            let owned = |name: &&str| (*name).to_owned();
            put(|state| &mut state.executed, subsystem.name, executed.clone());
            put(|state| &mut state.pending, subsystem.name, pending.clone());
            put(|state| &mut state.new, subsystem.name, subsystem.migrations.iter().filter(|name| !begun(name)).map(owned).collect());
            let unknown = executed.iter().filter(|name| !subsystem.migrations.contains(&name.as_str())).cloned().collect();
            put(|state| &mut state.missing, subsystem.name, unknown);
        }
        Ok(state)
    }

    /// Waits until no other process migrates, `patience` long at most: so long the lock holds, too. Answers whether this one may.
    pub async fn lock(&self, patience: Duration) -> Result<bool, String> {
        self.take_lock(patience).await.map_err(|error| explain(&error))
    }

    async fn take_lock(&self, patience: Duration) -> Result<bool, tokio_postgres::Error> {
        if let Some(schema) = &self.schema {
            self.client.batch_execute(&format!("CREATE SCHEMA IF NOT EXISTS {}", quoted(schema))).await?;
        }
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            self.client.batch_execute(LOCKS).await?;
            self.client.execute("DELETE FROM locks WHERE ttl < CURRENT_TIMESTAMP", &[]).await?;
            let sql =
                "INSERT INTO locks (key, owner, ttl) VALUES ($1, $2, CURRENT_TIMESTAMP + make_interval(secs => $3)) ON CONFLICT DO NOTHING";
            let held = patience.max(SHORTEST_LOCK).as_secs_f64();
            if self.client.execute(sql, &[&LOCK, &self.owner.to_string(), &held]).await? == 1 {
                return Ok(true);
            }
            if tokio::time::Instant::now() >= deadline {
                return Ok(false);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Lets others migrate.
    pub async fn unlock(&self) {
        // It ends by itself in any case, and with the table.
        let _ = self.client.execute("DELETE FROM locks WHERE key = $1 AND owner = $2", &[&LOCK, &self.owner.to_string()]).await;
    }

    /// Makes the tables of these subsystems, and with `core` the default workspace and the cluster's id. All or nothing.
    ///
    /// Errors when one of them has begun already: what an older version left half way, that version's own tools bring up to date.
    pub async fn make(&mut self, state: &State) -> Result<(), String> {
        let begun = state.new.iter().find(|steps| state.executed.iter().any(|taken| taken.subsystem == steps.subsystem));
        if let Some(steps) = begun {
            return Err(format!(
                "the tables of {} are those of an older version: bring them to 3.9 with that version's successor first",
                steps.subsystem
            ));
        }
        let schema = self.schema.clone();
        let transaction = self.client.transaction().await.map_err(|error| explain(&error))?;
        make(&transaction, schema, &state.new).await.map_err(|error| explain(&error))?;
        transaction.commit().await.map_err(|error| explain(&error))
    }

    /// Marks steps that only waited for `finish` as taken.
    pub async fn finish(&self) -> Result<(), String> {
        let sql = "UPDATE schema_meta SET executed = executed || pending, last_executed = pending[cardinality(pending)], pending = '{}' \
                   WHERE key = 'schema_meta' AND cardinality(pending) > 0";
        self.client.execute(sql, &[]).await.map(drop).map_err(|error| explain(&error))
    }

    /// Removes the tables, the rows in them and the functions; other tables of the schema stay.
    pub async fn reset(&mut self) -> Result<(), String> {
        let mut sql = String::new();
        for line in SUBSYSTEMS.iter().flat_map(|subsystem| subsystem.sql.lines()) {
            let table = line.strip_prefix("CREATE TABLE ").map(|rest| rest.strip_prefix("IF NOT EXISTS ").unwrap_or(rest));
            if let Some(name) = table.and_then(|rest| rest.split(' ').next()) {
                sql.push_str(&format!("DROP TABLE IF EXISTS {name} CASCADE;\n"));
            }
        }
        sql.push_str("DROP FUNCTION IF EXISTS sync_tags() CASCADE;\nDROP FUNCTION IF EXISTS batch_delete_expired_rows() CASCADE;\n");
        let transaction = self.client.transaction().await.map_err(|error| explain(&error))?;
        transaction.batch_execute(&sql).await.map_err(|error| explain(&error))?;
        transaction.commit().await.map_err(|error| explain(&error))
    }
}

async fn make(transaction: &Transaction<'_>, schema: Option<String>, new: &[Steps]) -> Result<(), tokio_postgres::Error> {
    if let Some(schema) = schema {
        transaction.batch_execute(&format!("CREATE SCHEMA IF NOT EXISTS {}", quoted(&schema))).await?;
    }
    let last = SUBSYSTEMS.last().map_or("", |subsystem| subsystem.name);
    for subsystem in SUBSYSTEMS.iter().filter(|subsystem| new.iter().any(|steps| steps.subsystem == subsystem.name)) {
        transaction.batch_execute(subsystem.sql).await?;
        let sql = "INSERT INTO schema_meta (key, subsystem, last_executed, executed, pending) VALUES ('schema_meta', $1, $2, $3, $4)";
        // Kong leaves this out for the subsystem that it migrates last.
        let pending: Option<Vec<String>> = (subsystem.name != last).then(Vec::new);
        transaction.execute(sql, &[&subsystem.name, &subsystem.migrations.last(), &subsystem.migrations, &pending]).await?;
        if subsystem.name == "core" {
            transaction.execute("INSERT INTO workspaces (id, name) VALUES ($1, 'default')", &[&Uuid::new_v4()]).await?;
            let sql = "INSERT INTO parameters (key, value) VALUES ('cluster_id', $1)";
            transaction.execute(sql, &[&Uuid::new_v4().to_string()]).await?;
        }
    }
    Ok(())
}

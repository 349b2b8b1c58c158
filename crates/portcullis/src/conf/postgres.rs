//! The `pg_*` keys as the store takes them.

use std::time::Duration;

use portcullis_store::postgres::{Server, Settings};
use portcullis_wire::tls::{Asked, UpstreamConfigs};
use uuid::Uuid;

/// How the store of `database=postgres` is used.
pub fn settings(settings: &super::Settings, node: Uuid) -> Settings {
    let loaded = &settings.loaded;
    let seconds = |key: &str, default: f64| Duration::try_from_secs_f64(loaded.number(key).unwrap_or(default)).unwrap_or_default();
    Settings {
        poll_interval: seconds("db_update_frequency", 5.0),
        propagation: seconds("db_update_propagation", 0.0),
        sweep_interval: seconds("_debug_pg_ttl_cleanup_interval", 300.0).max(Duration::from_secs(1)),
        replica: loaded.text("pg_ro_host").map(|_| server_of(settings, "pg_ro_")),
        ..Settings::new(server(settings), node)
    }
}

/// The server and how it is spoken with.
pub fn server(settings: &super::Settings) -> Server {
    server_of(settings, "pg_")
}

/// The server whose keys begin so. What isn't said of the replica is as it is with the server.
fn server_of(settings: &super::Settings, prefix: &str) -> Server {
    let loaded = &settings.loaded;
    let defaults = Server::default();
    let own = |key: &str| {
        let own = key.replacen("pg_", prefix, 1);
        if loaded.given.contains_key(&own) { own } else { key.to_owned() }
    };
    let text = |key: &str| loaded.text(&own(key)).map(str::to_owned);
    let whole = |key: &str| loaded.number(&own(key)).map(|number| number.max(0.0) as u64);
    // Any certificate will do unless it is to be verified; then against what `lua_ssl_trusted_certificate` names.
    let verify = loaded.flag(&own("pg_ssl_verify"));
    let asked = Asked { verify: Some(verify), roots: if verify { &settings.trusted } else { &[] }, stream: true, ..Asked::default() };
    let tls = loaded.flag(&own("pg_ssl")).then(|| UpstreamConfigs::new().make(asked).config.clone());
    Server {
        host: text("pg_host").unwrap_or(defaults.host),
        port: whole("pg_port").and_then(|port| u16::try_from(port).ok()).unwrap_or(defaults.port),
        user: text("pg_user").unwrap_or(defaults.user),
        password: text("pg_password"),
        database: text("pg_database").unwrap_or(defaults.database),
        schema: text("pg_schema"),
        tls,
        timeout: whole("pg_timeout").filter(|timeout| *timeout > 0).map_or(defaults.timeout, Duration::from_millis),
        pool_size: whole("pg_pool_size").filter(|size| *size > 0).map_or(defaults.pool_size, |size| size as usize),
        backlog: whole("pg_backlog").map(|backlog| backlog as usize),
        idle: whole("pg_keepalive_timeout").map_or(defaults.idle, |idle| (idle > 0).then(|| Duration::from_millis(idle))),
        concurrent: whole("pg_max_concurrent_queries").unwrap_or_default() as usize,
        turn_timeout: whole("pg_semaphore_timeout").map_or(defaults.turn_timeout, Duration::from_millis),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::load::load;
    use super::*;

    #[test]
    fn every_key_reaches_the_store() {
        let file = "pg_host = db.test\npg_port = 6432\npg_user = u\npg_password = p\npg_database = d\npg_schema = s\npg_timeout = 1500\n\
                    pg_ssl = on\npg_pool_size = 3\npg_backlog = 7\npg_keepalive_timeout = 0\npg_max_concurrent_queries = 2\n\
                    pg_semaphore_timeout = 250\ndb_update_frequency = 0.5\ndb_update_propagation = 2\n";
        let settings = settings(&super::super::Settings::new(load(file, [], &[])).unwrap(), Uuid::nil());
        let server = settings.server;
        assert_eq!((server.address().as_str(), server.user.as_str(), server.password.as_deref()), ("db.test:6432", "u", Some("p")));
        assert_eq!((server.database.as_str(), server.schema.as_deref(), server.tls.is_some()), ("d", Some("s"), true));
        assert_eq!((server.pool_size, server.backlog, server.idle, server.concurrent), (3, Some(7), None, 2));
        assert_eq!((server.timeout, server.turn_timeout), (Duration::from_millis(1500), Duration::from_millis(250)));
        assert_eq!((settings.poll_interval, settings.propagation), (Duration::from_millis(500), Duration::from_secs(2)));
        assert!(settings.replica.is_none());
    }

    #[test]
    fn a_replica_is_spoken_with_like_the_server_unless_said_otherwise() {
        let file = "pg_host = db.test\npg_user = u\npg_password = p\npg_ssl = on\npg_pool_size = 3\npg_ro_host = ro.test\npg_ro_user = reader\n\
                    pg_ro_ssl = off\npg_ro_pool_size = 20\n";
        let settings = settings(&super::super::Settings::new(load(file, [], &[])).unwrap(), Uuid::nil());
        let (server, replica) = (settings.server, settings.replica.unwrap());
        assert_eq!((server.address().as_str(), replica.address().as_str()), ("db.test:5432", "ro.test:5432"));
        assert_eq!((replica.user.as_str(), replica.password.as_deref(), replica.tls.is_some()), ("reader", Some("p"), false));
        assert_eq!((server.tls.is_some(), server.pool_size, replica.pool_size), (true, 3, 20));
    }
}

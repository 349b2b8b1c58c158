//! The `pg_*` keys as the store takes them.

use std::sync::Arc;
use std::time::Duration;

use portcullis_store::postgres::{Server, Settings};
use portcullis_wire::tls::UpstreamConfigs;
use uuid::Uuid;

use super::load::Loaded;

/// Where Debian, Red Hat, Alpine and others keep the certificates they trust.
const SYSTEM_CERTIFICATES: [&str; 4] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem", "/etc/ssl/ca-bundle.pem"];

/// How the store of `database=postgres` is used. Errors with one line about what cannot be read.
pub fn settings(loaded: &Loaded, node: Uuid) -> Result<Settings, String> {
    let seconds = |key: &str, default: f64| Duration::try_from_secs_f64(loaded.number(key).unwrap_or(default)).unwrap_or_default();
    Ok(Settings {
        poll_interval: seconds("db_update_frequency", 5.0),
        propagation: seconds("db_update_propagation", 0.0),
        sweep_interval: seconds("_debug_pg_ttl_cleanup_interval", 300.0).max(Duration::from_secs(1)),
        ..Settings::new(server(loaded)?, node)
    })
}

/// The server and how it is spoken with. Errors with one line about what cannot be read.
pub fn server(loaded: &Loaded) -> Result<Server, String> {
    let defaults = Server::default();
    let text = |key: &str| loaded.text(key).map(str::to_owned);
    let whole = |key: &str| loaded.number(key).map(|number| number.max(0.0) as u64);
    // Any certificate will do unless it is to be verified.
    let tls = if loaded.flag("pg_ssl") {
        let verify = loaded.flag("pg_ssl_verify");
        let roots = if verify { trusted(loaded)? } else { Vec::new() };
        let mut config = (*UpstreamConfigs::new().for_service(verify, None, &roots, None).config).clone();
        // What is spoken is not HTTP.
        config.alpn_protocols.clear();
        Some(Arc::new(config))
    } else {
        None
    };
    Ok(Server {
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
    })
}

/// The certificates that `lua_ssl_trusted_certificate` names, as PEM.
fn trusted(loaded: &Loaded) -> Result<Vec<Arc<str>>, String> {
    let mut roots = Vec::new();
    for name in loaded.list("lua_ssl_trusted_certificate") {
        let text = match name {
            "system" => SYSTEM_CERTIFICATES.iter().find_map(|path| std::fs::read_to_string(path).ok()).unwrap_or_default(),
            pem if pem.contains("-----BEGIN") => pem.to_owned(),
            path => std::fs::read_to_string(path).map_err(|error| format!("lua_ssl_trusted_certificate: {path}: {error}"))?,
        };
        roots.push(text.into());
    }
    Ok(roots)
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
        let settings = settings(&load(file, [], &[]).0, Uuid::nil()).unwrap();
        let server = settings.server;
        assert_eq!((server.address().as_str(), server.user.as_str(), server.password.as_deref()), ("db.test:6432", "u", Some("p")));
        assert_eq!((server.database.as_str(), server.schema.as_deref(), server.tls.is_some()), ("d", Some("s"), true));
        assert_eq!((server.pool_size, server.backlog, server.idle, server.concurrent), (3, Some(7), None, 2));
        assert_eq!((server.timeout, server.turn_timeout), (Duration::from_millis(1500), Duration::from_millis(250)));
        assert_eq!((settings.poll_interval, settings.propagation), (Duration::from_millis(500), Duration::from_secs(2)));
    }

    #[test]
    fn a_certificate_that_cannot_be_read_is_named() {
        let file = "pg_ssl = on\npg_ssl_verify = on\nlua_ssl_trusted_certificate = /nowhere/ca.pem\n";
        let problem = server(&load(file, [], &[]).0).err().unwrap();
        assert!(problem.starts_with("lua_ssl_trusted_certificate: /nowhere/ca.pem: "), "{problem}");
    }
}

//! Upstream connections: pooled, closed under our hands, slow, wrong, behind TLS.

use crate::support::{Build, Gateway, run};
use portcullis_wire::PoolSettings;
use portcullis_wire::tls::{UpstreamConfigs, self_signed_default};
use std::time::Duration;

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

#[test]
fn a_pooled_connection_that_closed_is_replaced() {
    run(|| async {
        let gate = Gateway::start().await;
        let mut client = gate.client().await;
        for round in 1..=3 {
            client.send(get("/then-close")).await;
            assert_eq!(client.answer().await.body, b"ok");
            gate.upstream.until(|upstream| upstream.closed.get() == round).await;
        }
        assert_eq!(gate.upstream.connections.get(), 3);
    });
}

#[test]
fn a_connection_that_closes_as_we_reuse_it_costs_nobody_an_answer() {
    run(|| async {
        let gate = Gateway::start().await;
        for _ in 0..5 {
            assert_eq!(gate.ask(get("/refuse-reuse")).await.status, 200);
        }
        assert_eq!(gate.upstream.connections.get(), 5);
        // What may have been done already is not done twice.
        let answer = gate.ask("POST /refuse-reuse HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx").await;
        assert_eq!(answer.status, 502);
        gate.service.outcome("502 upstream closed the connection before its response retry false").await;
    });
}

#[test]
fn an_upstream_that_says_close_is_not_pooled() {
    run(|| async {
        let gate = Gateway::start().await;
        let mut client = gate.client().await;
        for _ in 0..3 {
            client.send(get("/close")).await;
            assert_eq!(client.answer().await.body, b"close");
        }
        assert_eq!((gate.upstream.connections.get(), gate.service.pools.idle()), (3, 0));
    });
}

#[test]
fn pools_keep_to_their_limits() {
    run(|| async {
        let pool = PoolSettings { size: 1, max_requests: 2, idle: Duration::from_secs(60) };
        let gate = Build { pool, ..Build::default() }.start().await;
        for _ in 0..4 {
            gate.ask(get("/1")).await;
        }
        assert_eq!(gate.upstream.connections.get(), 2);
        let (first, second) = tokio::join!(gate.ask(get("/1")), gate.ask(get("/1")));
        assert_eq!((first.status, second.status), (200, 200));
        assert!(gate.service.pools.idle() <= 1);
    });
}

#[test]
fn idle_connections_are_closed_in_time() {
    run(|| async {
        let pool = PoolSettings { idle: Duration::from_millis(1), ..PoolSettings::default() };
        let gate = Build { pool, ..Build::default() }.start().await;
        gate.ask(get("/1")).await;
        gate.upstream.until(|upstream| upstream.closed.get() == 1).await;
        assert_eq!(gate.service.pools.idle(), 0);
    });
}

#[test]
fn wrong_responses_are_no_answers() {
    run(|| async {
        let gate = Gateway::start().await;
        for path in ["/bad", "/two-lengths", "/both", "/big-head", "/drop"] {
            let answer = gate.ask(get(path)).await;
            assert_eq!(answer.status, 502, "{path}");
            assert_eq!(answer.header("connection"), Some("keep-alive"));
        }
        assert_eq!(gate.service.pools.idle(), 0);
    });
}

#[test]
fn a_response_that_breaks_off_breaks_the_clients_too() {
    run(|| async {
        let gate = Gateway::start().await;
        for path in ["/short", "/bad-chunk"] {
            let mut client = gate.client().await;
            client.send(get(path)).await;
            let (status, _) = client.head().await;
            assert_eq!(status, 200, "{path}");
            let mut rest = Vec::new();
            tokio::io::AsyncReadExt::read_to_end(&mut client.stream, &mut rest).await.ok();
            assert!(client.rest.len() + rest.len() < 100);
        }
        gate.service.outcome("relay Err(\"upstream failed within the response").await;
    });
}

#[test]
fn short_timeouts_are_kept() {
    run(|| async {
        let gate = Build { read_timeout: Duration::from_millis(100), ..Build::default() }.start().await;
        let started = std::time::Instant::now();
        assert_eq!(gate.ask(get("/hang")).await.status, 504);
        let took = started.elapsed();
        assert!(took >= Duration::from_millis(100) && took < Duration::from_millis(900), "{took:?}");
        gate.upstream.until(|upstream| upstream.closed.get() == 1).await;
    });
}

#[test]
fn tls_upstreams_are_pooled_too() {
    run(|| async {
        let directory = tempfile_directory("upstream-tls");
        let key = self_signed_default(&directory, "up").unwrap();
        let server = rustls::ServerConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(std::sync::Arc::new(rustls::sign::SingleCertAndKey::from(key)));
        let configs = UpstreamConfigs::new();
        let tls = configs.for_service(false, None, &[], None);
        let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(server));
        let gate = Build { upstream_tls: Some((tls, acceptor)), ..Build::default() }.start().await;
        let mut client = gate.client().await;
        for length in [3usize, 100_000, 5] {
            client.send(get(&format!("/{length}"))).await;
            assert_eq!(client.answer().await.body.len(), length);
        }
        assert_eq!(gate.upstream.connections.get(), 1);
        client.send(get("/until-close")).await;
        assert_eq!(client.answer().await.body, b"until-close-body");
        std::fs::remove_dir_all(directory).unwrap();
    });
}

pub fn tempfile_directory(name: &str) -> std::path::PathBuf {
    let directory = std::env::temp_dir().join(format!("portcullis-wire-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    directory
}

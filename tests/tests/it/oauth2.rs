//! oauth2: tokens given out over TLS by one worker are good at every other one at once, codes are good once.

use std::sync::Barrier;

use portcullis_tests::{Answer, Builder, Gateway, Postgres, Upstream, free_port};
use serde_json::{Value, json};

use crate::postgres_start::{at, bootstrapped};

fn with_oauth2(upstream: &Upstream) -> Gateway {
    on_a_node(Gateway::build().set("nginx_worker_processes", "2").set("trusted_ips", "127.0.0.1"), upstream)
}

fn on_a_node(build: Builder, upstream: &Upstream) -> Gateway {
    let gateway = build.start();
    gateway.lead_to(upstream);
    let admin = gateway.admin();
    admin.post("/consumers", json!({"username": "anna"}));
    let client =
        json!({"name": "app", "client_id": "app", "client_secret": "s", "redirect_uris": ["https://app.test/"], "hash_secret": true});
    admin.post("/consumers/anna/oauth2", client);
    let config = json!({
        "enable_authorization_code": true, "enable_client_credentials": true, "provision_key": "pk",
        "accept_http_if_already_terminated": true, "token_expiration": 60,
    });
    admin.post("/services/up/plugins", json!({"name": "oauth2", "config": config}));
    gateway
}

fn post(gateway: &Gateway, path: &str, form: &str) -> Answer {
    gateway.ask(format!(
        "POST {path} HTTP/1.1\r\nHost: gate.test\r\nX-Forwarded-Proto: https\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\n\r\n{form}",
        form.len()
    ))
}

fn with_token(gateway: &Gateway, token: &Value) -> Answer {
    gateway.ask(format!("GET /echo HTTP/1.1\r\nHost: gate.test\r\nAuthorization: Bearer {}\r\n\r\n", token.as_str().unwrap()))
}

#[test]
fn a_token_is_good_as_soon_as_the_client_has_it_and_until_its_client_is_gone() {
    let upstream = Upstream::start();
    let gateway = with_oauth2(&upstream);
    let mut last = Value::Null;
    for _ in 0..20 {
        let given = post(&gateway, "/oauth2/token", "grant_type=client_credentials&client_id=app&client_secret=s");
        assert_eq!(given.status, 200, "{}", given.text());
        last = given.json()["access_token"].clone();
        let answer = with_token(&gateway, &last);
        assert_eq!((answer.status, &answer.json()["headers"]["x-consumer-username"]), (200, &json!("anna")));
    }
    gateway.admin().delete("/consumers/anna/oauth2/app");
    assert_eq!(with_token(&gateway, &last).status, 401);
}

/// A code that the user agreed to give out, and what asks for a token with it.
fn agreed_code(gateway: &Gateway) -> String {
    let form = "provision_key=pk&client_id=app&response_type=code&authenticated_userid=u";
    let agreed = post(gateway, "/oauth2/authorize", form).json();
    let code = agreed["redirect_uri"].as_str().unwrap().split("code=").nth(1).unwrap().to_owned();
    format!("grant_type=authorization_code&client_id=app&client_secret=s&code={code}")
}

#[test]
fn codes_are_looked_up_in_the_replica_and_in_the_server_while_that_is_away() {
    let server = Postgres::start();
    let database = bootstrapped(&server);
    // The same rows behind another user, who may only read.
    server.run(&database, "CREATE ROLE reader LOGIN");
    server.run(&database, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader");
    let upstream = Upstream::start();
    let build = || at(&server, &database).set("trusted_ips", "127.0.0.1").set("pg_ro_host", "127.0.0.1");
    let gateway = on_a_node(build().set("pg_ro_user", "reader"), &upstream);
    let token = post(&gateway, "/oauth2/token", &agreed_code(&gateway));
    assert_eq!(token.status, 200, "{}", token.text());
    let asked = "SELECT count(*) > 0 FROM pg_stat_activity WHERE usename = 'reader'";
    assert_eq!(server.run(&database, asked), "t");
    // Its failure costs nothing but a line in the log.
    server.run(&database, "REVOKE SELECT ON ALL TABLES IN SCHEMA public FROM reader");
    let token = post(&gateway, "/oauth2/token", &agreed_code(&gateway));
    assert_eq!(token.status, 200, "{}", token.text());
    assert!(gateway.output().contains("the read-only replica does not answer"), "{}", gateway.output());
    drop(gateway);
    let gateway = build().set("pg_ro_port", free_port().to_string()).start();
    let token = post(&gateway, "/oauth2/token", &agreed_code(&gateway));
    assert_eq!(token.status, 200, "{}", token.text());
}

#[test]
fn of_many_who_bring_the_same_code_one_gets_a_token() {
    let upstream = Upstream::start();
    let gateway = with_oauth2(&upstream);
    let form = agreed_code(&gateway);
    let start = Barrier::new(8);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    post(&gateway, "/oauth2/token", &form).status
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 400].contains(status)), "{statuses:?}");
}

#[test]
fn a_wrong_secret_of_a_hashed_client_is_refused() {
    let upstream = Upstream::start();
    let gateway = with_oauth2(&upstream);
    let refused = post(&gateway, "/oauth2/token", "grant_type=client_credentials&client_id=app&client_secret=S");
    assert_eq!((refused.status, &refused.json()["error"]), (400, &json!("invalid_client")));
}

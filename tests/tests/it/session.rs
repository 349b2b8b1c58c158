//! session: cookies that stand for an earlier login, in the cookie and in the database.

use portcullis_tests::{Answer, Gateway, Upstream, eventually};
use serde_json::{Value, json};

/// A gateway that lets anna in by key, everybody else as guest.
fn with_session(upstream: &Upstream, config: Value) -> Gateway {
    let gateway = Gateway::before(upstream);
    let admin = gateway.admin();
    admin.post("/consumers", json!({"username": "anna"}));
    admin.post("/consumers", json!({"username": "guest"}));
    admin.post("/consumers/anna/key-auth", json!({"key": "k"}));
    admin.post("/services/up/plugins", json!({"name": "key-auth", "config": {"anonymous": "guest"}}));
    let mut settings = json!({"secret": "kept in a test", "cookie_secure": false});
    settings.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
    admin.post("/services/up/plugins", json!({"name": "session", "config": settings}));
    gateway
}

fn ask(gateway: &Gateway, line: &str, header: &str) -> Answer {
    gateway.ask(format!("{line} HTTP/1.1\r\nHost: gate.test\r\n{header}\r\n\r\n"))
}

/// Logs in and gives the header that comes back with the cookies.
fn login(gateway: &Gateway) -> String {
    let answer = ask(gateway, "GET /echo", "apikey: k");
    assert_eq!(answer.status, 200);
    let pair = answer.header("set-cookie").unwrap().split(';').next().unwrap();
    format!("Cookie: {pair}")
}

fn who(answer: &Answer) -> Value {
    answer.json()["headers"]["x-consumer-username"].clone()
}

#[test]
fn a_cookie_stands_for_the_login_until_its_consumer_is_gone() {
    let upstream = Upstream::start();
    let gateway = with_session(&upstream, json!({}));
    let cookie = login(&gateway);
    let back = ask(&gateway, "GET /echo", &cookie);
    assert_eq!((who(&back), back.header("set-cookie")), (json!("anna"), None));
    assert_eq!(who(&ask(&gateway, "GET /echo", "Cookie: session=forged")), "guest");
    assert_eq!(ask(&gateway, "GET /echo", "X: y").header("set-cookie"), None);
    gateway.admin().delete("/consumers/anna");
    assert_eq!(who(&ask(&gateway, "GET /echo", &cookie)), "guest");
}

#[test]
fn a_session_in_the_database_ends_with_its_row() {
    let upstream = Upstream::start();
    let gateway = with_session(&upstream, json!({"storage": "kong"}));
    let cookie = login(&gateway);
    assert_eq!(who(&ask(&gateway, "GET /echo", &cookie)), "anna");
    let rows = || gateway.admin().get("/sessions")["data"].as_array().unwrap().clone();
    eventually("the session is kept", || rows().len() == 1);
    assert_eq!(who(&ask(&gateway, "GET /echo", &cookie)), "anna");
    let answer = ask(&gateway, "DELETE /echo?session_logout", &cookie);
    assert_eq!((answer.status, answer.text().as_str()), (200, ""));
    assert!(answer.header("set-cookie").unwrap().contains("Max-Age=0"));
    assert_eq!((rows().len(), who(&ask(&gateway, "GET /echo", &cookie))), (0, json!("guest")));
}

#[test]
fn sessions_run_out() {
    let upstream = Upstream::start();
    let gateway = with_session(&upstream, json!({"absolute_timeout": 1, "response_headers": ["id", "timeout", "subject"]}));
    let answer = ask(&gateway, "GET /echo", "apikey: k");
    assert_eq!((answer.header("session-timeout"), answer.header("session-subject")), (Some("1"), Some("anna")));
    let cookie = format!("Cookie: {}", answer.header("set-cookie").unwrap().split(';').next().unwrap());
    eventually("the session is over", || who(&ask(&gateway, "GET /echo", &cookie)) == "guest");
}

#[test]
fn whoever_is_remembered_comes_back_without_the_first_cookie() {
    let upstream = Upstream::start();
    let gateway = with_session(&upstream, json!({"remember": true}));
    let answer = ask(&gateway, "GET /echo", "apikey: k");
    let cookies: Vec<&str> = answer.head.lines().filter_map(|line| line.strip_prefix("Set-Cookie: ")).collect();
    let lasting = cookies.iter().find(|cookie| cookie.starts_with("remember=")).unwrap();
    assert!(lasting.contains("; Max-Age=604800"), "{lasting}");
    let back = ask(&gateway, "GET /echo", &format!("Cookie: {}", lasting.split(';').next().unwrap()));
    assert_eq!(who(&back), "anna");
    assert!(back.header("set-cookie").unwrap().starts_with("session="));
}

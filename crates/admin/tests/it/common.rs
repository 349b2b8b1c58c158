//! What all endpoints share: headers, verbs, paths.

use serde_json::json;

use crate::kit::Gateway;

#[tokio::test]
async fn every_answer_says_who_gave_it_and_how_long_it_took() {
    let gateway = Gateway::start().await;
    let reply = gateway.get("/services").await.expect(200);
    assert!(reply.header("server").unwrap().starts_with("portcullis/"));
    assert!(reply.header("x-kong-admin-latency").unwrap().parse::<u64>().is_ok());
    assert_eq!(reply.header("content-type"), Some("application/json; charset=utf-8"));
}

#[tokio::test]
async fn any_origin_may_read_answers_unless_the_manager_has_one() {
    let open = Gateway::start().await;
    assert_eq!(open.get("/services").await.header("access-control-allow-origin"), Some("*"));
    let asked = open.raw("GET", "/services", &[("origin", "http://gui.test")], b"").await;
    assert_eq!(asked.header("access-control-allow-origin"), Some("http://gui.test"));
    assert_eq!(asked.header("access-control-allow-credentials"), Some("true"));

    let closed = Gateway::with(|settings| settings.origins = vec!["http://a.test".to_owned(), "http://b.test".to_owned()]).await;
    let known = closed.raw("GET", "/services", &[("origin", "http://b.test")], b"").await;
    assert_eq!(known.header("access-control-allow-origin"), Some("http://b.test"));
    let stranger = closed.raw("GET", "/services", &[("origin", "http://evil.test")], b"").await;
    assert_eq!(stranger.header("access-control-allow-origin"), Some("http://a.test"));
}

#[tokio::test]
async fn options_lists_the_verbs_of_a_path() {
    let gateway = Gateway::start().await;
    for (path, verbs) in [
        ("/services", "GET, HEAD, OPTIONS, POST"),
        ("/services/any", "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"),
        ("/services/any/routes", "GET, HEAD, OPTIONS, POST"),
        ("/routes/any/service", "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"),
        ("/", "GET, HEAD, OPTIONS"),
        ("/upstreams/any/targets/any/healthy", "OPTIONS, PUT"),
        ("/config", "GET, HEAD, OPTIONS, POST"),
        ("/schemas/plugins/validate", "OPTIONS, POST"),
        ("/tags/x", "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"),
    ] {
        let reply = gateway.raw("OPTIONS", path, &[], b"").await.expect(204);
        assert_eq!(reply.header("allow"), Some(verbs), "{path}");
        assert_eq!(reply.header("access-control-allow-methods"), Some(verbs), "{path}");
        assert_eq!(reply.header("access-control-allow-headers"), Some("Content-Type"), "{path}");
    }
    // Only the verbs that read or load the configuration need a node without a database.
    gateway.get("/config").await.expect(400);
    gateway.raw("OPTIONS", "/targets", &[], b"").await.expect(404);
    gateway.raw("OPTIONS", "/certificates/any", &[], b"").await.expect(404);
}

#[tokio::test]
async fn head_answers_like_get_without_a_body() {
    let gateway = Gateway::start().await;
    let reply = gateway.raw("HEAD", "/services", &[], b"").await.expect(200);
    assert_eq!(reply.text, "");
    let length: usize = reply.header("content-length").unwrap().parse().unwrap();
    assert_eq!(length, gateway.get("/services").await.text.len());
    gateway.raw("HEAD", "/services/none", &[], b"").await.expect(404);
}

#[tokio::test]
async fn unknown_paths_and_verbs_are_told_apart() {
    let gateway = Gateway::start().await;
    let missing = gateway.get("/nothing-here").await.expect(404);
    assert_eq!(missing.body, json!({ "message": "Not found" }));
    for path in ["/services/a/b/c/d", "/SERVICES", "/services//", "//services", "/services/./ts", "/targets", "/snis/x/certificate"] {
        gateway.get(path).await.expect(404);
    }
    for (method, path) in [("PUT", "/services"), ("DELETE", "/services"), ("POST", "/services/any"), ("POST", "/"), ("PURGE", "/services")]
    {
        let reply = gateway.raw(method, path, &[], b"").await.expect(405);
        assert_eq!(reply.body, json!({ "message": "Method not allowed" }));
    }
}

#[tokio::test]
async fn one_trailing_slash_does_not_matter() {
    let gateway = Gateway::start().await;
    gateway.post("/services/", json!({ "name": "ts", "host": "t.test" })).await.expect(201);
    gateway.get("/services/ts/").await.expect(200);
    gateway.get("/services/ts//").await.expect(404);
}

#[tokio::test]
async fn names_in_paths_are_decoded_once() {
    let gateway = Gateway::start().await;
    for (name, path) in [("a/b", "a%2Fb"), ("100%", "100%25"), ("q?x=1&y", "q%3Fx=1&y"), ("☃", "%E2%98%83")] {
        gateway.post("/consumers", json!({ "username": name })).await.expect(201);
        assert_eq!(gateway.get(&format!("/consumers/{path}")).await.expect(200).body["username"], name);
    }
    gateway.get("/consumers/100%").await.expect(400);
    gateway.get("/consumers/%FF").await.expect(400);
    // As in a query, a plus is a space.
    gateway.post("/consumers", json!({ "username": "a b" })).await.expect(201);
    gateway.get("/consumers/a+b").await.expect(200);
}

#[tokio::test]
async fn more_than_a_thousand_arguments_are_refused() {
    let gateway = Gateway::start().await;
    let arguments = |count: usize| (0..count).map(|at| format!("a{at}=1")).collect::<Vec<_>>().join("&");
    gateway.get(&format!("/services?{}", arguments(1000))).await.expect(200);
    let refused = gateway.get(&format!("/services?{}", arguments(1001))).await.expect(400);
    assert_eq!(refused.body, json!({ "message": "Too many arguments" }));
    gateway.form("POST", "/services", &arguments(1001)).await.expect(400);
}

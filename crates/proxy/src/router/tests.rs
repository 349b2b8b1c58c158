#![allow(clippy::unwrap_used)]

use super::*;
use portcullis_entities::routes::Flavor;
use proptest::prelude::*;

#[derive(Clone, Debug)]
struct Request {
    method: &'static str,
    path: String,
    host: String,
    sni: Option<&'static str>,
    https: bool,
    headers: Headers,
}

impl Default for Request {
    fn default() -> Self {
        Self { method: "GET", path: "/".into(), host: String::new(), sni: None, https: false, headers: Headers::default() }
    }
}

impl Request {
    fn path(path: &str) -> Self {
        Self { path: path.into(), ..Self::default() }
    }

    fn host(host: &str) -> Self {
        Self { host: host.into(), ..Self::default() }
    }

    fn tls(sni: &'static str) -> Self {
        Self { https: true, sni: Some(sni), ..Self::default() }
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.append(name, value.as_bytes());
        self
    }

    fn query(&self) -> Query<'_> {
        Query {
            method: self.method.as_bytes(),
            path: self.path.as_bytes(),
            host: self.host.as_bytes(),
            https: self.https,
            sni: self.sni,
            port: 8000,
            headers: &self.headers,
            arguments: Some(b"q=1&q=2"),
            client: Client { source: Some(IpAddr::from([10, 0, 0, 1])), source_port: 4000, destination: None },
        }
    }
}

/// What a route of a test asks for; everything else is as the schema has it by default.
#[derive(Clone, Debug, Default)]
struct Conditions {
    id: Uuid,
    methods: Vec<String>,
    hosts: Option<Vec<String>>,
    paths: Vec<String>,
    headers: Vec<(String, Vec<String>)>,
    snis: Vec<String>,
    regex_priority: i64,
    flavor: Flavor,
    protocols: Vec<String>,
    created_at: i64,
    expression: Option<String>,
    priority: u64,
}

impl Conditions {
    fn compile(&self) -> Result<Route, InvalidRoute> {
        let protocols = if self.protocols.is_empty() { texts(&["http", "https"]) } else { self.protocols.clone() };
        let headers: std::collections::BTreeMap<_, _> = self.headers.iter().cloned().collect();
        let entity = serde_json::from_value(serde_json::json!({
            "id": self.id, "protocols": protocols, "created_at": self.created_at,
            "expression": self.expression, "priority": self.priority, "https_redirect_status_code": 426, "strip_path": true,
            "preserve_host": false, "request_buffering": true, "response_buffering": true, "methods": self.methods,
            "hosts": self.hosts, "paths": self.paths, "headers": headers, "snis": self.snis,
            "regex_priority": self.regex_priority,
        }));
        Route::compile_for(Arc::new(entity.unwrap()), self.flavor)
    }
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| text.to_string()).collect()
}

/// A route whose id is `number`; the greater number has the greater id.
fn route(number: u128) -> Conditions {
    Conditions { id: Uuid::from_u128(number), ..Conditions::default() }
}

fn paths(number: u128, paths: &[&str]) -> Conditions {
    Conditions { paths: texts(paths), ..route(number) }
}

fn hosts(number: u128, hosts: &[&str]) -> Conditions {
    Conditions { hosts: Some(texts(hosts)), ..route(number) }
}

fn headers(conditions: Conditions, headers: &[(&str, &[&str])]) -> Conditions {
    Conditions { headers: headers.iter().map(|(name, values)| (name.to_string(), texts(values))).collect(), ..conditions }
}

fn router(routes: &[Conditions]) -> Router {
    let mut router = Router::default();
    for conditions in routes {
        router.insert(Arc::new(conditions.compile().unwrap()));
    }
    router
}

/// Which route answers, and how much of the path it took; 0 if none does.
fn answer(router: &Router, request: &Request) -> (u128, Option<usize>) {
    router.find(&request.query()).map_or((0, None), |found| (found.route.id.as_u128(), found.prefix_len))
}

fn who(router: &Router, request: &Request) -> u128 {
    answer(router, request).0
}

#[test]
fn the_longest_plain_path_wins() {
    let router = router(&[paths(3, &["/api"]), paths(2, &["/api/v1"]), paths(1, &["/api/v1/users"])]);
    assert_eq!(answer(&router, &Request::path("/api/v")), (3, Some(4)));
    assert_eq!(answer(&router, &Request::path("/api/v1/user")), (2, Some(7)));
    assert_eq!(answer(&router, &Request::path("/api/v1/usersgroup")), (1, Some(13)));
    assert_eq!(who(&router, &Request::path("/ap")), 0);
}

#[test]
fn each_path_of_a_route_competes_with_its_own_length() {
    let router = router(&[paths(1, &["/m", "/m/long/one"]), paths(2, &["/m/long"])]);
    assert_eq!(answer(&router, &Request::path("/m/other")), (1, Some(2)));
    assert_eq!(who(&router, &Request::path("/m/long/two")), 2);
    assert_eq!(who(&router, &Request::path("/m/long/one/x")), 1);
}

#[test]
fn regex_paths_are_tied_to_the_start_and_go_before_plain_ones() {
    let router = router(&[paths(1, &["~/z/\\d+", "/z/a", "~/q/(?<n>\\d+)$"]), paths(2, &["/z/1", "/z/ab", "/q"])]);
    assert_eq!(answer(&router, &Request::path("/z/12/x")), (1, Some(5)));
    assert_eq!(who(&router, &Request::path("/z/abc")), 2);
    assert_eq!(who(&router, &Request::path("/x/z/1")), 0);
    let request = Request::path("/q/57");
    let found = router.find(&request.query()).unwrap();
    let captures = found.captures.unwrap();
    assert_eq!((captures.get("n"), captures.get("1"), captures.get("0")), (Some("57"), Some("57"), Some("/q/57")));
    assert_eq!(captures.get("2"), None);
    assert_eq!(who(&router, &Request::path("/q/5/x")), 2);
}

#[test]
fn an_alternative_of_a_regex_path_may_match_anywhere_and_cuts_from_the_front() {
    let router = router(&[paths(1, &["~/data/.+/long|/data"])]);
    assert_eq!(answer(&router, &Request::path("/data/-")), (1, Some(5)));
    assert_eq!(answer(&router, &Request::path("/x/data")), (1, Some(5)));
}

#[test]
fn equal_routes_are_told_apart_by_the_greater_id() {
    let router = router(&[paths(7, &["/tie"]), paths(2, &["/tie"]), paths(1, &["~/tie/[a-z]+/.*"]), paths(9, &["~/tie/"])]);
    assert_eq!(who(&router, &Request::path("/tie")), 7);
    assert_eq!(who(&router, &Request::path("/tie/a/1")), 9);
}

#[test]
fn hosts_compare_by_case_and_without_the_port_unless_they_name_one() {
    let router = router(&[hosts(1, &["shop.test", "*.two.test", "three.*", "four.test:4444", "*.five.test:5"])]);
    for host in ["shop.test", "shop.test:8080", "a.b.two.test:1", "three.", "three.x.y", "four.test:4444", "a.five.test:5"] {
        assert_eq!(who(&router, &Request::host(host)), 1, "{host}");
    }
    for host in ["Shop.test", "shop.test.", "a.shop.test", "two.test", "three", "threes.x", "four.test", "a.five.test:6", "shop.test:", ""]
    {
        assert_eq!(who(&router, &Request::host(host)), 0, "{host}");
    }
}

#[test]
fn the_listener_port_stands_in_for_a_missing_one() {
    let router = router(&[hosts(1, &["a.test:8000"])]);
    assert_eq!(who(&router, &Request::host("a.test")), 1);
    assert_eq!(who(&router, &Request::host("a.test:8001")), 0);
}

#[test]
fn plain_hosts_go_before_paths_and_wildcards_do_not() {
    let path = paths(9, &["/long/long/path"]);
    let both = Request { host: "p.test".into(), ..Request::path("/long/long/path") };
    assert_eq!(who(&router(&[path.clone(), hosts(1, &["p.test"])]), &both), 1);
    assert_eq!(who(&router(&[path, hosts(1, &["p.*"])]), &both), 9);
}

#[test]
fn wildcards_of_any_kind_and_length_are_equals() {
    let request = Request::host("a.b.tie.test");
    assert_eq!(who(&router(&[hosts(2, &["*.tie.test"]), hosts(1, &["*.b.tie.test"])]), &request), 2);
    assert_eq!(who(&router(&[hosts(2, &["*.tie.test"]), hosts(3, &["a.b.*"])]), &request), 3);
}

#[test]
fn a_regex_path_goes_before_plain_paths_with_more_conditions() {
    let regex = paths(1, &["~/re"]);
    let more = headers(Conditions { methods: texts(&["GET"]), ..paths(9, &["/re/a/long/path"]) }, &[("a", &["1"])]);
    let request = Request::path("/re/a/long/path").with("a", "1");
    assert_eq!(who(&router(&[regex.clone(), more]), &request), 1);
    let two_headers = headers(paths(9, &["/re"]), &[("a", &["1"]), ("b", &["1"])]);
    assert_eq!(who(&router(&[headers(regex, &[("a", &["1"])]), two_headers]), &request.with("b", "1")), 1);
}

#[test]
fn header_values_compare_without_case_and_dashes_are_underscores() {
    let router = router(&[headers(paths(1, &["/h"]), &[("X-Version", &["v1", "V2"])])]);
    for (name, value) in [("X-Version", "v1"), ("x-version", "V1"), ("X-Version", "v2"), ("X_Version", "v1")] {
        assert_eq!(who(&router, &Request::path("/h").with(name, value)), 1, "{name}: {value}");
    }
    for value in ["v3", "v11", "", "v3,v1"] {
        assert_eq!(who(&router, &Request::path("/h").with("X-Version", value)), 0, "{value}");
    }
    assert_eq!(who(&router, &Request::path("/h").with("X-Version", "v3").with("x-version", "v1")), 1);
}

#[test]
fn a_header_value_may_be_a_regex() {
    let router = router(&[headers(route(1), &[("x", &["~*^V\\d+$"])])]);
    assert_eq!(who(&router, &Request::default().with("X", "v12")), 1);
    assert_eq!(who(&router, &Request::default().with("X", "v12a")), 0);
}

#[test]
fn all_headers_must_match_and_more_of_them_go_first() {
    let router = router(&[
        headers(paths(1, &["/h"]), &[("a", &["1"])]),
        headers(paths(2, &["/h"]), &[("a", &["1"]), ("b", &["2", "22"])]),
        paths(9, &["/h/much/longer"]),
    ]);
    assert_eq!(who(&router, &Request::path("/h/x").with("a", "1")), 1);
    assert_eq!(who(&router, &Request::path("/h/x").with("a", "1").with("b", "22")), 2);
    assert_eq!(who(&router, &Request::path("/h/x").with("b", "2")), 0);
    assert_eq!(who(&router, &Request::path("/h/much/longer").with("a", "1")), 1);
    assert_eq!(who(&router, &Request::path("/h/much/longer")), 9);
}

#[test]
fn snis_count_on_tls_connections_only() {
    let snis = Conditions { snis: texts(&["a.test.", "*.many.test", "pre.*"]), ..route(1) };
    let router = router(&[snis]);
    for sni in ["a.test", "one.two.many.test", "pre.fix"] {
        assert_eq!(who(&router, &Request::tls(sni)), 1, "{sni}");
    }
    assert_eq!(who(&router, &Request::tls("many.test")), 0);
    assert_eq!(who(&router, &Request { https: true, ..Request::default() }), 0);
    assert_eq!(who(&router, &Request::default()), 1);
}

#[test]
fn methods_are_taken_as_they_are() {
    let router = router(&[Conditions { methods: texts(&["GET", "PURGE"]), ..route(1) }]);
    assert_eq!(who(&router, &Request { method: "PURGE", ..Request::default() }), 1);
    assert_eq!(who(&router, &Request { method: "HEAD", ..Request::default() }), 0);
}

#[test]
fn a_path_that_is_not_utf8_matches_nothing() {
    let router = router(&[paths(1, &["/"])]);
    let request = Request::default();
    assert!(router.find(&Query { path: b"/\xff", ..request.query() }).is_none());
}

#[test]
fn an_earlier_clone_keeps_its_routes() {
    let mut router = router(&[paths(1, &["/a"]), paths(2, &["/a/b"])]);
    let before = router.clone();
    assert!(router.remove(Uuid::from_u128(2)));
    router.insert(Arc::new(paths(1, &["/c"]).compile().unwrap()));
    assert_eq!(who(&before, &Request::path("/a/b")), 2);
    assert_eq!((who(&router, &Request::path("/a/b")), who(&router, &Request::path("/c"))), (0, 1));
    assert_eq!((router.len(), before.len()), (1, 2));
}

#[test]
fn a_route_of_very_many_hosts_and_paths_is_still_found() {
    let many_hosts: Vec<String> = (0..400).map(|number| format!("h{number}.test")).collect();
    let many_paths: Vec<String> = (0..100).map(|number| format!("/p{number}")).collect();
    let mut router = Router::default();
    let conditions = Conditions { hosts: Some(many_hosts), paths: many_paths, ..route(1) };
    router.insert(Arc::new(conditions.compile().unwrap()));
    assert_eq!(answer(&router, &Request { host: "h399.test".into(), ..Request::path("/p99/x") }), (1, Some(4)));
    assert_eq!(who(&router, &Request { host: "h400.test".into(), ..Request::path("/p99/x") }), 0);
}

#[test]
fn a_broken_regex_is_told() {
    assert!(matches!(paths(1, &["~/open(group"]).compile(), Err(InvalidRoute::Path { .. })));
    assert!(matches!(headers(route(1), &[("x", &["~*("])]).compile(), Err(InvalidRoute::Header { .. })));
}

fn expression(number: u128, text: &str, priority: u64) -> Conditions {
    Conditions { expression: Some(text.into()), priority, flavor: Flavor::Expressions, ..route(number) }
}

fn traditional(conditions: Conditions) -> Conditions {
    Conditions { flavor: Flavor::Traditional, ..conditions }
}

#[test]
fn expressions_are_found_wherever_the_index_keeps_them() {
    let router = router(&[
        expression(1, r#"http.path ^= "/p/longer" && http.method == "GET""#, 10),
        expression(2, r#"http.path ^= "/p""#, 20),
        expression(3, r#"http.host == "a.test" || http.host =^ ".b.test""#, 5),
        expression(4, r#"http.path =^ ".end" || http.method == "PURGE""#, 1),
        expression(5, r#"http.path ~ "^/re/(?P<n>[0-9]+)" && lower(http.host) != "x""#, 1),
        Conditions { flavor: Flavor::Expressions, ..paths(6, &["/p/longer/than/any"]) },
    ]);
    assert_eq!(answer(&router, &Request::path("/p/longer/x")), (2, Some(2)));
    assert_eq!(answer(&router, &Request::path("/p/longer/than/any")), (2, Some(2)));
    assert_eq!(who(&router, &Request::host("a.test")), 3);
    assert_eq!(who(&router, &Request::host("x.y.b.test:9")), 3);
    assert_eq!(answer(&router, &Request::path("/file.end")), (4, Some(4)));
    let request = Request::path("/re/42/x");
    let found = router.find(&request.query()).unwrap();
    assert_eq!((found.prefix_len, found.captures.unwrap().get("n")), (Some(6), Some("42")));
    assert_eq!(router.find(&Request::path("/file.end").query()).unwrap().prefix_start, 5);
}

#[test]
fn equal_priorities_of_expressions_fall_to_the_greater_id() {
    let router = router(&[expression(2, r#"http.path ^= "/tie""#, 5), expression(7, r#"http.path ^= "/t""#, 5)]);
    assert_eq!(who(&router, &Request::path("/tie")), 7);
}

#[test]
fn protocols_limit_routes_of_the_expressions_flavour_unless_they_are_tls_alone() {
    let only = |protocol: &str| Conditions { protocols: texts(&[protocol]), ..expression(1, r#"http.path ^= "/""#, 0) };
    let tls = Request { https: true, ..Request::default() };
    for (protocol, plain, secure) in [("http", 1, 0), ("https", 1, 1), ("grpc", 1, 0), ("grpcs", 0, 1)] {
        let router = router(&[only(protocol)]);
        assert_eq!((who(&router, &Request::default()), who(&router, &tls)), (plain, secure), "{protocol}");
    }
}

#[test]
fn the_traditional_flavour_counts_kinds_then_ranks_them() {
    let router = router(&[
        traditional(paths(1, &["/x/very/long/path"])),
        traditional(Conditions { paths: texts(&["/x"]), ..hosts(2, &["a.test"]) }),
        traditional(Conditions { methods: texts(&["GET"]), ..route(3) }),
        traditional(hosts(4, &["a.test"])),
        traditional(headers(route(5), &[("x-a", &["one"])])),
        traditional(Conditions { methods: texts(&["GET"]), ..hosts(6, &["a.test"]) }),
    ]);
    let at = |host: &str, path: &str| Request { host: host.into(), ..Request::path(path) };
    assert_eq!(who(&router, &at("a.test", "/x/very/long/path")), 2);
    assert_eq!(who(&router, &at("b.test", "/x/very/long/path")), 1);
    assert_eq!(who(&router, &at("a.test", "/y")), 6);
    assert_eq!(who(&router, &at("b.test", "/x/very/long/path").with("x-a", "ONE")), 5);
    assert_eq!(who(&router, &at("b.test", "/y")), 3);
}

#[test]
fn hosts_with_ports_go_first_in_the_traditional_flavour_and_the_older_of_equals() {
    let at = |number: u128, host: &str, created_at: i64| traditional(Conditions { created_at, ..hosts(number, &[host]) });
    let router = router(&[
        at(9, "p.test", 1),
        at(2, "p.test:81", 5),
        at(3, "*.w.test", 1),
        at(4, "*.w.test:81", 5),
        at(5, "t.test", 7),
        at(6, "t.test", 6),
        at(7, "*.d.test:80", 5),
        at(8, "*.d.test:8000", 5),
    ]);
    // A host without a port is one of the protocol's port, whatever the listener's is.
    for (host, expected) in [
        ("a.d.test", 7),
        ("a.d.test:8000", 8),
        ("p.test:81", 2),
        ("p.test:82", 9),
        ("p.test", 9),
        ("a.w.test:81", 4),
        ("a.w.test", 3),
        ("t.test", 6),
    ] {
        assert_eq!(who(&router, &Request::host(host)), expected, "{host}");
    }
}

#[test]
fn regexes_of_the_traditional_flavour_may_look_around_and_are_anchored_as_a_whole() {
    let router = router(&[
        traditional(paths(1, &["~/ahead/(?!secret)[a-z]+$"])),
        traditional(paths(2, &["~/again/([a-z]+)/\\1$"])),
        traditional(paths(3, &["~/a1|/b1"])),
        traditional(paths(4, &["~/named/(?<who>[a-z]+)"])),
    ]);
    for (path, expected) in [("/ahead/open", 1), ("/ahead/secret", 0), ("/again/x/x", 2), ("/again/x/y", 0), ("/b1", 3), ("/x/b1", 0)] {
        assert_eq!(who(&router, &Request::path(path)), expected, "{path}");
    }
    let request = Request::path("/named/ann");
    assert_eq!(router.find(&request.query()).unwrap().captures.unwrap().get("who"), Some("ann"));
    assert!(paths(1, &["~/(?!x)"]).compile().is_err());
}

fn some_of(choices: &'static [&'static str], most: usize) -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(prop::sample::select(choices), 0..=most).prop_map(|list| {
        let mut list: Vec<String> = list.into_iter().map(str::to_owned).collect();
        list.sort();
        list.dedup();
        list
    })
}

const HOSTS: &[&str] = &["a.test", "b.a.test", "*.a.test", "*.test", "a.*", "b.a.*", "a.test:81", "*.test:81", "a.test:82", "*.test:82"];
const PATHS: &[&str] = &["/", "/a", "/a/b", "/ab", "/a/bc", "~/a", "~/a/[a-z]+", "~/[ab]/b$", "~/x|/b", "~/(a|b)/", "~/a/b/(?<n>.*)"];
const VALUES: &[&str] = &["1", "2", "One", "~*^o"];

fn any_conditions() -> impl Strategy<Value = Conditions> {
    let header = |name: &'static str| {
        some_of(VALUES, 2).prop_map(move |values| if values.is_empty() { None } else { Some((name.to_owned(), values)) })
    };
    (
        (some_of(&["GET", "POST", "PURGE"], 2), prop::option::of(some_of(HOSTS, 3)), some_of(PATHS, 4)),
        (header("X-A"), header("x-b"), some_of(&["s.test", "t.test", "*.test"], 2), 0i64..3),
        (any::<bool>(), any::<bool>(), any::<bool>()),
        (prop::option::weighted(0.3, any_expression(2)), 0u64..4, some_of(&["http", "https"], 2)),
    )
        .prop_map(|((methods, hosts, paths), (first, second, snis, regex_priority), (no_methods, no_headers, no_snis), more)| {
            Conditions {
                expression: more.0,
                priority: more.1,
                protocols: more.2,
                methods: if no_methods { Vec::new() } else { methods },
                headers: if no_headers { Vec::new() } else { first.into_iter().chain(second).collect() },
                snis: if no_snis { Vec::new() } else { snis },
                hosts,
                paths,
                regex_priority,
                ..Conditions::default()
            }
        })
}

const COMPARISONS: &[&str] = &[
    r#"http.path ^= "/a""#,
    r#"http.path == "/a/b""#,
    r#"http.path ~ "^/(a|b)/""#,
    r#"http.path ~ "b$""#,
    r#"http.path =^ "/b""#,
    r#"http.path ^= "/ab""#,
    r#"http.path contains "c""#,
    r#"lower(http.host) == "a.test""#,
    r#"http.host == "a.test""#,
    r#"http.host =^ ".a.test""#,
    r#"http.host ^= "a.""#,
    r#"http.host != "c.test""#,
    r#"http.method == "GET""#,
    r#"any(http.headers.x_a) == "1""#,
    r#"lower(http.headers.x_b) ~ "^o""#,
    r#"http.path.segments.1 == "b""#,
    r#"http.queries.q == "1""#,
    r#"any(http.queries.q) == "2""#,
    "net.dst.port == 81",
    "net.src.ip in 10.0.0.0/8",
    r#"net.protocol == "https""#,
    r#"tls.sni =^ ".test""#,
];

fn any_expression(depth: u32) -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(COMPARISONS).prop_map(str::to_owned);
    leaf.prop_recursive(depth, 8, 3, |inner| {
        let chain =
            |sign: &'static str| prop::collection::vec(inner.clone(), 1..4).prop_map(move |parts| format!("({})", parts.join(sign)));
        prop_oneof![chain(" && "), chain(" || "), inner.clone().prop_map(|text| format!("!({text})"))]
    })
}

fn any_request() -> impl Strategy<Value = Request> {
    let choice = |choices: &'static [&'static str]| prop::sample::select(choices);
    (
        choice(&["GET", "POST", "PUT"]),
        choice(&["/", "/a", "/a/", "/a/b", "/a/bcd", "/ab", "/b/b", "/x", "/a/b/c", "/c/b"]),
        choice(&["a.test", "b.a.test", "c.test", "a.test:81", "c.b.a.test:81", "x.test:82", "a.test:82", "a.x", "", "b.a.x:9"]),
        prop::option::of(choice(&["s.test", "u.test", "other"])),
        any::<bool>(),
        prop::collection::vec((choice(&["X-A", "x_a", "X-B", "Accept"]), choice(&["1", "2", "one", "oh", "x"])), 0..4),
    )
        .prop_map(|(method, path, host, sni, https, lines)| {
            let request = Request { method, path: path.into(), host: host.into(), sni, https, headers: Headers::default() };
            lines.into_iter().fold(request, |request, (name, value)| request.with(name, value))
        })
}

proptest! {
    // PROPTEST_CASES=10000 for a thorough run.
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(400), ..ProptestConfig::default() })]

    #[test]
    fn the_index_and_the_plain_rules_agree(
        mut routes in prop::collection::vec(any_conditions(), 1..40),
        gone in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
        requests in prop::collection::vec(any_request(), 1..30),
        flavor in prop::sample::select(vec![Flavor::TraditionalCompatible, Flavor::Traditional, Flavor::Expressions]),
    ) {
        let mut router = Router::default();
        for (number, conditions) in routes.iter_mut().enumerate() {
            conditions.flavor = flavor;
            conditions.created_at = number as i64 % 3;
            // Ids neither in the order of the list nor against it.
            conditions.id = Uuid::from_u128((number as u128 * 7919) % 101 + 1);
            router.insert(Arc::new(conditions.compile().unwrap()));
        }
        for index in gone {
            if routes.len() > 1 {
                let conditions = routes.remove(index.index(routes.len()));
                prop_assert!(router.remove(conditions.id));
            }
        }
        let compiled: Vec<Route> = routes.iter().map(|conditions| conditions.compile().unwrap()).collect();
        for request in &requests {
            let expected = reference::find(&compiled, &request.query()).map_or((0, None), |(route, prefix)| (route.id.as_u128(), prefix));
            prop_assert_eq!(answer(&router, request), expected, "{:?}", request);
        }
    }
}
